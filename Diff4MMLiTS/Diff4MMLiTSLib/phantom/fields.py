"""Smooth fields on a lattice, point sets in the patient, and the implicit shapes that everything is built from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..core.grid import Grid

FloatArray = NDArray[np.float32]
RealArray = NDArray[np.floating]
Point = tuple[float, float, float]

BOX_LOW_MM: Point = (-280.0, -260.0, -280.0)
"""Lowest corner (x, y, z) of the box around the body in which random fields are drawn."""
BOX_HIGH_MM: Point = (280.0, 200.0, 280.0)
"""Highest corner of that box."""
TILE_OVERSAMPLING = 1.5
"""Lattice points per correlation length of a repeating field."""


@dataclass(frozen=True, eq=False)
class Field:
    """A scalar or vector field: the trilinear interpolant of values on a regular lattice.

    Args:
        values: Samples, (C, Z, Y, X), float32.
        origin_mm: Position (x, y, z) of the first sample.
        spacing_mm: Distance of the samples along every axis.
        periodic: Whether the field repeats beyond the lattice; else it stays constant there.
    """

    values: FloatArray
    origin_mm: Point
    spacing_mm: float
    periodic: bool = False

    def on_axes(self, x_mm: FloatArray, y_mm: FloatArray, z_mm: FloatArray) -> FloatArray:
        """Return the field on the product of three axes, (C, len(z), len(y), len(x))."""
        result = self.values
        for axis, (coordinate, origin) in enumerate(
            zip((z_mm, y_mm, x_mm), reversed(self.origin_mm), strict=True), start=1
        ):
            result = _interpolate_axis(result, (coordinate - origin) / self.spacing_mm, axis, self.periodic)
        return result

    def at(self, points_mm: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the field at scattered points (N, 3) in x, y, z order, as (N, C)."""
        index = ((np.asarray(points_mm) - np.array(self.origin_mm)) / self.spacing_mm).T[::-1]
        mode: Literal["grid-wrap", "nearest"] = "grid-wrap" if self.periodic else "nearest"
        samples = [ndimage.map_coordinates(channel, index, order=1, mode=mode) for channel in self.values]
        return np.stack(samples, axis=-1).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Points:
    """A block of sample points in the patient's frame (x left, y back, z up; mm).

    Args:
        x: Left coordinate of every point, (Z, Y, X).
        y: Posterior coordinate.
        z: Superior coordinate.
        slices: Where the block lies in the array that is being painted.
    """

    x: FloatArray
    y: FloatArray
    z: FloatArray
    slices: tuple[slice, slice, slice]

    def box(self, low: Point, high: Point, margin_mm: float = 3.0) -> Points | None:
        """Return the sub-block that holds all points between two corners, or None when there is none."""
        parts = []
        for coordinate, lowest, highest, axis in zip(
            (self.z, self.y, self.x), low[::-1], high[::-1], range(3), strict=True
        ):
            others = tuple(other for other in range(3) if other != axis)
            reach = (coordinate.max(axis=others) > lowest - margin_mm) & (
                coordinate.min(axis=others) < highest + margin_mm
            )
            hits = np.flatnonzero(reach)
            if hits.size == 0:
                return None
            parts.append(slice(int(hits[0]), int(hits[-1]) + 1))
        inner = (parts[0], parts[1], parts[2])
        outer = tuple(
            slice(whole.start + part.start, whole.start + part.stop)
            for whole, part in zip(self.slices, inner, strict=True)
        )
        return Points(self.x[inner], self.y[inner], self.z[inner], (outer[0], outer[1], outer[2]))


Shape = Callable[[Points], FloatArray]
"""A signed distance (approximate, mm): negative inside."""


def smooth_noise(
    rng: np.random.Generator, *, length_mm: float, channels: int = 1, tile_mm: float | None = None
) -> Field:
    """Draw a smooth random field of mean 0 and standard deviation 1.

    Args:
        rng: Source of randomness.
        length_mm: Correlation length (standard deviation of the Gaussian that smooths white noise).
        channels: Number of independent components.
        tile_mm: Period after which the field repeats along every axis; None to cover the body's box without repeating.
    """
    spacing = length_mm / (2 if tile_mm is None else TILE_OVERSAMPLING)
    sides = np.subtract(BOX_HIGH_MM, BOX_LOW_MM) if tile_mm is None else np.full(3, tile_mm)
    shape = [int(np.ceil(side / spacing)) + (tile_mm is None) for side in sides]
    white = rng.standard_normal((channels, *shape[::-1]), dtype=np.float32)
    sigma = length_mm / spacing
    noise = np.stack([ndimage.gaussian_filter(channel, sigma, mode="wrap") for channel in white])
    return Field(noise / noise.std(axis=(1, 2, 3), keepdims=True), BOX_LOW_MM, spacing, tile_mm is not None)


