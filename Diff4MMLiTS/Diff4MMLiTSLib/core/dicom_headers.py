"""Headers of DICOM files: which are slices of a CT, and what is needed to stack them; identifiers stay inside.

Classic CT (one slice a file) and enhanced CT (many frames a file, functional groups) become the same ``Slice``.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

CT_CLASSES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
"""SOP classes CT Image, Enhanced CT Image, Legacy Converted Enhanced CT Image (DICOM PS3.6)."""
DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
PROJECTIONS = {"MIP", "MNIP", "MINIP", "AVERAGE", "PROJECTION IMAGE", "VOLUME RENDERED", "MAXIMUM INTENSITY PROJECTION"}
logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its warnings quote header values

_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientID",
    "PatientName",
    "Modality",
    "ImageType",
    "SeriesDescription",
    "ProtocolName",
    "SeriesNumber",
    "InstanceNumber",
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "AcquisitionDateTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "ContentDate",
    "ContentTime",
    "SeriesDate",
    "SeriesTime",
    "ContrastBolusAgent",
    "ContrastBolusVolume",
    "ContrastBolusStartTime",
    "ContrastBolusAgentSequence",
    "ConvolutionKernel",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "PixelPaddingValue",
    "RescaleSlope",
    "RescaleIntercept",
    "LossyImageCompression",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]


class Skipped(StrEnum):
    """Why a file is not used, in words for the report."""

    UNRELATED = "not DICOM"
    DIRECTORY = "DICOMDIR index files, which are not needed"
    OTHER = "DICOM but not CT slices (reports, segmentations, plans, other modalities)"
    LOCALIZER = "localizers"
    PROJECTION = "projections or renderings"
    DAMAGED = "damaged, or CT without position or rescale values"


@dataclass(frozen=True)
class Header:
    """What all slices of one file share.

    Args:
        file: Where the pixels are.
        patient_key: Tells patients apart; an identifier, never shown.
        exam_key: Tells examinations apart; an identifier, never shown.
        series_key: Tells series apart; an identifier, never shown.
        description: The series' text; may hold names, never shown.
        protocol: The protocol's text; may hold names, never shown.
        series_number: The scanner's number of the series, for a stable order.
        has_contrast: Whether a contrast agent is noted.
        injection_s: Start of the injection on the clock of ``Slice.time_s``, if noted.
        is_sharp: Whether the kernel is a bone or lung kernel.
        is_lossy: Whether the pixels went through lossy compression.
        stored_rescale: Slope and intercept of the file's first frame, which the decoder applies to all frames.
        inverted_sum: What a stored value and its inverse add up to when the file is MONOCHROME1, else None.
        padding: Stored value that marks voxels outside the scan, if there is one.
    """

    file: Path = field(repr=False)
    patient_key: str = field(repr=False)
    exam_key: str = field(repr=False)
    series_key: str = field(repr=False)
    description: str = field(repr=False)
    protocol: str = field(repr=False)
    series_number: int
    has_contrast: bool
    injection_s: float | None = field(repr=False)
    is_sharp: bool
    is_lossy: bool
    stored_rescale: tuple[float, float]
    inverted_sum: int | None
    padding: int | None


@dataclass(frozen=True)
class Slice:
    """One CT slice.

    Args:
        header: What it shares with the other slices of its file.
        frame: Its index in the file.
        key: Tells copies of the same slice; an identifier, never shown.
        position_mm: Center of its first pixel, LPS.
        orientation: World directions of its rows and of its columns.
        spacing_mm: Pixel distance along x, y.
        size: Pixels along x, y.
        rescale: Slope and intercept from stored values to HU.
        time_s: When it was acquired, on an absolute clock; None when not noted.
        temporal_position: Number of its time point in a dynamic series, or "".
        acquisition: The scanner's acquisition number, or "".
        instance: Number within the series.
    """

    header: Header
    frame: int
    key: str = field(repr=False)
    position_mm: tuple[float, float, float]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, float]
    size: tuple[int, int]
    rescale: tuple[float, float]
    time_s: float | None = field(repr=False)
    temporal_position: str
    acquisition: str
    instance: int


def read_slices(file: Path) -> tuple[Slice, ...] | Skipped:
    """Return the CT slices in a file, or why there is none; pixels are not read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote header values
        try:
            with file.open("rb") as stream:
                dataset = _read_dataset(stream)
                pixel_bytes = file.stat().st_size - stream.tell()
            if dataset is None:
                return Skipped.UNRELATED
            return _reason_to_skip(dataset, pixel_bytes) or _slices(dataset, file)
        except Exception:  # pydicom raises every kind on broken headers; one broken file must not stop the others
            return Skipped.DAMAGED


