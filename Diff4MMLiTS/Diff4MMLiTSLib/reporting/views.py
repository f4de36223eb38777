"""Slices of volumes as a radiologist expects to see them: patient right on the left, isotropic, on any input grid."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..core.grid import Grid, Volume
from ..core.metrics import bounding_box
from ..core.study import Mask

AIR_HU = -1000.0
FINEST_PIXEL_MM = 0.5
COARSEST_PIXEL_MM = 1.0
"""Pixels of a view; coarser grids are interpolated, as in any viewer."""

FloatArray = NDArray[np.float64]
Plane2D = NDArray[np.float32]


class Plane(StrEnum):
    """How a volume is cut."""

    AXIAL = "axial"
    CORONAL = "coronal"


VIEW_AXES = {Plane.AXIAL: (0, 1, 2), Plane.CORONAL: (0, 2, 1)}
"""World axes (left, posterior, superior) along the columns and rows of a picture, and across it."""
VIEW_SIGNS = {Plane.AXIAL: (1, 1, 1), Plane.CORONAL: (1, -1, 1)}
"""Direction along them: columns run to the patient's left, rows to posterior (axial) or inferior (coronal)."""


@dataclass(frozen=True, eq=False)
class Box:
    """A part of a grid.

    Args:
        low: First voxel index (3,), x, y, z; may be fractional.
        high: Last voxel index (3,), x, y, z.
    """

    low: FloatArray
    high: FloatArray


def whole_box(grid: Grid) -> Box:
    """Return all of a grid."""
    return Box(np.zeros(3), np.array(grid.size, dtype=np.float64) - 1)


def box_around(mask: Mask, margin_mm: float) -> Box:
    """Return the box around a mask with a margin, cut at the border of the image; all of it for an empty mask."""
    grid = mask.volume.grid
    whole = whole_box(grid)
    box = bounding_box(mask.array)
    if box is None:
        return whole
    margin = margin_mm / np.array(grid.spacing_mm)
    low = np.array([part.start for part in reversed(box)]) - margin
    high = np.array([part.stop - 1 for part in reversed(box)]) + margin
    return Box(np.maximum(low, whole.low), np.minimum(high, whole.high))


def largest_piece(mask: Mask) -> Mask:
    """Return the largest connected piece of a mask; an empty mask as it is."""
    labels, count = ndimage.label(mask.array)
    if count <= 1:
        return mask
    piece = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return Mask(Volume(piece.astype(np.uint8), mask.volume.grid), mask.source)


def largest_slice(mask: Mask, plane: Plane) -> float | None:
    """Return the voxel index, across the plane, of the slice with the largest area; None for an empty mask."""
    axis = _index_axes(mask.volume.grid)[VIEW_AXES[plane][2]]
    areas = mask.array.sum(axis=tuple(k for k in range(3) if k != 2 - axis))
    return float(np.median(np.flatnonzero(areas == areas.max()))) if areas.any() else None


def view_grid(grid: Grid, box: Box, plane: Plane, *, slice_index: float | None) -> Grid:
    """Return the lattice of a picture: isotropic pixels in one plane of a grid, nearest to the anatomical plane.

    Args:
        grid: The grid that is cut along its own axes.
        box: What the picture shows.
        plane: Axial or coronal.
        slice_index: Voxel index across the plane; the middle of the box when None.

    Returns:
        A grid of size (columns, rows, 1) whose array row 0 is anterior (axial) or superior (coronal) and whose
        column 0 is the patient's right.
    """
    index_axes = _index_axes(grid)
    axes = [index_axes[world] for world in VIEW_AXES[plane]]
    matrix, spacing = grid.direction_matrix, np.array(grid.spacing_mm)
    pixel_mm = float(np.clip(min(spacing[axes[:2]]), FINEST_PIXEL_MM, COARSEST_PIXEL_MM))
    corner = np.zeros(3)
    directions, size = [], []
    for axis, world, sign in zip(axes, VIEW_AXES[plane], VIEW_SIGNS[plane], strict=True):
        along = sign * np.sign(matrix[world, axis])
        corner[axis] = box.low[axis] if along > 0 else box.high[axis]
        directions.append(along * matrix[:, axis])
        size.append(1 + round(float(box.high[axis] - box.low[axis]) * spacing[axis] / pixel_mm))
    across = axes[2]
    corner[across] = (box.low + box.high)[across] / 2 if slice_index is None else slice_index
    x, y, z = (float(value) for value in grid.to_world(corner))
    direction = tuple(float(value) for value in np.column_stack(directions).ravel())
    return Grid((size[0], size[1], 1), (pixel_mm, pixel_mm, 1.0), (x, y, z), direction)


def sample(volume: Volume, view: Grid, *, outside: float = AIR_HU) -> Plane2D:
    """Return the values of a volume in a view, trilinear, (rows, columns), float32; ``outside`` beyond its border."""
    index = np.stack(np.meshgrid(*map(np.arange, view.size), indexing="ij"), axis=-1).astype(np.float64)
    points = volume.grid.to_index(view.to_world(index[:, :, 0]))  # (columns, rows, 3)
    coordinates = points.transpose(2, 1, 0)[::-1]  # (Z Y X, rows, columns)
    nearest = np.rint(coordinates)  # voxel centers are hit exactly despite rounding, also at the border
    coordinates = np.where(np.abs(coordinates - nearest) < 1e-6, nearest, coordinates)
    array: NDArray[np.number] = np.asarray(volume.array)
    values = ndimage.map_coordinates(array, coordinates, output=np.float32, order=1, cval=outside)
    return np.asarray(values, dtype=np.float32)


def occupancy(mask: Mask, view: Grid) -> Plane2D:
    """Return how far each pixel of a view lies in a mask, 0 to 1, (rows, columns); its outline is the level 0.5."""
    return sample(mask.volume, view, outside=0.0)


def _index_axes(grid: Grid) -> tuple[int, int, int]:
    """Return the index axes that run nearest to left, posterior and superior."""
    strength = np.abs(grid.direction_matrix)  # (world, index)
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    return max(orders, key=lambda order: float(sum(strength[world, axis] for world, axis in enumerate(order))))
