"""A folder of DICOM files, however mixed -> CT series -> volumes in HU.

Headers are read with pydicom, pixels with SimpleITK (GDCM), so that compressed files work too. Nothing that identifies
a patient leaves these objects: series are named by their number in the listing, files not at all.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .dicom_headers import Header, Skipped, Slice, read_slices
from .dicom_stacks import MIN_SLICES, Stack, stacks_of
from .errors import InputError
from .grid import Volume
from .progress import Progress

AIR_HU = -1024
"""Value of voxels outside the scan; also the lower limit of CT values, which padding such as -3024 undercuts."""
TISSUE_HU = (-900.0, 3000.0)
"""A padding value that means HU in this range would erase tissue; such headers are wrong, and the value is not used."""

sitk.ProcessObject.GlobalWarningDisplayOff()  # ITK's warnings print absolute paths


@dataclass(frozen=True)
class DicomSeries:
    """One CT volume in a DICOM folder.

    Args:
        number: Its number in the listing, from 1.
        stack: Its slices.
        offset_s: Start of its acquisition after the first one of the examination; None when not noted.
    """

    number: int
    stack: Stack
    offset_s: float | None

    @property
    def header(self) -> Header:
        """The header of its first slice."""
        return self.stack.slices[0].header

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return f"series {self.number}"

    def describe(self) -> str:
        """Return its number, shape and time, without any text of its header."""
        first = self.stack.slices[0]
        plane = "axial" if self.stack.is_axial else "not axial"
        offset = "time unknown" if self.offset_s is None else f"{self.offset_s:.0f} s after the first"
        shape = (
            f"{len(self.stack.slices)} slices of {first.size[0]} x {first.size[1]}, {self.stack.slice_mm:.2f} mm apart"
        )
        return f"{self.name}: {shape}, {plane}, {offset}"


@dataclass(frozen=True)
class DicomExam:
    """The CT series of one examination of one patient.

    Args:
        patient_key: Tells patients apart; an identifier, never shown.
        exam_key: Tells examinations apart; an identifier, never shown.
        series: Its series in the order of acquisition.
    """

    patient_key: str = field(repr=False)
    exam_key: str = field(repr=False)
    series: tuple[DicomSeries, ...]


@dataclass(frozen=True)
class DicomFolder:
    """What a DICOM folder holds.

    Args:
        exams: Examinations with at least one CT series, earliest first.
        notes: What was left out, as sentences.
    """

    exams: tuple[DicomExam, ...]
    notes: tuple[str, ...]


def scan_folder(folder: Path, progress: Progress) -> DicomFolder:
    """Find the CT series in a folder and its sub-folders.

    Raises:
        InputError: No folder, no files, or no CT series among them.
        CanceledError: The user asked to stop.
    """
    if not folder.is_dir():
        raise InputError("The DICOM folder does not exist", remedy="Give the folder that holds the DICOM files")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    slices: list[Slice] = []
    skipped: Counter[Skipped] = Counter()
    for index, file in enumerate(files):
        progress.update(index / len(files), f"reading headers, file {index + 1} of {len(files)}")
        result = read_slices(file)
        if isinstance(result, Skipped):
            skipped[result] += 1
        else:
            slices.extend(result)
    exams = _exams(slices)
    notes = tuple(f"{count} files were left out: {reason}" for reason, count in sorted(skipped.items()))
    if not exams:
        raise _nothing_found(len(files), len(slices), notes)
    used = sum(len(series.stack.slices) for exam in exams for series in exam.series)
    if used < len(slices):
        notes += (f"{len(slices) - used} slices were left out: copies, or in stacks of fewer than {MIN_SLICES}",)
    return DicomFolder(exams, notes)


def read_series(series: DicomSeries, progress: Progress, *, interpolate_gaps: bool = False) -> tuple[Volume, list[str]]:
    """Read the voxels of a series.

    Args:
        series: From ``scan_folder``.
        progress: Told after every file.
        interpolate_gaps: Fill uneven spacing, up to one missing slice at a place, by linear interpolation.

    Returns:
        CT values (Z, Y, X), HU, int16 where they are whole numbers, else float32, at least -1024; and notes.

    Raises:
        InputError: The slices do not make a volume, or a file cannot be decoded.
        CanceledError: The user asked to stop.
    """
    stack = series.stack
    stack.check(series.name, interpolate_gaps=interpolate_gaps)
    array = _read_pixels(series, progress)
    notes = [f"{series.name} went through lossy compression"] if series.header.is_lossy else []
    if not stack.is_even:
        count = len(array)
        array = _evenly_spaced(array, stack)
        notes.append(f"{series.name} was interpolated from {count} unevenly spaced slices to {len(array)} even ones")
    return Volume(_compact(array), stack.grid(len(array))), notes


def _exams(slices: Iterable[Slice]) -> tuple[DicomExam, ...]:
    groups: defaultdict[tuple[str, str], defaultdict[str, list[Slice]]] = defaultdict(lambda: defaultdict(list))
    for each in slices:
        header = each.header
        groups[header.patient_key, header.exam_key][header.series_key].append(each)
    found = []
    for keys, series in groups.items():
        stacks = [stack for group in series.values() for stack in stacks_of(group)]
        if stacks:
            found.append((keys, sorted(stacks, key=_stack_order)))
    found.sort(key=lambda pair: (_stack_order(pair[1][0]), pair[0]))
    exams, number = [], 1
    for keys, stacks in found:
        exams.append(DicomExam(*keys, series=_numbered(stacks, number)))
        number += len(stacks)
    return tuple(exams)


def _stack_order(stack: Stack) -> tuple[float, int, int]:
    time = stack.time_s
    return (np.inf if time is None else time, stack.slices[0].header.series_number, stack.slices[0].instance)


def _numbered(stacks: list[Stack], first: int) -> tuple[DicomSeries, ...]:
    start = min((stack.time_s for stack in stacks if stack.time_s is not None), default=0.0)
    offsets = [None if stack.time_s is None else stack.time_s - start for stack in stacks]
    pairs = enumerate(zip(stacks, offsets, strict=True), start=first)
    return tuple(DicomSeries(number, stack, offset) for number, (stack, offset) in pairs)


def _nothing_found(files: int, slices: int, notes: tuple[str, ...]) -> InputError:
    found = f"None of the {files} files in the folder is part of a CT series" if files else "The DICOM folder is empty"
    details = "; ".join(notes)
    if slices:
        details = "; ".join(filter(None, (f"{slices} CT slices, but no stack of at least {MIN_SLICES}", details)))
    return InputError(
        f"{found} ({details})" if details else found,
        expected="a folder with the slices of at least one CT series",
        remedy="Choose the folder that was exported from the scanner or PACS; archives must be unpacked first",
    )


def _read_pixels(series: DicomSeries, progress: Progress) -> NDArray[np.float32]:
    first = series.stack.slices[0]
    array = np.empty((len(series.stack.slices), first.size[1], first.size[0]), dtype=np.float32)
    by_file: defaultdict[Path, list[tuple[int, Slice]]] = defaultdict(list)
    for index, each in enumerate(series.stack.slices):
        by_file[each.header.file].append((index, each))
    for count, members in enumerate(by_file.values()):
        progress.update(count / len(by_file), f"reading {series.name}")
        stored = _stored_values(members[0][1].header, series.name)
        for index, each in members:
            if stored.shape[1:] != array.shape[1:] or each.frame >= len(stored):
                raise _undecodable(series.name)
            array[index] = _to_hounsfield(stored[each.frame], each)
    return array


def _stored_values(header: Header, name: str) -> NDArray[np.float64]:
    """Return the stored values (frames, Y, X) of a file.

    The decoder applies the first frame's rescaling to every frame, and inverts MONOCHROME1; both are undone, because
    frames have their own rescaling, and MONOCHROME1 only tells how to display: HU are defined on stored values.
    """
    try:
        image = sitk.ReadImage(str(header.file), imageIO="GDCMImageIO")
    except RuntimeError:
        raise _undecodable(name) from None
    slope, intercept = header.stored_rescale
    stored = (sitk.GetArrayFromImage(image).astype(np.float64) - intercept) / slope
    return np.asarray(stored if header.inverted_sum is None else header.inverted_sum - stored)


def _undecodable(name: str) -> InputError:
    return InputError(
        f"The pixels of {name} cannot be decoded: a file is damaged, or compressed in an unknown way",
        expected="uncompressed, JPEG, JPEG-LS, JPEG 2000 or RLE pixels",
        remedy="Export the series again, uncompressed",
    )


def _to_hounsfield(stored: NDArray[np.float64], each: Slice) -> NDArray[np.float32]:
    slope, intercept = each.rescale
    values = stored * slope + intercept
    padding = each.header.padding
    if padding is not None and not TISSUE_HU[0] < padding * slope + intercept < TISSUE_HU[1]:
        values[np.rint(stored) == padding] = AIR_HU
    return np.maximum(values, AIR_HU).astype(np.float32)


def _evenly_spaced(array: NDArray[np.float32], stack: Stack) -> NDArray[np.float32]:
    """Interpolate slices linearly along the normal, at the usual distance."""
    count = round(float(stack.positions_mm[-1]) / stack.slice_mm) + 1
    wanted = np.linspace(0.0, stack.positions_mm[-1], count)
    upper = np.clip(np.searchsorted(stack.positions_mm, wanted), 1, len(array) - 1)
    low, high = stack.positions_mm[upper - 1], stack.positions_mm[upper]
    weight = ((wanted - low) / (high - low)).astype(np.float32)[:, None, None]
    return np.rint(array[upper - 1] * (1 - weight) + array[upper] * weight)


def _compact(array: NDArray[np.float32]) -> NDArray[np.generic]:
    """Return int16 where the values are whole numbers of that range; plane by plane, to spare memory."""
    is_whole = all(bool((np.abs(plane - np.rint(plane)) < 1e-3).all()) for plane in array)
    if not is_whole or array.max() > np.iinfo(np.int16).max:
        return array
    return np.stack([np.rint(plane).astype(np.int16) for plane in array])
