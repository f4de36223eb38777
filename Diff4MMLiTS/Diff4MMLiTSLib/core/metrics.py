"""How well a predicted mask matches the truth: overlap and surface measures of one structure in one study."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .grid import Grid, Volume
from .surface import hausdorff_mm, surface_dice, surface_distances

NSD_TOLERANCE_MM = 2.0
"""Surfaces this close count as equal; about the disagreement of two readers on a liver tumor's border."""
HAUSDORFF_PERCENTILE = 95.0

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class MaskMetrics:
    """Agreement of a predicted mask with the truth.

    Both masks empty is perfect agreement; one empty mask is none, at a distance of the image diagonal.

    Args:
        dsc: Dice similarity coefficient, 0 to 1.
        jaccard: Intersection over union, 0 to 1.
        nsd_2mm: Part of both surfaces, by area, within 2 mm of the other, 0 to 1.
        hd95_mm: 95th percentile, by area, of the distance between the surfaces; the larger of both directions.
    """

    dsc: float
    jaccard: float
    nsd_2mm: float
    hd95_mm: float


METRIC_NAMES: tuple[str, ...] = tuple(MaskMetrics.__dataclass_fields__)


def compare_masks(predicted: BoolArray, truth: BoolArray, grid: Grid) -> MaskMetrics:
    """Compare two masks of one structure.

    Args:
        predicted: Mask (Z, Y, X).
        truth: Mask (Z, Y, X).
        grid: The lattice of both.

    Returns:
        All metrics; see ``MaskMetrics`` for empty masks.
    """
    for mask in (predicted, truth):
        Volume(mask, grid)  # refuses a mask of another shape
    box = bounding_box(predicted | truth)
    if box is None:
        return MaskMetrics(1.0, 1.0, 1.0, 0.0)
    predicted, truth = predicted[box], truth[box]
    if not predicted.any() or not truth.any():
        return MaskMetrics(0.0, 0.0, 0.0, grid.diagonal_mm)
    shared, both = int((predicted & truth).sum()), int(predicted.sum()) + int(truth.sum())
    distances = surface_distances(predicted, truth, grid.spacing_zyx_mm)
    return MaskMetrics(
        dsc=2.0 * shared / both,
        jaccard=shared / (both - shared),
        nsd_2mm=surface_dice(distances, NSD_TOLERANCE_MM),
        hd95_mm=hausdorff_mm(distances, HAUSDORFF_PERCENTILE),
    )


def bounding_box(mask: BoolArray) -> tuple[slice, slice, slice] | None:
    """Return the smallest box (Z, Y, X) that holds a mask (Z, Y, X); None when it is empty."""
    first, last = [], []
    for axis in range(3):
        others = tuple(k for k in range(3) if k != axis)
        occupied = np.flatnonzero(mask.any(axis=others))
        if not occupied.size:
            return None
        first.append(int(occupied[0]))
        last.append(int(occupied[-1]) + 1)
    return slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2])
