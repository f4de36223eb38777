"""A segmentation as DICOM SEG that goes back to the patient's record, beside the CT series it was made from.

This is the one output that carries the patient's identifiers: DICOM requires those of the source series, without which
the object could not be filed. The study, patient and frame of reference are the series'; everything else is ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from ... import __version__
from ...core.dicom import DicomSeries, scan_folder
from ...core.errors import InputError, MissingError
from ...core.files import new_file
from ...core.grid import Grid, Volume, resample
from ...core.images import is_marked_synthetic
from ...core.lesions import separate_lesions
from ...core.progress import Progress
from ...core.study import HistoryEntry, Mask, MaskSource, Segmentation
from ...core.study_io import FORMAT, STUDY_FILE, read_segmentation
from ...core.study_records import read_record
from ..html import NOT_A_DEVICE

if TYPE_CHECKING:
    from types import ModuleType

LIVER = Code("10200004", "SCT", "Liver")
ORGAN = Code("123037004", "SCT", "Anatomical Structure")
ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
NEOPLASM = Code("108369006", "SCT", "Neoplasm")
ARTIFICIAL_INTELLIGENCE = Code("123109", "DCM", "Artificial Intelligence")
LIVER_RGB, TUMOR_RGB = (221, 130, 101), (144, 238, 144)
"""3D Slicer's colors of the two."""
SERIES_DESCRIPTION = "Liver, tumors (Diff4MMLiTS) - not for clinical use"
CONTENT_DESCRIPTION = "Liver and tumors; research, not for clinical use"
FIRST_SERIES_NUMBER = 9000
"""Added to the number of the CT series, so that the new one is listed behind those of the scanner."""
LONGEST_TEXT = 64
"""Characters that DICOM allows in a description or a name."""
ALTERING_STAGES = frozenset({"phantom", "inpaint", "synthesize"})
"""Steps after which a study's images are no longer the patient's."""
TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)
"""What every DICOM object must hold, if only as an empty value; anonymized series often lack some."""
ALIGNED_VOXELS = 0.1
"""Voxel centers of segmentation and series that lie this close, in voxels, everywhere are the same voxels."""
ALGORITHM_OF = {MaskSource.MODEL: "AUTOMATIC", MaskSource.ANNOTATION: "MANUAL"}
CLICKED = "SEMIAUTOMATIC"
"""What a model drew and a person corrected by clicks."""
MODEL_STAGES = ("segment", "click")
"""Steps of a history in which a model drew."""

UIntArray = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class _Segment:
    """One segment: its name, what it is, who drew it, and its voxels on the series' grid, (Z, Y, X)."""

    label: str
    category: Code
    kind: Code
    source: MaskSource
    voxels: UIntArray


def export_dicom_seg(
    segmentation: Path,
    out: Path,
    *,
    dicom: Path,
    series: int | None = None,
    force: bool = False,
    progress: Progress,
) -> None:
    """Write liver and tumors as DICOM SEG: one segment for the liver, one for every tumor, the largest first.

    Args:
        segmentation: Folder with a liver and a tumor mask: what ``segment`` wrote, or an annotated study.
        out: The new file, ``*.dcm``. **It holds the patient's name and number**, as the CT series does.
        dicom: Folder with the CT series whose voxels the masks describe.
        series: Number of the series in the listing, where several have these voxels (the phases of one examination).
        force: Replace an existing file.
        progress: Told while the series are read.

    Raises:
        InputError: A synthetic or phantom study, empty masks, no series with these voxels or several, or the output
            exists.
        MissingError: highdicom is not installed.
        CanceledError: The user asked to stop.
    """
    highdicom = _highdicom()
    if out.suffix.lower() != ".dcm":
        raise InputError(f"The output '{out.name}'", expected="a name that ends in .dcm")
    found = read_segmentation(segmentation)
    _check_real(segmentation, found)
    chosen = _choose_series(scan_folder(dicom, progress.part(0.0, 0.5)).exams, found.tumor.volume.grid, series)
    segments = _segments(found, chosen.stack.grid())
    progress.update(0.6, f"writing {len(segments)} segments")
    images, order = _source_images(chosen)
    record = read_record(segmentation / STUDY_FILE, newest=FORMAT)
    steps = [entry for entry in found.history if entry.stage in MODEL_STAGES]
    made = steps[-1] if steps else HistoryEntry("segment", __version__)
    descriptions = [
        _description(highdicom, number, segment, made, str(record.get("intended_use", "")))
        for number, segment in enumerate(segments, start=1)
    ]
    pixels = np.stack([segment.voxels[order] for segment in segments], axis=-1)  # (Z, Y, X, segments)
    with new_file(out, force=force) as partial, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote the patient's name
        _encode(highdicom, images, pixels, descriptions, made).save_as(str(partial))
    progress.update(1.0, f"{len(segments)} segments")


