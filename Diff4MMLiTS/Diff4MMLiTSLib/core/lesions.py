"""Tumors as single lesions: which were found, which were invented, by size.

Lesions are components of the tumor mask that touch by a face, an edge or a corner. One rule decides both ways: a
predicted lesion is *right* when at least a tenth of it lies in true tumor; a true lesion is *found* when right lesions
cover at least a tenth of it. So neither a touching voxel nor a prediction that fills the liver finds a lesion, and two
lesions that were drawn as one are both found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .grid import Grid
from .metrics import bounding_box

LEAST_OVERLAP = 0.1
"""Part of a lesion's volume that must agree for it to be found, or right."""
SIZE_LIMITS_MM: tuple[float, ...] = (10.0, 20.0, 50.0)
"""Limits of the size classes, equivalent-sphere diameter; each belongs to the class above it."""
SIZE_NAMES: tuple[str, ...] = ("<10 mm", "10-20 mm", "20-50 mm", ">=50 mm")
TOUCHING = np.ones((3, 3, 3), dtype=np.uint8)
"""Twenty-six neighbors."""

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Lesion:
    """One component of a tumor mask.

    Args:
        volume_ml: Its volume.
        diameter_mm: Diameter of the ball of that volume.
        overlap: Part of its volume that agrees with the other mask, 0 to 1.
    """

    volume_ml: float
    diameter_mm: float
    overlap: float

    @property
    def agrees(self) -> bool:
        """Whether a true lesion was found, or a predicted one is right."""
        return self.overlap >= LEAST_OVERLAP

    @property
    def size_class(self) -> int:
        """Index into ``SIZE_NAMES``."""
        return int(np.digitize(self.diameter_mm, SIZE_LIMITS_MM))


@dataclass(frozen=True)
class LesionMatch:
    """The lesions of one study.

    Args:
        truth: Every true lesion; ``agrees`` says whether it was found.
        predicted: Every predicted lesion; ``agrees`` says whether it is right.
    """

    truth: tuple[Lesion, ...]
    predicted: tuple[Lesion, ...]


@dataclass(frozen=True)
class DetectionScore:
    """Detection in a set of lesions.

    Args:
        truth: Number of true lesions.
        found: Number of them that were found.
        predicted: Number of predicted lesions.
        right: Number of them that are right.
    """

    truth: int
    found: int
    predicted: int
    right: int

    @property
    def recall(self) -> float:
        """Part of the true lesions that was found; NaN when there is none."""
        return self.found / self.truth if self.truth else float("nan")

    @property
    def precision(self) -> float:
        """Part of the predicted lesions that is right; NaN when there is none."""
        return self.right / self.predicted if self.predicted else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision; 0 when either is 0, else NaN when either is not defined."""
        if (self.truth and not self.found) or (self.predicted and not self.right):
            return 0.0
        return 2 * self.recall * self.precision / (self.recall + self.precision)


def separate_lesions(mask: BoolArray) -> list[BoolArray]:
    """Return the lesions of a tumor mask (Z, Y, X) as masks of their own, the largest first."""
    labels, count = ndimage.label(mask, structure=TOUCHING)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    order = sorted(range(1, count + 1), key=lambda label: -int(sizes[label]))
    return [np.asarray(labels == label) for label in order]


def match_lesions(predicted: BoolArray, truth: BoolArray, grid: Grid) -> LesionMatch:
    """Match the lesions of two tumor masks.

    Args:
        predicted: Mask (Z, Y, X).
        truth: Mask (Z, Y, X).
        grid: The lattice of both.
    """
    box = bounding_box(predicted | truth)
    if box is None:
        return LesionMatch((), ())
    predicted, truth = predicted[box], truth[box]
    labels, predicted_lesions = _lesions(predicted, truth, grid)
    right = np.array([False, *(lesion.agrees for lesion in predicted_lesions)])
    _, truth_lesions = _lesions(truth, right[labels], grid)
    return LesionMatch(truth_lesions, predicted_lesions)


def detection_score(matches: Sequence[LesionMatch], size_class: int | None = None) -> DetectionScore:
    """Count the lesions of several studies, of all sizes or of one class; each lesion is classed by its own size."""
    truth = [lesion for match in matches for lesion in match.truth if size_class in (None, lesion.size_class)]
    predicted = [lesion for match in matches for lesion in match.predicted if size_class in (None, lesion.size_class)]
    return DetectionScore(
        truth=len(truth),
        found=sum(lesion.agrees for lesion in truth),
        predicted=len(predicted),
        right=sum(lesion.agrees for lesion in predicted),
    )


def ball_diameter_mm(volume_ml: float) -> float:
    """Return the diameter of the ball of a volume."""
    return float(np.cbrt(6.0 * volume_ml * 1000.0 / np.pi))


def _lesions(mask: BoolArray, other: BoolArray, grid: Grid) -> tuple[NDArray[np.int32], tuple[Lesion, ...]]:
    labels, count = ndimage.label(mask, structure=TOUCHING)
    voxels = np.bincount(labels.ravel(), minlength=count + 1)
    shared = np.bincount(labels[other], minlength=count + 1)
    lesions = []
    for size, agreeing in zip(voxels[1:], shared[1:], strict=True):
        volume_ml = float(size) * grid.voxel_ml
        lesions.append(Lesion(volume_ml, ball_diameter_mm(volume_ml), float(agreeing / size)))
    return np.asarray(labels), tuple(lesions)
