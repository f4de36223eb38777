"""The lesion table: volume, longest axial diameter, enhancement in each phase, and where to look."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist, squareform

from ..core.files import explained
from ..core.phases import ALL_PHASES, Phase
from .scene import SceneStudy
from .segments import liver_id, tumor_ids
from .world import array_of, as_array, local_points, matrix_of, segment_image, world_points

LIVER_SAMPLES = 20_000
"""Voxels of the liver that are looked at; their mean is within 0.2 HU of all of them at a noise of 25 HU."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class LesionMeasures:
    """One row of the table.

    Args:
        number: 1 for the first tumor segment, and so on.
        name: Name of its segment.
        segment_id: Its segment.
        volume_ml: Volume.
        diameter_mm: Longest axial diameter, in one slice.
        mean_hu: Mean of each phase inside the lesion, HU; without phases that do not cover it.
        center_ras_mm: Point inside the lesion for ``JumpSlicesToLocation``, world coordinates.
    """

    number: int
    name: str
    segment_id: str
    volume_ml: float
    diameter_mm: float
    mean_hu: Mapping[Phase, float]
    center_ras_mm: tuple[float, float, float]


def measure_lesions(node: slicer.vtkMRMLSegmentationNode, study: SceneStudy) -> tuple[LesionMeasures, ...]:
    """Measure every tumor segment as it is now, edits included; empty segments are left out.

    Args:
        node: The segmentation.
        study: The phases in which the enhancement is measured; each keeps its own grid and transform.
    """
    rows: list[LesionMeasures] = []
    for segment_id in tumor_ids(node):
        voxels = _voxels(node, segment_id)
        if voxels is not None:
            name = node.GetSegmentation().GetSegment(segment_id).GetName()
            rows.append(_measured(len(rows) + 1, name, segment_id, voxels, study))
    return tuple(rows)


def liver_enhancement(node: slicer.vtkMRMLSegmentationNode, study: SceneStudy) -> dict[Phase, float]:
    """Return the mean of the liver without tumors in each phase, HU: what a lesion's curve is compared with."""
    liver = liver_id(node)
    voxels = _voxels(node, liver, most=LIVER_SAMPLES) if liver else None
    if voxels is None:
        return {}
    points = voxels.world
    for segment_id in tumor_ids(node):
        points = points[~_is_inside(node, segment_id, points)]
    return _mean_hu(points, study)


def write_lesions_csv(lesions: Sequence[LesionMeasures], path: Path) -> None:
    """Write the table as CSV, one row per lesion; an existing file is replaced.

    Raises:
        InputError: The file cannot be written.
    """
    head = ["number", "name", "volume_ml", "longest_axial_diameter_mm", *(f"mean_hu_{phase}" for phase in ALL_PHASES)]
    with explained(path), path.open("w", newline="", encoding="utf-8-sig") as stream:  # the mark is for spreadsheets
        writer = csv.writer(stream)
        writer.writerow([*head, "center_right_mm", "center_anterior_mm", "center_superior_mm"])
        for each in lesions:
            hu = [f"{each.mean_hu[phase]:.1f}" if phase in each.mean_hu else "" for phase in ALL_PHASES]
            center = [f"{value:.1f}" for value in each.center_ras_mm]
            writer.writerow([each.number, each.name, f"{each.volume_ml:.3f}", f"{each.diameter_mm:.1f}", *hu, *center])


@dataclass(frozen=True, eq=False)
class _Voxels:
    """The voxels of a segment.

    Args:
        index: Their indices (N, 3), x, y, z.
        world: Where they lie, (N, 3), RAS mm.
        steps: Voxel index -> world, without the origin, (3, 3), RAS mm.
    """

    index: NDArray[np.int64]
    world: FloatArray
    steps: FloatArray