def _read_dataset(stream: BinaryIO) -> Dataset | None:
    """Return the header, with the stream left where the pixels begin; None when the file is not DICOM."""
    try:
        return pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=_TAGS)
    except InvalidDicomError:
        stream.seek(0)
        begins_like_dicom = stream.read(2) in (b"\x08\x00", b"\x02\x00")  # group 0008 or 0002, without the preamble
        stream.seek(0)
        return (
            pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=_TAGS, force=True)
            if begins_like_dicom
            else None
        )


def _reason_to_skip(dataset: Dataset, pixel_bytes: int) -> Skipped | None:
    kind = str(dataset.get("SOPClassUID", "") or dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    words = {str(word).upper() for word in dataset.get("ImageType", None) or ()}
    if kind == DIRECTORY_CLASS:
        return Skipped.DIRECTORY
    if kind not in CT_CLASSES or dataset.get("Modality") != "CT" or int(dataset.get("SamplesPerPixel", 1)) != 1:
        return Skipped.OTHER
    if "LOCALIZER" in words:
        return Skipped.LOCALIZER
    if words & PROJECTIONS:
        return Skipped.PROJECTION
    return Skipped.DAMAGED if _is_truncated(dataset, pixel_bytes) else None


def _is_truncated(dataset: Dataset, pixel_bytes: int) -> bool:
    if str(dataset.file_meta.get("TransferSyntaxUID", "")) not in UNCOMPRESSED:
        return pixel_bytes <= 0
    frames = int(dataset.get("NumberOfFrames", None) or 1)
    return pixel_bytes < int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8 * frames


def _slices(dataset: Dataset, file: Path) -> tuple[Slice, ...]:
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence", None) or ()), Dataset())
    frames = dataset.get("PerFrameFunctionalGroupsSequence", None) or [Dataset()]
    first = _Groups(dataset, shared, frames[0])
    header = _header(dataset, file, first.rescale())
    return tuple(_slice(header, index, _Groups(dataset, shared, frame)) for index, frame in enumerate(frames))


@dataclass(frozen=True)
class _Groups:
    """Where an attribute of one frame may be: its own functional groups, the shared ones, or the data set."""

    dataset: Dataset
    shared: Dataset
    frame: Dataset

    def get(self, sequence: str, name: str) -> object:
        for groups in (self.frame, self.shared):
            for item in groups.get(sequence, None) or ():
                if item.get(name, None) is not None:
                    return item.get(name)
        return self.dataset.get(name, None)

    def numbers(self, sequence: str, name: str) -> tuple[float, ...]:
        return tuple(float(value) for value in self.get(sequence, name))  # type: ignore[attr-defined]  # absent: TypeError

    def rescale(self) -> tuple[float, float]:
        sequence = "PixelValueTransformationSequence"
        slope, intercept = self.get(sequence, "RescaleSlope"), self.get(sequence, "RescaleIntercept")
        return float(str(slope)), float(str(intercept))


def _slice(header: Header, index: int, groups: _Groups) -> Slice:
    x, y, z = groups.numbers("PlanePositionSequence", "ImagePositionPatient")
    orientation = groups.numbers("PlaneOrientationSequence", "ImageOrientationPatient")
    row_mm, column_mm = groups.numbers("PixelMeasuresSequence", "PixelSpacing")
    temporal = groups.get("FrameContentSequence", "TemporalPositionIndex") or groups.dataset.get(
        "TemporalPositionIdentifier"
    )
    acquisition = groups.get("FrameContentSequence", "FrameAcquisitionNumber") or groups.dataset.get(
        "AcquisitionNumber"
    )
    _check_numbers((x, y, z, *groups.rescale()), orientation, (row_mm, column_mm))
    return Slice(
        header=header,
        frame=index,
        key=f"{groups.dataset.get('SOPInstanceUID', header.file)}/{index}",
        position_mm=(x, y, z),
        orientation=orientation,
        spacing_mm=(column_mm, row_mm),
        size=(int(groups.dataset.Columns), int(groups.dataset.Rows)),
        rescale=groups.rescale(),
        time_s=_time_of(groups),
        temporal_position=str(temporal or ""),
        acquisition=str(acquisition or ""),
        instance=int(groups.dataset.get("InstanceNumber", None) or 0),
    )


def _check_numbers(numbers: tuple[float, ...], orientation: tuple[float, ...], spacing_mm: tuple[float, float]) -> None:
    row, column = np.array(orientation, dtype=np.float64).reshape(2, 3)
    lengths = np.array([row @ row, column @ column])
    if not np.isfinite([*numbers, *spacing_mm]).all() or min(spacing_mm) <= 0 or numbers[3] == 0:
        raise ValueError("position, rescale or spacing")
    if not np.allclose(lengths, 1.0, atol=1e-2) or abs(row @ column) > 1e-2:
        raise ValueError("orientation")


def _header(dataset: Dataset, file: Path, stored_rescale: tuple[float, float]) -> Header:
    exam = str(dataset.get("StudyInstanceUID", ""))
    date = str(dataset.get("AcquisitionDate", None) or dataset.get("SeriesDate", None) or "")
    agents = next(iter(dataset.get("ContrastBolusAgentSequence", None) or ()), None)
    bits, is_signed = int(dataset.BitsStored), int(dataset.PixelRepresentation) == 1
    inverted = str(dataset.get("PhotometricInterpretation", "")) == "MONOCHROME1"
    return Header(
        file=file,
        patient_key=str(dataset.get("PatientID", "") or dataset.get("PatientName", "") or exam),
        exam_key=exam,
        series_key=str(dataset.get("SeriesInstanceUID", "")),
        description=str(dataset.get("SeriesDescription", "") or ""),
        protocol=str(dataset.get("ProtocolName", "") or ""),
        series_number=int(dataset.get("SeriesNumber", None) or 0),
        has_contrast=bool(dataset.get("ContrastBolusAgent") or dataset.get("ContrastBolusVolume") or agents),
        injection_s=_clock(date, str(dataset.get("ContrastBolusStartTime", "") or "")),
        is_sharp=_is_sharp(str(dataset.get("ConvolutionKernel", "") or "")),
        is_lossy=str(dataset.get("LossyImageCompression", "")) == "01",
        stored_rescale=stored_rescale,
        inverted_sum=(-1 if is_signed else 2**bits - 1) if inverted else None,
        padding=_padding(dataset.get("PixelPaddingValue", None), int(dataset.BitsAllocated), is_signed=is_signed),
    )


def _padding(value: object, bits: int, *, is_signed: bool) -> int | None:
    """Return the padding value as the pixels hold it; headers often give it with the other sign convention."""
    if value is None or value == "":
        return None
    number = (int.from_bytes(value, "little") if isinstance(value, bytes) else int(str(value))) % (1 << bits)
    return number - (1 << bits) if is_signed and number >= 1 << (bits - 1) else number


def _is_sharp(kernel: str) -> bool:
    words = kernel.upper().replace("'", " ").replace(",", " ").replace("[", " ").split()
    siemens = [word for word in words if word[:1] in "BI" and word[-1:].isalnum()]
    numbers = [
        int(digits) for word in siemens if (digits := "".join(c for c in word if c.isdigit())) and len(digits) == 2
    ]
    return bool({"BONE", "BONEPLUS", "LUNG", "EDGE"} & set(words)) or any(number >= 55 for number in numbers)


def _time_of(groups: _Groups) -> float | None:
    moment = str(groups.get("FrameContentSequence", "FrameAcquisitionDateTime") or "")
    moment = moment or str(groups.dataset.get("AcquisitionDateTime", "") or "")
    if moment:
        return _clock(moment[:8], moment[8:].partition("+")[0].partition("-")[0])
    for name in ("Acquisition", "Content", "Series"):
        time = str(groups.dataset.get(f"{name}Time", "") or "")
        date = str(groups.dataset.get(f"{name}Date", "") or groups.dataset.get("SeriesDate", "") or "")
        if (seconds := _clock(date, time)) is not None:
            return seconds
    return None


def _clock(date: str, time: str) -> float | None:
    """Return seconds on an absolute clock; a missing date counts as one fixed day; None when the time is missing."""
    time = time.replace(":", "")
    try:
        day = datetime.strptime(date.replace(".", "")[:8] or "20000101", "%Y%m%d").replace(tzinfo=UTC)
        hours, minutes, seconds = int(time[:2]), int(time[2:4] or 0), float(time[4:] or 0)
    except ValueError:
        return None
    return day.timestamp() + 3600 * hours + 60 * minutes + seconds
