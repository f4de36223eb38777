"""Tumor masks in millimeters, on any grid: random shapes, dilation, and the region to inpaint.

A shape is an ellipsoid with random axes and orientation, lobes on its surface, and an elastic deformation that grows
with its size: small metastases are round, large tumors irregular.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from .config import TumorMaskConfig
from .errors import InputError
from .grid import Grid

LOBES = 5
LOBE_SHARPNESS = 6.0
"""Concentration of a lobe about its direction (von Mises-Fisher); its half width is about 30 degrees."""
ELASTIC_SCALE = 0.5
"""Correlation length of the elastic deformation, as part of the radius."""
LATTICE = 9
"""Nodes per axis of the lattice that carries the elastic deformation."""
EDGE_MM = 1.5
"""Standard deviation of a tumor's border: it fades over some 4 mm, partial volumes and motion included."""
KEPT_INSIDE = 0.3
"""A center lies at least this part of the radius below the capsule: half a ball would be no liver tumor."""

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class TumorShape:
    """What a random tumor was drawn from.

    Args:
        center_mm: World position, LPS.
        radii_mm: Semi-axes of the ellipsoid.
    """

    center_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]

    @property
    def diameter_mm(self) -> float:
        """Diameter of the ball of the ellipsoid's volume."""
        return float(2.0 * np.prod(self.radii_mm) ** (1 / 3))


@dataclass(frozen=True, eq=False)
class DrawnTumors:
    """A random tumor mask and its shapes.

    Args:
        mask: (Z, Y, X).
        shapes: One per tumor.
    """

    mask: BoolArray
    shapes: tuple[TumorShape, ...]


def draw_tumors(
    liver: BoolArray,
    grid: Grid,
    *,
    config: TumorMaskConfig,
    rng: np.random.Generator,
    obstacles: BoolArray | None = None,
) -> DrawnTumors:
    """Draw tumors inside a liver, apart from each other and from obstacles.

    Args:
        liver: (Z, Y, X).
        grid: Its lattice.
        config: How many, how large, where.
        rng: Source of chance.
        obstacles: Voxels that no tumor may touch (large vessels, real tumors), (Z, Y, X).

    Raises:
        InputError: No room: the liver is empty, the center lies outside of it, or every try failed.
    """
    free = liver if obstacles is None else liver & ~obstacles
    mask = np.zeros_like(liver)
    shapes = []
    for _ in range(config.tumors):
        tumor, shape = _place(free, grid, config, rng)
        mask |= tumor
        shapes.append(shape)
        free = free & ~dilate_mm(tumor, grid, config.gap_mm)
    return DrawnTumors(mask, tuple(shapes))


def dilate_mm(mask: BoolArray, grid: Grid, margin_mm: float) -> BoolArray:
    """Return the voxels whose centers lie within ``margin_mm`` of a voxel of the mask, exactly, on any grid."""
    if margin_mm <= 0 or not mask.any():
        return mask.copy()
    return distance_mm(mask, grid, margin_mm) <= margin_mm + 1e-6


def distance_mm(mask: BoolArray, grid: Grid, reach_mm: float) -> NDArray[np.float32]:
    """Return each voxel's distance to the mask in mm, (Z, Y, X); exact up to ``reach_mm``, infinite far beyond.

    Args:
        mask: (Z, Y, X), at least one voxel.
        grid: Its lattice.
        reach_mm: Distances beyond this are not needed; it bounds the work.
    """
    result = np.full(mask.shape, np.inf, dtype=np.float32)
    box = box_around(mask, grid, reach_mm)
    result[box] = ndimage.distance_transform_edt(~mask[box], sampling=grid.spacing_zyx_mm)
    return result


