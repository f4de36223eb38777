"""Stage 4, corrected by clicks: a positive click adds the lesion that was missed, a negative one removes a component.

The network looks again at one window around the click, with all clicks among its inputs. Of a small lesion it knows the
place better than the extent, which is then cut to what looks like the clicked place. Nothing beyond ``REACH_MM`` of a
click ever changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .. import __version__
from ..core.errors import InputError, MissingError
from ..core.grid import Grid, Volume
from ..core.lesion_contrast import like_the_core
from ..core.lesions import TOUCHING, ball_diameter_mm
from ..core.progress import Progress
from ..core.study import HistoryEntry, Mask, MaskSource, RegisteredStudy, Segmentation
from ..training.clicks import VoxelClick, guidance_maps
from ..training.datasets import stack_on
from ..training.inference import PROBABLE, as_bytes, probabilities
from ..training.search import Found
from ..training.segmenter_task import CLICKS
from .segmentation import MultimodalSegmenter, part_of

REACH_MM = 30.0
"""How far from a click voxels may change: half of the largest lesions that are missed, and more."""
CORE_MM = 2.0
"""Radius of the ball around a positive click that is tumor whatever the network says."""
SMALL_MM = 30.0
"""Diameter up to which the patient's own contrast decides the extent. Larger lesions have rims and dead cores."""
SNAP_MM = 5.0
"""How far beside a component a negative click still means it."""
PART_OF_PEAK = 0.5
LEAST_PROBABLE = 0.1
"""A clicked lesion reaches as far as half the probability at the click: what is unsure is only its extent. Below a
tenth the network sees nothing."""

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Click:
    """A click of a user.

    Args:
        point_mm: World position (LPS).
        positive: "This is tumor"; otherwise "this is none".
    """

    point_mm: tuple[float, float, float]
    positive: bool


def apply_clicks(
    segmenter: MultimodalSegmenter,
    study: RegisteredStudy,
    segmentation: Segmentation,
    clicks: Sequence[Click],
    *,
    progress: Progress,
) -> Segmentation:
    """Correct a segmentation.

    Args:
        segmenter: A model that has learned from clicks.
        study: What was segmented.
        segmentation: On the study's grid; without a probability it gets one from its tumor mask.
        clicks: In the order in which they were made.
        progress: Reports per click.

    Returns:
        A new segmentation with its tumor probability.

    Raises:
        InputError: A segmentation of another grid, no click, or one outside the study.
        MissingError: The model has not learned from clicks.
        OutOfMemoryError: The device's memory is too small.
        CanceledError: The user asked to stop.
    """
    _check(segmenter, study, segmentation, clicks)
    liver, tumor = segmentation.liver.array.copy(), segmentation.tumor.array.copy()
    known = segmentation.probability
    probability = np.array(known.array) if known is not None else 255 * tumor.astype(np.uint8)
    for index, click in enumerate(clicks):
        progress.update(index / len(clicks), f"click {index + 1} of {len(clicks)}")
        change = _change(segmenter, study, (liver, tumor), click, clicks)
        liver[change.box] |= change.added
        tumor[change.box] = (tumor[change.box] | change.added) & ~change.removed
        probability[change.box][change.added] = change.probability[change.added]
        probability[change.box][change.removed] = 0
    progress.update(1.0, "clicked")
    return replace(
        segmentation,
        liver=Mask(Volume(liver.astype(np.uint8), study.grid), MaskSource.MODEL),
        tumor=Mask(Volume(tumor.astype(np.uint8), study.grid), MaskSource.MODEL),
        probability=Volume(probability, study.grid),
        history=(*segmentation.history, _entry(segmenter, clicks)),
    )


@dataclass(frozen=True, eq=False)
class _Change:
    """What one click changes, in a box (z, y, x) of the study.

    Args:
        added: Voxels that become tumor.
        removed: Voxels that are tumor no longer.
        probability: Of tumor where it is added, 0 to 255.
    """

    box: tuple[slice, ...]
    added: BoolArray
    removed: BoolArray
    probability: NDArray[np.uint8]


def _change(
    segmenter: MultimodalSegmenter,
    study: RegisteredStudy,
    masks: tuple[BoolArray, BoolArray],
    click: Click,
    clicks: Sequence[Click],
) -> _Change:
    """Return what a click changes in the masks of liver and tumor."""
    liver, tumor = masks
    box, part = part_of(study.grid, _cube(click))
    distance_mm = _distance_mm(part, click)
    reach = distance_mm <= REACH_MM
    nothing = np.zeros_like(reach)
    if not click.positive:
        return _Change(box, nothing, _component(tumor[box] & reach, part, click), nothing.astype(np.uint8))
    _, found = _look_again(segmenter, study, click, clicks).on(part)
    core = distance_mm <= max(CORE_MM, float(distance_mm.min()))
    added = _grown(found, core, reach)
    if ball_diameter_mm(added.sum() * part.voxel_ml) <= SMALL_MM:
        phases, presence = stack_on(study, part)
        healthy = liver[box] & ~tumor[box]
        added = _piece(like_the_core(added, core, phases=phases[presence > 0], liver=healthy, grid=part), core)
    return _Change(box, added, nothing, as_bytes(np.maximum(found, PROBABLE)))