def _highdicom() -> ModuleType:
    try:
        import highdicom
    except ModuleNotFoundError:
        raise MissingError(
            "The Python package 'highdicom' is not installed",
            expected="highdicom, which writes DICOM segmentations",
            remedy='Install it ("pip install highdicom", or diff4mmlits with its extra "dicom")',
        ) from None
    package: ModuleType = highdicom
    return package


def _check_real(folder: Path, found: Segmentation) -> None:
    """Refuse what does not show the patient as the scanner saw him."""
    record = read_record(folder / STUDY_FILE, newest=FORMAT)
    files = [folder / str(record[name]["file"]) for name in ("liver", "tumor")]
    altered = sorted({entry.stage for entry in found.history} & ALTERING_STAGES)
    if record.get("synthetic") or altered or any(map(is_marked_synthetic, files)):
        raise InputError(
            f"'{folder.name}' is synthetic, or its images were changed ({', '.join(altered) or 'it says so'})",
            expected="a study of the patient: a made-up or removed tumor must not enter a medical record",
        )


def _choose_series(exams: Sequence[Any], grid: Grid, number: int | None) -> DicomSeries:  # Any: DicomExam
    known: list[DicomSeries] = [series for exam in exams for series in exam.series]
    listing = "\n".join(f"  {series.describe()}" for series in known)
    fitting = [series for series in known if _is_volume(series) and _same_voxels(grid, series.stack.grid())]
    if number is not None:
        fitting = [series for series in fitting if series.number == number]
    if not fitting:
        which = f"Series {number} does not have" if number is not None else "No CT series in the folder has"
        raise InputError(
            f"{which} the voxels of the segmentation ({_size_text(grid)})",
            expected=f"the series that the study's reference phase was imported from; the folder holds\n{listing}\n",
            remedy="Segment a study that was imported from these DICOM files, without resampling",
        )
    if len(fitting) > 1:
        numbers = ", ".join(str(series.number) for series in fitting)
        raise InputError(
            f"The series {numbers} all have the voxels of the segmentation:\n{listing}\n",
            expected="one series that it is filed with",
            remedy=f"Say which is the reference phase, for example --series {fitting[0].number}",
        )
    return fitting[0]


def _is_volume(series: DicomSeries) -> bool:
    try:
        series.stack.check(series.name, interpolate_gaps=False)
    except InputError:
        return False
    return True


