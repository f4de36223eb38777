"""How large the tumors of a cohort are, as a distribution that random masks can be drawn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .config import SizeDistribution
from .errors import InputError
from .grid import Grid

FEWEST_LESIONS = 5
"""Fewer do not tell a spread."""
TOUCHING = np.ones((3, 3, 3))


def lesion_diameters_mm(tumor: NDArray[np.bool_], grid: Grid) -> tuple[float, ...]:
    """Return the diameter of the ball of the volume of each lesion of a mask (Z, Y, X)."""
    labels, _ = ndimage.label(tumor, structure=TOUCHING)
    volumes_mm3 = np.bincount(labels.ravel())[1:] * grid.voxel_ml * 1000.0
    return tuple(float(value) for value in np.cbrt(6.0 * volumes_mm3 / np.pi))


def fit_sizes(diameters_mm: Sequence[float]) -> SizeDistribution:
    """Fit a log-normal distribution, which lesion sizes follow closely, between the smallest and the largest seen.

    Raises:
        InputError: Fewer than ``FEWEST_LESIONS``.
    """
    if len(diameters_mm) < FEWEST_LESIONS:
        raise InputError(
            f"{len(diameters_mm)} lesions to fit a size distribution to",
            expected=f"at least {FEWEST_LESIONS}",
            remedy="Give a larger cohort, or choose size classes (tumor.class_weights)",
        )
    logarithms = np.log(np.asarray(diameters_mm))
    return SizeDistribution(
        median_mm=float(np.exp(logarithms.mean())),
        spread=float(logarithms.std(ddof=1)),
        smallest_mm=float(min(diameters_mm)),
        largest_mm=float(max(diameters_mm)),
    )
