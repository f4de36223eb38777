"""Surfaces of masks as weighted points, and the distances between two of them in millimeters.

The definition is that of the common surface-distance measures, so numbers compare with published ones: a surface point
lies at every corner where the eight voxels around it are neither all inside nor all outside; it stands for the area
of the marching-cubes surface inside the cube that joins the eight voxel centers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, spatial

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Corner = tuple[int, int, int]

CORNERS: tuple[Corner, ...] = tuple((z, y, x) for z, y, x in product((0, 1), repeat=3))
"""Offsets (z, y, x) of the eight voxels around a surface point; corner k is bit k of a neighborhood's code."""
HALF_CUBE = 4
"""A neighborhood with more voxels inside is triangulated as its complement: the surface between both is the same."""


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """From each surface point of one mask to the nearest surface point of the other.

    Args:
        predicted_mm: Distances (N,), mm, from the predicted surface to the true one, ascending.
        predicted_mm2: Area (N,), mm², that each of these points stands for.
        truth_mm: Distances (M,), mm, from the true surface to the predicted one, ascending.
        truth_mm2: Area (M,), mm², that each of these points stands for.
    """

    predicted_mm: FloatArray
    predicted_mm2: FloatArray
    truth_mm: FloatArray
    truth_mm2: FloatArray


def surface_distances(
    predicted: BoolArray, truth: BoolArray, spacing_zyx_mm: tuple[float, float, float]
) -> SurfaceDistances:
    """Measure the distances between the surfaces of two masks, neither of them empty.

    Args:
        predicted: Mask (Z, Y, X).
        truth: Mask (Z, Y, X) on the same lattice.
        spacing_zyx_mm: Distance of voxel centers along Z, Y, X.
    """
    predicted_points, predicted_mm2 = surface_points(predicted, spacing_zyx_mm)
    truth_points, truth_mm2 = surface_points(truth, spacing_zyx_mm)
    return SurfaceDistances(
        *_ascending(_nearest_mm(predicted_points, truth_points, spacing_zyx_mm), predicted_mm2),
        *_ascending(_nearest_mm(truth_points, predicted_points, spacing_zyx_mm), truth_mm2),
    )


def surface_dice(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """Return the part of both surfaces, by area, that lies within a distance of the other surface (NSD)."""
    near = distances.predicted_mm2[distances.predicted_mm <= tolerance_mm].sum()
    near += distances.truth_mm2[distances.truth_mm <= tolerance_mm].sum()
    return float(near / (distances.predicted_mm2.sum() + distances.truth_mm2.sum()))


def hausdorff_mm(distances: SurfaceDistances, percentile: float) -> float:
    """Return the larger of the two directed distances that ``percentile`` percent of a surface's area stays within."""
    directed = (distances.predicted_mm, distances.predicted_mm2), (distances.truth_mm, distances.truth_mm2)
    return max(_weighted_percentile(values, weights, percentile) for values, weights in directed)


def surface_points(mask: BoolArray, spacing_zyx_mm: tuple[float, float, float]) -> tuple[NDArray[np.intp], FloatArray]:
    """Return the surface points of a mask: voxel-corner indices (N, 3) in Z, Y, X, and the area (N,) of each in mm²."""
    padded = np.pad(mask.astype(np.uint8), 1)  # what lies outside the image is outside the structure
    shape = tuple(size - 1 for size in padded.shape)
    codes = np.zeros(shape, dtype=np.uint8)
    for bit, corner in enumerate(CORNERS):
        window = tuple(slice(start, start + size) for start, size in zip(corner, shape, strict=True))
        codes |= padded[window] << bit
    points = np.argwhere((codes != 0) & (codes != 255))
    return points, _areas_mm2(spacing_zyx_mm)[codes[tuple(points.T)]]


def _nearest_mm(
    points: NDArray[np.intp], others: NDArray[np.intp], spacing_zyx_mm: tuple[float, float, float]
) -> FloatArray:
    tree = spatial.KDTree(others * np.array(spacing_zyx_mm))
    _, nearest = tree.query(points * np.array(spacing_zyx_mm))
    # measured again in whole voxels: a distance of exactly the tolerance must not depend on rounding
    steps = (points - others[nearest]) * np.array(spacing_zyx_mm)
    return np.asarray(np.sqrt((steps * steps).sum(axis=1)))


def _ascending(values: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    order = np.lexsort((weights, values))
    return values[order], weights[order]


def _weighted_percentile(values: FloatArray, weights: FloatArray, percentile: float) -> float:
    cumulative = np.cumsum(weights) / weights.sum()
    index = np.searchsorted(cumulative, percentile / 100.0)
    return float(values[min(int(index), len(values) - 1)])


def _areas_mm2(spacing_zyx_mm: tuple[float, float, float]) -> FloatArray:
    """Return the surface area (256,), mm², that each neighborhood code stands for."""
    depth, height, width = spacing_zyx_mm
    face_mm2 = np.array([height * width, depth * width, depth * height])  # perpendicular to Z, Y, X
    return np.array(
        [sum(np.linalg.norm(np.array(normal) / 8 * face_mm2) for normal in _normals(c)) for c in range(256)]
    )


Normal = tuple[int, int, int]


@cache
def _normals(code: int) -> tuple[Normal, ...]:
    """Return the triangles of a neighborhood: the magnitudes of their area vectors in eighths of a cube's face."""
    cube = np.array([(code >> bit) & 1 for bit in range(8)], dtype=np.uint8).reshape(2, 2, 2)
    labels, count = ndimage.label(1 - cube if cube.sum() > HALF_CUBE else cube)
    pieces = [[tuple(map(int, corner)) for corner in np.argwhere(labels == k)] for k in range(1, count + 1)]
    return tuple(normal for piece in pieces for normal in _piece_normals(piece))  # type: ignore[arg-type]  # as CORNERS


def _piece_normals(corners: list[Corner]) -> tuple[Normal, ...]:
    """Return the triangles that cut one to four connected corners off the cube, through the middles of its edges."""
    edges = [(a, b) for a, b in combinations(corners, 2) if sum(np.abs(np.subtract(a, b))) == 1]
    axes = [int(np.argmax(np.abs(np.subtract(a, b)))) for a, b in edges]
    unused = [axis for axis in range(3) if axis not in axes]
    if len(corners) == 1:
        return ((1, 1, 1),)
    if len(corners) == 2:  # a rectangle along the edge
        return (_without(axes[0]),) * 2
    if len(corners) == 3:  # a pentagon
        return (1, 1, 1), (2, 2, 2), _only(unused[0])
    if unused:  # the four corners of a face
        return (_only(unused[0]),) * 2
    degrees = {corner: sum(corner in edge for edge in edges) for corner in corners}
    if max(degrees.values()) == 3:  # a corner with its three neighbors: a hexagon
        return (1, 1, 1), (1, 1, 1), (2, 2, 2), (2, 2, 2)
    ends = [axis for axis, edge in zip(axes, edges, strict=True) if min(degrees[corner] for corner in edge) == 1]
    return (1, 1, 1), (3, 3, 3), _without(ends[0]), _without(ends[1])  # a chain that turns twice


def _without(axis: int) -> Normal:
    z, y, x = (0 if k == axis else 2 for k in range(3))
    return z, y, x


def _only(axis: int) -> Normal:
    z, y, x = (4 if k == axis else 0 for k in range(3))
    return z, y, x