def grid_axes(grid: Grid) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the world coordinates (LPS mm) of an axis-aligned grid's columns, rows and slices."""
    x, y, z = (
        (origin + spacing * np.arange(size)).astype(np.float32)
        for origin, spacing, size in zip(grid.origin_mm, grid.spacing_mm, grid.size, strict=True)
    )
    return x, y, z


def smooth_step(value: RealArray, low: float, high: float) -> FloatArray:
    """Return 0 below ``low``, 1 above ``high``, and a smooth rise between."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def smooth_max(first: RealArray, second: RealArray | float, radius_mm: float) -> FloatArray:
    """Return the maximum of two signed distances (intersection) with the edge rounded over ``radius_mm``."""
    overlap = np.maximum(radius_mm - np.abs(first - second), 0.0)
    return np.asarray(np.maximum(first, second) + overlap * overlap * (0.25 / radius_mm), dtype=np.float32)


def smooth_min(first: RealArray, second: RealArray | float, radius_mm: float) -> FloatArray:
    """Return the minimum of two signed distances (union) with the seam rounded over ``radius_mm``."""
    overlap = np.maximum(radius_mm - np.abs(first - second), 0.0)
    return np.asarray(np.minimum(first, second) - overlap * overlap * (0.25 / radius_mm), dtype=np.float32)


def ellipse(
    x: RealArray, y: RealArray, *, half_x: RealArray | float, half_y: RealArray | float, power: float = 2.0
) -> FloatArray:
    """Return the radial signed distance to a super-ellipse about the origin of the plane."""
    ratio_x, ratio_y = np.abs(x / half_x), np.abs(y / half_y)
    if power == 2.0:
        ratio = np.sqrt(ratio_x * ratio_x + ratio_y * ratio_y)
    else:
        ratio = (ratio_x**power + ratio_y**power) ** (1.0 / power)
    return np.asarray(np.hypot(x, y) * (1.0 - 1.0 / np.maximum(ratio, 1e-3)), dtype=np.float32)


def ellipsoid(points: Points, center: Point, radii: Point, tilt: NDArray[np.float64] | None = None) -> FloatArray:
    """Return the signed distance to an ellipsoid; rows of ``tilt`` (3, 3) are its axes."""
    x, y, z = (points.x - center[0], points.y - center[1], points.z - center[2])
    if tilt is not None:
        turn = tilt.astype(np.float32)
        x, y, z = (row[0] * x + row[1] * y + row[2] * z for row in turn)
    ratio = np.sqrt((x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2)
    steep = np.sqrt((x / radii[0] ** 2) ** 2 + (y / radii[1] ** 2) ** 2 + (z / radii[2] ** 2) ** 2)
    return np.asarray(ratio * (ratio - 1.0) / np.maximum(steep, 1e-6), dtype=np.float32)


def capsule(points: Points, start: Point, end: Point, radii: tuple[float, float]) -> FloatArray:
    """Return the signed distance to a tapering tube with round ends."""
    axis = np.subtract(end, start).astype(np.float32)
    x, y, z = points.x - np.float32(start[0]), points.y - np.float32(start[1]), points.z - np.float32(start[2])
    along = np.clip((x * axis[0] + y * axis[1] + z * axis[2]) / max(float(axis @ axis), 1e-6), 0.0, 1.0)
    distance = np.sqrt((x - along * axis[0]) ** 2 + (y - along * axis[1]) ** 2 + (z - along * axis[2]) ** 2)
    return np.asarray(distance - (radii[0] + along * (radii[1] - radii[0])), dtype=np.float32)


def rotation(angles_deg: Point) -> NDArray[np.float64]:
    """Return the rotation matrix (3, 3) about x, then y, then z."""
    result = np.eye(3)
    for axis, angle in enumerate(np.radians(angles_deg)):
        first, second = [other for other in range(3) if other != axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        result = turn @ result
    return result


def _interpolate_axis(values: FloatArray, position: FloatArray, axis: int, periodic: bool) -> FloatArray:
    size = values.shape[axis]
    position = position % size if periodic else np.clip(position, 0, size - 1)
    lower = np.minimum(position.astype(np.int64), size - (1 if periodic else 2))
    shape = [1] * values.ndim
    shape[axis] = -1
    weight = (position - lower).astype(np.float32).reshape(shape)
    low = np.take(values, lower, axis=axis)
    return np.asarray(low + weight * (np.take(values, (lower + 1) % size, axis=axis) - low))