def faded(occupancy: NDArray[np.floating] | BoolArray, grid: Grid) -> NDArray[np.float32]:
    """Return a mask (Z, Y, X), 0 to 1, with the soft border of ``EDGE_MM`` that tumors have."""
    sigmas = [EDGE_MM / spacing for spacing in grid.spacing_zyx_mm]
    return np.asarray(ndimage.gaussian_filter(np.asarray(occupancy, dtype=np.float32), sigmas), dtype=np.float32)


def box_around(mask: BoolArray, grid: Grid, margin_mm: float) -> tuple[slice, slice, slice]:
    """Return the box (z, y, x) of a mask that is not empty, widened by a margin and cut to the grid."""
    found = []
    for axis, spacing in enumerate(grid.spacing_zyx_mm):
        others = tuple(other for other in range(3) if other != axis)
        occupied = np.flatnonzero(mask.any(axis=others))
        margin = int(np.ceil(margin_mm / spacing))
        found.append(slice(max(0, int(occupied[0]) - margin), min(mask.shape[axis], int(occupied[-1]) + margin + 1)))
    return found[0], found[1], found[2]


def cropped_grid(grid: Grid, box: tuple[slice, slice, slice]) -> Grid:
    """Return the grid of a box (z, y, x) of a grid."""
    z, y, x = box
    return grid.cropped((x.start, y.start, z.start), (x.stop - x.start, y.stop - y.start, z.stop - z.start))


def inpainting_mask(tumor: BoolArray, liver: BoolArray, grid: Grid, *, margin_mm: float, rim_mm: float) -> BoolArray:
    """Return the region to fill: the dilated tumor, within the liver and a rim around it; the tumor always.

    Args:
        tumor: (Z, Y, X).
        liver: (Z, Y, X).
        grid: Their lattice.
        margin_mm: Dilation of the tumor, which also covers it where other phases show it displaced.
        rim_mm: How far beyond the liver.
    """
    allowed = dilate_mm(liver | tumor, grid, rim_mm)
    return (dilate_mm(tumor, grid, margin_mm) & allowed) | tumor


def _place(
    free: BoolArray, grid: Grid, config: TumorMaskConfig, rng: np.random.Generator
) -> tuple[BoolArray, TumorShape]:
    if not free.any():
        raise InputError("The liver has no free voxel", expected="a liver mask with room for a tumor")
    room = box_around(free, grid, min(grid.spacing_mm))  # with a voxel around the liver, which says where it ends
    depth = ndimage.distance_transform_edt(free[room], sampling=grid.spacing_zyx_mm)
    deepest = float(depth.max())
    reason = f"the deepest free voxel lies {deepest:.0f} mm below the surface"
    for _ in range(config.tries):
        radius = _draw_radius(config, rng)
        center = _draw_center(free[room], depth, cropped_grid(grid, room), radius, config, rng)
        if center is None:
            continue
        radii = radius * rng.uniform(1 - config.axis_spread, 1 + config.axis_spread, 3)
        box, shape = _draw_shape(grid, center, radii, config, rng)
        inside = shape & free[box]
        if inside.any() and inside.sum() >= config.minimum_inside * shape.sum():
            tumor = np.zeros_like(free)
            tumor[box] = _largest_part(inside)
            return tumor, TumorShape(_three(center), _three(radii))
        reason = f"a tumor of {2 * radius:.0f} mm would leave the liver or meet an obstacle"
    raise InputError(
        f"No room for a tumor in {config.tries} tries: {reason}",
        expected="free liver around the center, as large as the tumor",
        remedy="Choose a smaller diameter, fewer tumors or another center",
    )


def _draw_radius(config: TumorMaskConfig, rng: np.random.Generator) -> float:
    if config.diameter_mm:
        return float(rng.uniform(*config.diameter_mm)) / 2
    if config.sizes:
        drawn = config.sizes.median_mm * np.exp(config.sizes.spread * rng.standard_normal())
        return float(np.clip(drawn, config.sizes.smallest_mm, config.sizes.largest_mm)) / 2
    weights = np.array(config.class_weights) / sum(config.class_weights)
    return float(rng.choice(config.radius_classes_mm, p=weights))