def _same_voxels(grid: Grid, series: Grid) -> bool:
    """Return whether every voxel of a grid is a voxel of the series; axes may be flipped or exchanged, or cropped."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (np.array(grid.size) - 1)
    index = series.to_index(grid.to_world(corners))
    steps = series.to_index(grid.to_world(np.eye(3))) - series.to_index(grid.to_world(np.zeros(3)))
    is_permutation = np.array_equal(np.sort(np.abs(np.rint(steps)).ravel()), [0] * 6 + [1] * 3)
    is_close = bool((np.abs(index - np.rint(index)) < ALIGNED_VOXELS).all())
    inside = bool((np.rint(index) >= 0).all() and (np.rint(index) < np.array(series.size)).all())
    return is_permutation and is_close and inside


def _size_text(grid: Grid) -> str:
    size, spacing = " x ".join(map(str, grid.size)), " x ".join(f"{value:.2f}" for value in grid.spacing_mm)
    return f"{size} voxels of {spacing} mm"


def _segments(found: Segmentation, grid: Grid) -> list[_Segment]:
    segments = []
    if found.liver.array.any():
        voxels = _on_grid(found.liver, found.liver.array, grid)
        segments.append(_Segment("Liver", ORGAN, LIVER, _drawn_by(found.liver), voxels))
    for number, lesion in enumerate(separate_lesions(found.tumor.array), start=1):
        voxels = _on_grid(found.tumor, lesion, grid)
        segments.append(_Segment(f"Tumor {number}", ABNORMAL, NEOPLASM, _drawn_by(found.tumor), voxels))
    if not segments:
        raise InputError(f"The segmentation of '{found.study_id}' is empty", expected="a liver or a tumor")
    return segments


def _drawn_by(mask: Mask) -> MaskSource:
    if mask.source not in ALGORITHM_OF:
        raise InputError(
            f"A mask with the source '{mask.source}'",
            expected="masks of a patient, drawn by a model or by people",
        )
    return mask.source


def _on_grid(mask: Mask, voxels: NDArray[np.bool_], grid: Grid) -> UIntArray:
    volume = resample(Volume(voxels.astype(np.uint8), mask.volume.grid), grid, linear=False)
    return np.asarray(volume.array, dtype=np.uint8)


def _source_images(series: DicomSeries) -> tuple[list[Dataset], list[int]]:
    """Return the data sets of a series without pixels, and the order of its slices in them."""
    slices = series.stack.slices
    files = list(dict.fromkeys(each.header.file for each in slices))
    images = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    if len(files) == len(slices):
        for image in images:
            _complete_slice(image, images[0], series.stack.slice_mm)
        order = list(range(len(slices)))
    else:
        frames = [each.frame for each in slices]
        _check_frames(images, frames, series.name)
        order = [int(index) for index in np.argsort(frames)]
    for image in images:
        _complete(image, series.name)
    return images, order


def _complete_slice(image: Dataset, first: Dataset, slice_mm: float) -> None:
    """Bring a data set (in memory) to what the segmentation takes over: one orientation, and distances in all."""
    image.ImageOrientationPatient = first.ImageOrientationPatient  # they differ by rounding only
    image.SpacingBetweenSlices = slice_mm
    if image.get("SliceThickness") is None:
        image.SliceThickness = slice_mm


def _check_frames(images: Sequence[Dataset], frames: Sequence[int], name: str) -> None:
    shared = next(iter(images[0].get("SharedFunctionalGroupsSequence", None) or ()), Dataset())
    is_whole = len(images) == 1 and sorted(frames) == list(range(int(images[0].get("NumberOfFrames", 1))))
    if not is_whole or not {"PixelMeasuresSequence", "PlaneOrientationSequence"} <= set(shared.dir()):
        raise InputError(
            f"{name} is a part of a multi-frame file, or of several, or its frames share no spacing and orientation",
            expected="one file a slice, or one file with all slices of the series",
            remedy="Export each contrast phase as a series of its own, one file a slice",
        )


def _complete(image: Dataset, name: str) -> None:
    if not image.get("FrameOfReferenceUID"):
        raise InputError(f"{name} does not say its frame of reference", expected="a CT series that is valid DICOM")
    for keyword in TYPE_2:
        if keyword not in image:
            setattr(image, keyword, None)


def _description(highdicom: Any, number: int, segment: _Segment, made: HistoryEntry, intended_use: str) -> Dataset:  # noqa: ANN401 (untyped package)
    is_tumor = segment.kind is NEOPLASM
    algorithm, kind = None, ALGORITHM_OF[segment.source]
    if segment.source is MaskSource.MODEL and made.stage == "click":
        kind = CLICKED
    if segment.source is MaskSource.MODEL:
        algorithm = highdicom.AlgorithmIdentificationSequence(
            name=f"Diff4MMLiTS {', '.join(made.models)}"[:LONGEST_TEXT].strip(),
            version=made.version,
            family=ARTIFICIAL_INTELLIGENCE,
            source="Diff4MMLiTS",
            parameters={f"sha256 of {name}": digest for name, digest in made.models.items()},
        )
    description = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.label,
        segmented_property_category=segment.category,
        segmented_property_type=segment.kind,
        algorithm_type=kind,
        algorithm_identification=algorithm,
        tracking_uid=highdicom.UID(),
        tracking_id=segment.label,
        anatomic_regions=[LIVER] if is_tumor else None,
        display_color=highdicom.color.CIELabColor.from_rgb(*(TUMOR_RGB if is_tumor else LIVER_RGB)),
    )
    description.SegmentDescription = f"{NOT_A_DEVICE} {intended_use}".strip()
    return description


def _encode(
    highdicom: Any,  # noqa: ANN401 (untyped package)
    images: list[Dataset],
    pixels: UIntArray,
    descriptions: list[Dataset],
    made: HistoryEntry,
) -> Dataset:
    return highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=pixels,
        segmentation_type="BINARY",
        segment_descriptions=descriptions,
        series_instance_uid=highdicom.UID(),
        series_number=FIRST_SERIES_NUMBER + int(images[0].get("SeriesNumber", None) or 0),
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="Diff4MMLiTS",
        manufacturer_model_name="Diff4MMLiTS",
        software_versions=made.version,
        device_serial_number=next(iter(made.models.values()), "none")[:LONGEST_TEXT],
        content_label="LIVER_TUMORS",
        content_description=CONTENT_DESCRIPTION,
        series_description=SERIES_DESCRIPTION,
        omit_empty_frames=True,
    )
