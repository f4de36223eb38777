"""How large the tumors of a cohort are, as a distribution that random masks can be drawn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .config import SizeDistribution
from .errors import InputError
from .grid import Grid
from .lesions import match_lesions

FEWEST_LESIONS = 5
"""Fewer do not tell a spread."""


def lesion_diameters_mm(tumor: NDArray[np.bool_], grid: Grid) -> tuple[float, ...]:
    """Return the diameter of the ball of the volume of each lesion of a mask (Z, Y, X)."""
    return tuple(lesion.diameter_mm for lesion in match_lesions(tumor, tumor, grid).truth)


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
    median_mm = float(np.exp(logarithms.mean()))
    return SizeDistribution(
        median_mm=min(max(median_mm, min(diameters_mm)), max(diameters_mm)),  # of equal sizes it is off by rounding
        spread=float(logarithms.std(ddof=1)),
        smallest_mm=float(min(diameters_mm)),
        largest_mm=float(max(diameters_mm)),
    )