def _draw_center(
    free: BoolArray,
    depth: FloatArray,
    grid: Grid,
    radius: float,
    config: TumorMaskConfig,
    rng: np.random.Generator,
) -> FloatArray | None:
    """Return a world position (3,), or None when no place is deep enough for this radius."""
    if config.center_mm:
        center = np.array(config.center_mm)
        index = np.rint(grid.to_index(center)).astype(int)[::-1]
        if (index < 0).any() or (index >= free.shape).any() or not free[tuple(index)]:
            raise InputError(
                f"The tumor's center ({', '.join(f'{value:.0f}' for value in center)}) mm lies outside the free liver",
                expected="a world position (LPS) inside the liver mask",
            )
        return center
    places = np.flatnonzero(depth >= min(KEPT_INSIDE * radius, float(depth.max())))
    if float(depth.max()) < KEPT_INSIDE * radius:
        return None
    index = np.array(np.unravel_index(places[rng.integers(places.size)], free.shape))
    return grid.to_world(index[::-1].astype(float) + rng.uniform(-0.5, 0.5, 3))


def _draw_shape(
    grid: Grid, center: FloatArray, radii: FloatArray, config: TumorMaskConfig, rng: np.random.Generator
) -> tuple[tuple[slice, slice, slice], BoolArray]:
    """Return a box of the grid and the shape's voxels in it; at least the voxel of the center."""
    radius = float(radii.mean())
    growth = config.elasticity * min(1.0, radius / max(config.radius_classes_mm))
    reach = float(radii.max()) * (1 + config.lobulation) + growth * radius
    middle = grid.to_index(center)[::-1]
    nearest = np.clip(np.rint(middle).astype(int), 0, np.array(grid.shape) - 1)
    steps = np.ceil(reach / np.array(grid.spacing_zyx_mm)).astype(int) + 1
    low, high = np.maximum(nearest - steps, 0), np.minimum(nearest + steps + 1, grid.shape)
    index = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), axis=-1)
    offset = grid.to_world(index[..., ::-1].astype(float)) - center  # (Z, Y, X, 3) in mm
    offset = offset + growth * radius * _elastic(offset / reach, rng)
    rotated = offset @ Rotation.random(random_state=rng).as_matrix()
    inside = np.linalg.norm(rotated / radii, axis=-1) <= _surface(rotated, config.lobulation, rng)
    inside[tuple(nearest - low)] = True
    return (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])), inside


def _elastic(position: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return a smooth random displacement, at most about one, at positions in [-1, 1]^3."""
    noise = rng.standard_normal((3, LATTICE, LATTICE, LATTICE))
    smooth = np.stack([ndimage.gaussian_filter(part, ELASTIC_SCALE * (LATTICE - 1) / 2, mode="wrap") for part in noise])
    smooth = smooth / (2.0 * smooth.std())
    at = np.moveaxis((position + 1) * (LATTICE - 1) / 2, -1, 0)
    return np.stack([ndimage.map_coordinates(part, at, order=1, mode="nearest") for part in smooth], axis=-1)


def _surface(rotated: FloatArray, lobulation: float, rng: np.random.Generator) -> FloatArray:
    """Return the relative radius in each direction: one, with lobes."""
    length = np.maximum(np.linalg.norm(rotated, axis=-1, keepdims=True), 1e-6)
    axes = rng.standard_normal((LOBES, 3))
    axes = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    heights = rng.uniform(-1, 1, LOBES)
    lobes = np.exp(LOBE_SHARPNESS * ((rotated / length) @ axes.T - 1)) @ heights
    return np.asarray(1.0 + lobulation * lobes)


def _largest_part(mask: BoolArray) -> BoolArray:
    labels, count = ndimage.label(mask)
    if count <= 1:
        return mask
    return np.asarray(labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:])))


def _three(values: FloatArray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
