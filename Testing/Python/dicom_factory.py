"""Small synthetic DICOM series for tests, with every identifying field filled in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
SHAPE = (8, 32, 32)

IDENTITY = {
    "PatientName": "Zzyzxmann^Wilhelmina",
    "PatientID": "PAT-7719304",
    "PatientBirthDate": "19470213",
    "InstitutionName": "Klinikum Xylophonstadt",
    "AccessionNumber": "ACC-5550123",
    "ReferringPhysicianName": "Quacksalber^Otto",
    "StudyDescription": "Abdomen Zzyzxmann",
    "StudyID": "SID-88231",
    "DeviceSerialNumber": "SER-40417",
}


def body(shape: tuple[int, int, int] = SHAPE) -> NDArray[np.int16]:
    """Return a small body in air with a value of its own in every slice, (Z, Y, X), HU."""
    array = np.full(shape, -1000, dtype=np.int16)
    array[:, 6:-6, 6:-6] = -100
    array[:, 10:-10, 10:-10] = 50 + np.arange(shape[0])[:, None, None]
    return array


@dataclass(frozen=True)
class SeriesSpec:
    """What a synthetic series is like; the defaults make an axial series of 8 slices every 3 mm."""

    description: str = "Leber portalvenoes 3.0"
    protocol: str = "Abdomen"
    hu: NDArray[np.int16] = field(default_factory=body)
    time: str = "101112"
    date: str = "20190807"
    patient: str = IDENTITY["PatientID"]
    study_uid: str = "1.2.826.0.1.3680043.8.498.77777777777"
    series_uid: str = field(default_factory=generate_uid)
    number: int = 1
    origin_mm: tuple[float, float, float] = (-40.0, -30.0, 100.0)
    orientation: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    pixel_mm: tuple[float, float] = (2.0, 1.5)
    step_mm: tuple[float, float, float] | None = None
    acquisition: int = 1
    slope: float = 1.0
    intercept: float = -1024.0
    tags: dict[str, object] = field(default_factory=dict)

    def with_(self, **changes: object) -> SeriesSpec:
        return replace(self, **changes)

    @property
    def step(self) -> NDArray[np.float64]:
        normal = np.cross(self.orientation[:3], self.orientation[3:])
        return np.array(self.step_mm) if self.step_mm else 3.0 * normal


def write_series(folder: Path, spec: SeriesSpec, *, skip: tuple[int, ...] = (), prefix: str = "IM") -> list[Path]:
    """Write one file per slice, without extension and in scrambled order; return them in order of position."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for index in range(len(spec.hu)):
        if index not in skip:
            scrambled = (index * 5 + 3) % 97
            files.append(write_dataset(folder / f"{prefix}{spec.number}_{scrambled:04d}", slice_dataset(spec, index)))
    return files


def slice_dataset(spec: SeriesSpec, index: int) -> Dataset:
    """Return one classic CT slice with pixels."""
    dataset = _common(spec, CT)
    dataset.InstanceNumber = index + 1
    dataset.ImagePositionPatient = [float(v) for v in np.array(spec.origin_mm) + index * spec.step]
    dataset.ImageOrientationPatient = list(spec.orientation)
    dataset.PixelSpacing = list(spec.pixel_mm)
    dataset.RescaleSlope, dataset.RescaleIntercept = spec.slope, spec.intercept
    _set_pixels(dataset, np.rint((spec.hu[index] - spec.intercept) / spec.slope).astype(np.int16))
    for name, value in spec.tags.items():
        setattr(dataset, name, value)
    return dataset


def enhanced_dataset(spec: SeriesSpec, *, reverse: bool = True) -> Dataset:
    """Return one multi-frame file; frames lie in reverse order and each has an intercept of its own."""
    dataset = _common(spec, ENHANCED_CT)
    order = range(len(spec.hu))[::-1] if reverse else range(len(spec.hu))
    dataset.NumberOfFrames = len(spec.hu)
    dataset.SharedFunctionalGroupsSequence = [
        _group(
            PlaneOrientationSequence={"ImageOrientationPatient": list(spec.orientation)},
            PixelMeasuresSequence={"PixelSpacing": list(spec.pixel_mm), "SliceThickness": 3.0},
        )
    ]
    dataset.PerFrameFunctionalGroupsSequence = [
        _group(
            PlanePositionSequence={
                "ImagePositionPatient": [float(v) for v in np.array(spec.origin_mm) + index * spec.step]
            },
            PixelValueTransformationSequence={
                "RescaleSlope": 1.0,
                "RescaleIntercept": spec.intercept - 10.0 * index,
                "RescaleType": "HU",
            },
        )
        for index in order
    ]
    frames = [spec.hu[index] - int(spec.intercept - 10 * index) for index in order]
    _set_pixels(dataset, np.stack(frames).astype(np.int16))
    return dataset


def other_dataset(modality: str, sop_class: str) -> Dataset:
    """Return a DICOM object without pixels, such as a report or a segmentation."""
    dataset = _common(SeriesSpec(), sop_class)
    dataset.Modality = modality
    return dataset


def write_dataset(path: Path, dataset: Dataset) -> Path:
    """Write a data set as a DICOM file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _common(spec: SeriesSpec, sop_class: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid()
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    for name, value in IDENTITY.items():
        setattr(dataset, name, value)
    dataset.PatientID = spec.patient
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = spec.study_uid, spec.series_uid
    dataset.FrameOfReferenceUID = spec.study_uid + ".1"
    dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SeriesDescription, dataset.ProtocolName = spec.description, spec.protocol
    dataset.SeriesNumber, dataset.AcquisitionNumber = spec.number, spec.acquisition
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = spec.date
    dataset.AcquisitionTime = dataset.ContentTime = dataset.SeriesTime = spec.time
    dataset.ContrastBolusAgent = "Iomeprol"
    return dataset


def _set_pixels(dataset: Dataset, stored: NDArray[np.int16]) -> None:
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 15, 1, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = stored.tobytes()


def _group(**sequences: dict[str, object]) -> Dataset:
    group = Dataset()
    for name, values in sequences.items():
        item = Dataset()
        for key, value in values.items():
            setattr(item, key, value)
        setattr(group, name, [item])
    return group