def check_learned(segmenter: MultimodalSegmenter) -> None:
    """Refuse a model that has not learned from clicks.

    Raises:
        MissingError: It has not.
    """
    if CLICKS not in segmenter.card.numbers:
        raise MissingError(
            f"The model '{segmenter.card.name}' has not learned from clicks",
            expected="a segmenter that was trained with click_fraction above 0",
        )


def _check(
    segmenter: MultimodalSegmenter, study: RegisteredStudy, segmentation: Segmentation, clicks: Sequence[Click]
) -> None:
    check_learned(segmenter)
    if difference := study.grid.difference(segmentation.liver.volume.grid):
        raise InputError(
            f"The segmentation lies on another grid than study '{study.study_id}': {difference}",
            expected="what segment made of this study",
        )
    if not clicks:
        raise InputError("There are no clicks", expected="at least one")
    for click in clicks:
        index = study.grid.to_index(np.array(click.point_mm))
        if not ((index > -0.5) & (index < np.array(study.grid.size) - 0.5)).all():
            raise InputError(
                f"The click at {click.point_mm} mm lies outside study '{study.study_id}'",
                expected="a point inside the volume, LPS, in mm",
            )


def _look_again(segmenter: MultimodalSegmenter, study: RegisteredStudy, click: Click, clicks: Sequence[Click]) -> Found:
    """Return what the network says about the window around a click, knowing all clicks."""
    sight = segmenter.sight
    window = _centered(click, sight.patch, sight.spacing_mm)
    phases, presence = stack_on(study, window)
    sigma = segmenter.card.numbers[CLICKS] / sight.spacing_mm
    guidance = guidance_maps(tuple(_voxel(other, window) for other in clicks), sight.patch, sigma)
    organ, tumor = probabilities(
        segmenter.network, sight.window.normalize(phases)[None], presence, guidance=guidance[None]
    )[0]
    return Found(organ, tumor, window)


def _grown(tumor: NDArray[np.float32], core: BoolArray, reach: BoolArray) -> BoolArray:
    """Return the lesion around a positive click: what is connected to its core and probable enough."""
    peak = float(tumor[core].max())
    probable = tumor >= np.clip(PART_OF_PEAK * peak, LEAST_PROBABLE, PROBABLE)
    return _piece((probable | core) & reach, core)


def _piece(mask: BoolArray, core: BoolArray) -> BoolArray:
    """Return the component of a mask that holds a core."""
    labels, _ = ndimage.label(mask, structure=TOUCHING)
    return np.asarray(labels == labels[core][0])


def _component(tumor: BoolArray, grid: Grid, click: Click) -> BoolArray:
    """Return the component that a negative click means: the nearest one, unless it is too far; else nothing."""
    distance_mm = np.where(tumor, _distance_mm(grid, click), np.inf)
    nearest = np.unravel_index(int(distance_mm.argmin()), distance_mm.shape)
    if distance_mm[nearest] > max(SNAP_MM, *grid.spacing_mm):
        return np.zeros_like(tumor)
    labels, _ = ndimage.label(tumor, structure=TOUCHING)
    return np.asarray(labels == labels[nearest])


def _centered(click: Click, shape: tuple[int, int, int], spacing_mm: float) -> Grid:
    depth, height, width = shape
    size = (width, height, depth)
    x, y, z = (at - (n - 1) / 2 * spacing_mm for at, n in zip(click.point_mm, size, strict=True))
    return Grid(size, (spacing_mm,) * 3, (x, y, z))


def _cube(click: Click) -> Grid:
    return _centered(click, (2, 2, 2), REACH_MM)


def _voxel(click: Click, grid: Grid) -> VoxelClick:
    x, y, z = (round(float(value)) for value in grid.to_index(np.array(click.point_mm)))
    return VoxelClick((z, y, x), click.positive)


def _distance_mm(grid: Grid, click: Click) -> NDArray[np.float64]:
    """Return the distance of every voxel of a grid from a click, (Z, Y, X)."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.size), indexing="ij"), axis=-1).astype(np.float64)
    distance = np.linalg.norm(grid.to_world(index) - np.array(click.point_mm), axis=-1)
    return np.asarray(distance.transpose(2, 1, 0))


def _entry(segmenter: MultimodalSegmenter, clicks: Sequence[Click]) -> HistoryEntry:
    listed = [{"point_mm": list(click.point_mm), "positive": click.positive} for click in clicks]
    models = {segmenter.card.name: segmenter.model_hash}
    return HistoryEntry("click", __version__, config={"clicks": listed}, models=models)
