"""Single image files: CT volumes and masks, checked as they are read; every synthetic one carries its mark."""

from __future__ import annotations

import errno
import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .errors import InputError
from .grid import Volume
from .study import SYNTHETIC_MARK, Mask, MaskSource

SYNTHETIC_KEY = "SYNTHETIC"
FAT_HU = -30.0
"""A CT of the trunk holds fat (-100 HU) and air; an image with nothing below this is no CT in Hounsfield units."""
FAT_FRACTION = 0.002
"""Boxes around the livers of two real CTs hold 26 % and 30 % of it; far below that, to admit any crop of a trunk."""
NIFTI_HEADER_BYTES = 348
BLOCK_BYTES = 2**22
LOWEST_HU, HIGHEST_HU = -10_000.0, 35_000.0
"""Padding values reach -3024 (GE) and -8192; metal reaches 30,000 in extended-range reconstructions."""

sitk.ProcessObject.GlobalWarningDisplayOff()  # ITK's warnings print absolute paths


def read_volume(path: Path, *, is_ct: bool = True) -> Volume:
    """Read a three-dimensional scalar image file in any format that SimpleITK knows.

    Args:
        path: The file.
        is_ct: Check that the values can be Hounsfield units.

    Returns:
        Values (Z, Y, X), int16 where they are whole numbers of that range, uint8 kept, else float32.

    Raises:
        InputError: No file, unreadable or truncated, not three-dimensional, colored, not finite, or not a CT.
    """
    image = _read_image(path)
    array = sitk.GetArrayFromImage(image)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise InputError(
            f"'{path.name}' holds {count} voxels that are not numbers (NaN or infinite)",
            expected="finite values",
            remedy="Export the volume again",
        )
    if is_ct:
        check_hounsfield(path.name, array)
    template = Volume.from_image(image)
    return Volume(_compact(array), template.grid)


def read_mask(path: Path, source: MaskSource) -> Mask:
    """Read a mask file of one structure: 0 for background, one other value for the structure.

    Raises:
        InputError: As ``read_volume``, or more than one structure.
    """
    volume = read_volume(path, is_ct=False)
    values = np.unique(volume.array)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        shown = ", ".join(f"{value:g}" for value in values[:6])
        raise InputError(
            f"The mask '{path.name}' holds the values {shown}{' …' if len(values) > 6 else ''}",
            expected="0 for background and one value for the structure",
            remedy="Export one structure per mask file",
        )
    return Mask(Volume((np.asarray(volume.array) != 0).astype(np.uint8), volume.grid), source)


def check_hounsfield(name: str, array: NDArray[np.generic]) -> None:
    """Refuse values that cannot be Hounsfield units of a trunk.

    Args:
        name: What to call the image in the error.
        array: Values, any shape.

    Raises:
        InputError: Values out of range, or nothing as dark as fat among them.
    """
    low, high = float(array.min()), float(array.max())
    fat = float(np.less(array, FAT_HU).mean())
    if low < LOWEST_HU or high > HIGHEST_HU or fat < FAT_FRACTION or high <= 0:
        raise InputError(
            f"'{name}' is not a CT in Hounsfield units: its values go from {low:g} to {high:g}, "
            f"{fat:.1%} of them below {FAT_HU:g}",
            expected="air at -1000, fat at -100, soft tissue at 0 to 100",
            remedy="Use the original CT, without windowing or rescaling (an offset of 1024 must be subtracted)",
        )


def is_marked_synthetic(path: Path) -> bool:
    """Return whether an image file carries the SYNTHETIC mark (NRRD key, or NIfTI ``descrip``)."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    notes = ("descrip", "ITK_FileNotes")
    return reader.HasMetaDataKey(SYNTHETIC_KEY) or any(
        reader.HasMetaDataKey(key) and SYNTHETIC_KEY in reader.GetMetaData(key) for key in notes
    )


def write_volume(volume: Volume, path: Path, *, synthetic: bool = False) -> None:
    """Write an image file; compressed, and with the SYNTHETIC mark where it is due.

    Raises:
        OSError: The file could not be written (no space, no permission).
    """
    image = volume.to_image()
    if synthetic:
        image.SetMetaData(SYNTHETIC_KEY, SYNTHETIC_MARK)
        image.SetMetaData("ITK_FileNotes", f"{SYNTHETIC_KEY} {SYNTHETIC_MARK}")
    path.touch()  # says "no permission" or "no space" in the system's own words
    with full_disk_said():
        sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=1)


@contextmanager
def full_disk_said() -> Iterator[None]:
    """Say in the system's words why SimpleITK could not write a file in a folder that was just made.

    Raises:
        OSError: No space.
    """
    try:
        yield
    except RuntimeError as error:
        raise OSError(errno.ENOSPC, "No space left on device") from error


def _read_image(path: Path) -> sitk.Image:
    if not path.is_file():
        raise InputError(
            f"There is no file '{path.name}' in '{path.parent.name}'", remedy="Check the name and where the file lies"
        )
    try:
        if path.name.endswith((".nii", ".nii.gz")):
            _check_whole_nifti(path)
        image = sitk.ReadImage(str(path))
    except (RuntimeError, EOFError, OSError, zlib.error, struct.error):
        raise InputError(
            f"'{path.name}' cannot be read as an image: it is truncated, damaged, or of another format",
            expected="a NIfTI, NRRD, MetaImage or other file that SimpleITK reads",
            remedy="Copy or export it again",
        ) from None
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            f"'{path.name}' has {image.GetNumberOfComponentsPerPixel()} values per voxel (a color or vector image)",
            expected="one value per voxel, in Hounsfield units",
        )
    return _three_dimensional(path.name, image)


def _check_whole_nifti(path: Path) -> None:
    """Raise EOFError for a truncated NIfTI file, which ITK would fill up with zeros in silence."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        header = stream.read(NIFTI_HEADER_BYTES)
        order = next((order for order in "<>" if struct.unpack_from(f"{order}i", header)[0] == NIFTI_HEADER_BYTES), "")
        if not order:
            return  # NIfTI-2, which ITK checks itself or refuses
        sizes = struct.unpack_from(f"{order}8h", header, 40)
        (bits,) = struct.unpack_from(f"{order}h", header, 72)
        (offset,) = struct.unpack_from(f"{order}f", header, 108)
        missing = int(offset) + math.prod(sizes[1 : sizes[0] + 1]) * bits // 8 - len(header)
        while missing > 0:
            block = stream.read(min(missing, BLOCK_BYTES))
            if not block:
                raise EOFError
            missing -= len(block)


def _three_dimensional(name: str, image: sitk.Image) -> sitk.Image:
    size = list(image.GetSize())
    if len(size) == 4 and size[3] == 1:  # NIfTI files of one time point
        size[3] = 0
        image = sitk.Extract(image, size, [0, 0, 0, 0])
    if image.GetDimension() != 3 or min(image.GetSize()) < 2:
        raise InputError(
            f"'{name}' has the size {' x '.join(map(str, size))}",
            expected="a volume with three axes of at least 2 voxels",
            remedy="Save each contrast phase as a file of its own",
        )
    return image


def _compact(array: NDArray[np.generic]) -> NDArray[np.generic]:
    if array.dtype in (np.uint8, np.int16):
        return array
    limits = np.iinfo(np.int16)
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.min() >= limits.min and array.max() <= limits.max and (array.dtype.kind in "iu" or _whole(array)):
        return array.astype(np.int16)
    return array.astype(np.float32)


def _whole(array: NDArray[np.generic]) -> bool:
    return bool(np.equal(array, np.rint(array)).all())