def _voxels(node: slicer.vtkMRMLSegmentationNode, segment_id: str, *, most: int | None = None) -> _Voxels | None:
    """Return the voxels of a segment, all or about ``most`` of them, evenly; None when it is empty."""
    image = segment_image(node, segment_id)
    if image.IsEmpty() or not array_of(image).any():
        return None
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    to_node = as_array(matrix)
    mask = array_of(image) > 0
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    start = np.array([box[axis].start for axis in (2, 1, 0)])
    inside = np.flatnonzero(mask[box])
    chosen = inside[:: max(1, len(inside) // most)] if most else inside
    index = np.column_stack(np.unravel_index(chosen, mask[box].shape)[::-1]) + start + image.GetExtent()[::2]
    corners = np.vstack([index.mean(axis=0), index.mean(axis=0) + np.eye(3)]) @ to_node[:3, :3].T + to_node[:3, 3]
    moved = world_points(node, corners)
    steps = (moved[1:] - moved[0]).T
    world = world_points(node, index @ to_node[:3, :3].T + to_node[:3, 3])
    return _Voxels(index, world, steps)


def _measured(number: int, name: str, segment_id: str, voxels: _Voxels, study: SceneStudy) -> LesionMeasures:
    volume_ml = len(voxels.index) * abs(float(np.linalg.det(voxels.steps))) / 1000.0
    right, anterior, superior = _center(voxels)
    return LesionMeasures(
        number=number,
        name=name,
        segment_id=segment_id,
        volume_ml=volume_ml,
        diameter_mm=_longest_axial_mm(voxels),
        mean_hu=_mean_hu(voxels.world, study),
        center_ras_mm=(float(right), float(anterior), float(superior)),
    )


def _center(voxels: _Voxels) -> FloatArray:
    """Return the voxel nearest to the centroid: a point of the lesion even where it is bent."""
    distance = np.linalg.norm(voxels.world - voxels.world.mean(axis=0), axis=1)
    return np.asarray(voxels.world[int(distance.argmin())])


def _longest_axial_mm(voxels: _Voxels) -> float:
    """Return the longest distance within one slice, from outer edge to outer edge.

    Slices are those of the axis that lies closest to the patient's; the ends of the line reach half a voxel beyond
    the centers of the outermost voxels.
    """
    axis = int(np.abs(voxels.steps[2] / np.linalg.norm(voxels.steps, axis=0)).argmax())
    others = [each for each in range(3) if each != axis]
    spacing = np.linalg.norm(voxels.steps, axis=0)[others]
    longest = 0.0
    for number in np.unique(voxels.index[:, axis]):
        points = _outermost(voxels.index[voxels.index[:, axis] == number][:, others] * spacing)
        if len(points) == 1:
            longest = max(longest, float(spacing.max()))
            continue
        distances = squareform(pdist(points))
        first, second = np.unravel_index(int(distances.argmax()), distances.shape)
        along = (points[first] - points[second]) / distances[first, second]
        longest = max(longest, float(distances[first, second] + np.linalg.norm(along * spacing)))
    return longest


def _outermost(points: FloatArray) -> FloatArray:
    """Return the corners of the convex hull of points (N, 2); all of them where they have none (a line)."""
    try:
        return np.asarray(points[ConvexHull(points).vertices])
    except (QhullError, ValueError):
        return points


def _mean_hu(points_ras: FloatArray, study: SceneStudy) -> dict[Phase, float]:
    """Return the mean of each phase at world points (N, 3), trilinear; without phases that hold none of them."""
    result = {}
    for phase, volume in study.phases.items():
        to_index = np.linalg.inv(matrix_of(volume))
        index = local_points(volume, points_ras) @ to_index[:3, :3].T + to_index[:3, 3]
        array = array_of(volume.GetImageData())
        inside = ((index > -0.5) & (index < np.array(array.shape[::-1]) - 0.5)).all(axis=1)
        if inside.any():
            values = ndimage.map_coordinates(array, index[inside, ::-1].T, order=1, mode="nearest", output=np.float64)
            result[phase] = float(values.mean())
    return result


def _is_inside(node: slicer.vtkMRMLSegmentationNode, segment_id: str, points_ras: FloatArray) -> NDArray[np.bool_]:
    image = segment_image(node, segment_id)
    if image.IsEmpty():
        return np.zeros(len(points_ras), dtype=bool)
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    to_index = np.linalg.inv(as_array(matrix))
    index = local_points(node, points_ras) @ to_index[:3, :3].T + to_index[:3, 3]
    cell = np.rint(index).astype(int) - image.GetExtent()[::2]
    mask = array_of(image)
    inside: NDArray[np.bool_] = ((cell >= 0) & (cell < np.array(mask.shape[::-1]))).all(axis=1)
    x, y, z = cell[inside].T
    inside[inside] = mask[z, y, x] > 0
    return inside
