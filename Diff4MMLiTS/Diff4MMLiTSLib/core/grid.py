"""The sampling lattice of a volume, and volumes that carry theirs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .errors import InputError

SPACING_TOLERANCE = 1e-3
"""Relative difference of spacing that file formats produce by rounding (NIfTI stores float32, DICOM decimals)."""
POSITION_TOLERANCE = 0.01
"""Difference of origin, in voxels, that file formats produce by rounding."""
DIRECTION_TOLERANCE = 1e-3
"""Difference of direction cosines that NIfTI's quaternion rounding produces."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a volume lie in the patient: SimpleITK's LPS world, millimeters.

    Args:
        size: Number of voxels along x, y, z.
        spacing_mm: Distance of voxel centers along x, y, z.
        origin_mm: World position (LPS) of the center of voxel (0, 0, 0).
        direction: Row-major 3 x 3 direction cosines; column k is the world direction of index axis k.

    Raises:
        InputError: Not three-dimensional, empty, spacing not positive, or direction not orthonormal.
    """

    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    def __post_init__(self) -> None:
        if not (len(self.size) == len(self.spacing_mm) == len(self.origin_mm) == 3 and len(self.direction) == 9):
            raise InputError(f"A grid with {len(self.size)} axes", expected="a three-dimensional volume")
        if min(self.size) < 1:
            raise InputError(f"A grid of size {self.size}", expected="at least one voxel along each axis")
        if not (np.isfinite(self.spacing_mm).all() and min(self.spacing_mm) > 0):
            raise InputError(f"A grid with spacing {self.spacing_mm} mm", expected="a positive spacing on each axis")
        matrix = self.direction_matrix
        if not np.isfinite(self.origin_mm).all() or not np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-2):
            raise InputError("A grid whose axes are not perpendicular", expected="orthonormal direction cosines")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Array shape (Z, Y, X)."""
        return self.size[2], self.size[1], self.size[0]

    @property
    def spacing_zyx_mm(self) -> tuple[float, float, float]:
        """Spacing in array order (Z, Y, X), in mm."""
        return self.spacing_mm[2], self.spacing_mm[1], self.spacing_mm[0]

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in milliliters."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    @property
    def diagonal_mm(self) -> float:
        """Length of the diagonal of the whole grid in mm."""
        return float(np.linalg.norm(np.multiply(self.size, self.spacing_mm)))

    @property
    def direction_matrix(self) -> FloatArray:
        """Direction cosines, (3, 3)."""
        return np.array(self.direction, dtype=np.float64).reshape(3, 3)

    @property
    def center_mm(self) -> FloatArray:
        """World position (LPS) of the center of the grid, (3,), in mm."""
        return self.to_world((np.array(self.size, dtype=np.float64) - 1) / 2)

    def to_world(self, index_xyz: FloatArray) -> FloatArray:
        """Return the world positions (..., 3), LPS mm, of continuous voxel indices (..., 3) in x, y, z order."""
        scaled = np.asarray(index_xyz, dtype=np.float64) * np.array(self.spacing_mm)
        return np.asarray(scaled @ self.direction_matrix.T + np.array(self.origin_mm))

    def to_index(self, point_mm: FloatArray) -> FloatArray:
        """Return the continuous voxel indices (..., 3), x, y, z order, of world positions (..., 3) in LPS mm."""
        offset = np.asarray(point_mm, dtype=np.float64) - np.array(self.origin_mm)
        inverse = np.linalg.inv(self.direction_matrix)  # not the transpose: stored axes are perpendicular only roughly
        return np.asarray((offset @ inverse.T) / np.array(self.spacing_mm))

    def with_spacing(self, spacing_mm: tuple[float, float, float]) -> Grid:
        """Return the grid of this spacing that covers the same box, with the box's corner kept in place."""
        extent = np.multiply(self.size, self.spacing_mm)
        size = np.maximum(1, np.ceil(extent / np.array(spacing_mm) - 1e-6)).astype(int)
        shift = (np.array(spacing_mm) - np.array(self.spacing_mm)) / 2
        origin = np.array(self.origin_mm) + self.direction_matrix @ shift
        return Grid(_three(int, size), _three(float, spacing_mm), _three(float, origin), self.direction)

    def cropped(self, start_xyz: tuple[int, int, int], size: tuple[int, int, int]) -> Grid:
        """Return the grid of a box of ``size`` voxels that begins at voxel ``start_xyz``; it may leave this grid."""
        origin = self.to_world(np.array(start_xyz, dtype=np.float64))
        return Grid(size, self.spacing_mm, _three(float, origin), self.direction)

    def corners(self) -> NDArray[np.float64]:
        """Return where the outermost voxels end: world positions (8, 3), x, y, z, mm."""
        ends = np.meshgrid(*[(-0.5, size - 0.5) for size in self.size], indexing="ij")
        return self.to_world(np.array(ends).reshape(3, 8).T)

    def difference(self, other: Grid) -> str:
        """Return in words which fields differ beyond the rounding of file formats; empty when none does."""
        parts = []
        if self.size != other.size:
            parts.append(f"size {self.size} against {other.size}")
        if not np.allclose(self.spacing_mm, other.spacing_mm, rtol=SPACING_TOLERANCE, atol=0):
            parts.append(f"spacing {_rounded(self.spacing_mm)} against {_rounded(other.spacing_mm)} mm")
        distance = np.abs(np.subtract(self.origin_mm, other.origin_mm))
        if (distance > POSITION_TOLERANCE * min(self.spacing_mm)).any():
            parts.append(f"origin {_rounded(self.origin_mm)} against {_rounded(other.origin_mm)} mm")
        if not np.allclose(self.direction, other.direction, rtol=0, atol=DIRECTION_TOLERANCE):
            parts.append(f"direction {_rounded(self.direction)} against {_rounded(other.direction)}")
        return ", ".join(parts)

    def same_as(self, other: Grid) -> bool:
        """Return whether both grids put their voxels at the same places."""
        return not self.difference(other)

    @classmethod
    def of_image(cls, image: sitk.Image) -> Grid:
        """Return the grid of a three-dimensional SimpleITK image.

        Raises:
            InputError: The image is not three-dimensional.
        """
        if image.GetDimension() != 3:
            raise InputError(f"An image with {image.GetDimension()} dimensions", expected="three dimensions")
        return cls(
            _three(int, image.GetSize()),
            _three(float, image.GetSpacing()),
            _three(float, image.GetOrigin()),
            tuple(float(value) for value in image.GetDirection()),
        )


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxel values and where they lie; the array is made read-only, so that a volume never changes.

    Args:
        array: Values, (Z, Y, X): CT in HU (int16 or float32), masks 0/1 (uint8).
        grid: The lattice of the array.

    Raises:
        InputError: The array's shape is not the grid's.
    """

    array: NDArray[np.generic]
    grid: Grid

    def __post_init__(self) -> None:
        if self.array.shape != self.grid.shape:
            raise InputError(f"An array of shape {self.array.shape}", expected=f"the grid's {self.grid.shape}")
        view = self.array.view()
        view.flags.writeable = False
        object.__setattr__(self, "array", view)

    def to_image(self) -> sitk.Image:
        """Return a SimpleITK copy."""
        image = sitk.GetImageFromArray(np.asarray(self.array))
        image.SetSpacing(self.grid.spacing_mm)
        image.SetOrigin(self.grid.origin_mm)
        image.SetDirection(self.grid.direction)
        return image

    @classmethod
    def from_image(cls, image: sitk.Image) -> Volume:
        """Return the volume of a three-dimensional scalar SimpleITK image (copied)."""
        return cls(sitk.GetArrayFromImage(image), Grid.of_image(image))


def resample(
    volume: Volume,
    grid: Grid,
    *,
    transform: sitk.Transform | None = None,
    linear: bool = True,
    outside: float = 0.0,
) -> Volume:
    """Sample a volume on another grid.

    Args:
        volume: What to sample, any scalar type.
        grid: Where to sample.
        transform: Maps points of ``grid`` to points of ``volume`` (ITK's direction); identity when absent.
        linear: Trilinear interpolation, or nearest neighbor (for masks).
        outside: Value for points that ``volume`` does not cover.

    Returns:
        A volume on ``grid`` with the value type of ``volume`` (integers are rounded).
    """
    if transform is None and grid.same_as(volume.grid):
        return Volume(np.asarray(volume.array), grid)
    rounded = linear and np.issubdtype(volume.array.dtype, np.integer)
    image = volume.to_image()
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(grid.size)
    resampler.SetOutputSpacing(grid.spacing_mm)
    resampler.SetOutputOrigin(grid.origin_mm)
    resampler.SetOutputDirection(grid.direction)
    resampler.SetInterpolator(sitk.sitkLinear if linear else sitk.sitkNearestNeighbor)
    resampler.SetDefaultPixelValue(outside)
    if transform is not None:
        resampler.SetTransform(transform)
    if rounded:  # ITK would truncate towards zero, half a unit of bias
        resampler.SetOutputPixelType(sitk.sitkFloat32)
    result = sitk.GetArrayFromImage(resampler.Execute(image))
    return Volume(np.rint(result).astype(volume.array.dtype) if rounded else result, grid)


def _three(kind: type, values: object) -> tuple:  # type: ignore[type-arg]  # a helper for three ints or three floats
    return tuple(kind(value) for value in values)  # type: ignore[attr-defined]  # any iterable of numbers


def _rounded(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values)
