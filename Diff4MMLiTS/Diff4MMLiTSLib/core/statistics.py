"""How sure a mean over studies is, and whether two methods differ on the same studies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .errors import InputError

CONFIDENCE = 0.95
BOOTSTRAP_RESAMPLES = 2000
"""Enough that the limits of an interval repeat to about a hundredth of its width."""
PERMUTATIONS = 10_000
EXACT_UP_TO = 13
"""Pairs whose 2^n sign patterns are all tried; more are sampled."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Args:
        mean: The mean over studies.
        low: Lower limit of the 95 % interval; NaN for fewer than two studies.
        high: Upper limit.
        count: Number of studies.
    """

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class PairedComparison:
    """Two methods on the same studies.

    Args:
        difference: Mean of first minus second, with its interval.
        wilcoxon_p: Two-sided p of Wilcoxon's signed-rank test.
        permutation_p: Two-sided p of the sign-flip test of the mean difference.
    """

    difference: Interval
    wilcoxon_p: float
    permutation_p: float


def mean_interval(values: FloatArray, rng: np.random.Generator) -> Interval:
    """Return the mean of one value per study (S,) with its bootstrap percentile interval over studies."""
    return bootstrap(np.asarray(values, dtype=np.float64), np.mean, rng)


def bootstrap(values: FloatArray, statistic: Callable[..., object], rng: np.random.Generator) -> Interval:
    """Return a statistic with its bootstrap percentile interval over studies.

    Args:
        values: One row per study, (S,) or (S, K).
        statistic: Called as ``statistic(values, axis=0)`` with (..., S) moved to the front: (S, R) or (S, R, K); NaN
            where a resample does not define it.
        rng: Draws the studies.

    Returns:
        The statistic of all studies, and the limits over the resamples that define it.
    """
    count = len(values)
    if not count:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    center = float(np.asarray(statistic(values, axis=0)))
    if count < 2:
        return Interval(center, float("nan"), float("nan"), count)
    drawn = rng.integers(0, count, size=(count, BOOTSTRAP_RESAMPLES))
    resampled = np.asarray(statistic(values[drawn], axis=0), dtype=np.float64)
    resampled = resampled[np.isfinite(resampled)]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(resampled, (tail, 100 - tail)) if resampled.size else (np.nan, np.nan)
    return Interval(center, float(low), float(high), count)


def compare_paired(first: FloatArray, second: FloatArray, rng: np.random.Generator) -> PairedComparison:
    """Compare two methods by one value per study.

    Args:
        first: Values (S,) of the first method.
        second: Values (S,) of the second, the same studies in the same order.
        rng: Draws the resamples and the signs.

    Raises:
        InputError: The numbers of studies differ, or there is none.
    """
    if first.shape != second.shape or not first.size:
        raise InputError(
            f"{first.size} against {second.size} studies", expected="the same studies, at least one, for both methods"
        )
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return PairedComparison(mean_interval(differences, rng), wilcoxon_p(differences), sign_flip_p(differences, rng))


def wilcoxon_p(differences: FloatArray) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test; 1 when nothing differs."""
    if not np.any(differences):
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p values corrected for their number, in their order (Holm 1979)."""
    count = len(p_values)
    order = sorted(range(count), key=lambda index: p_values[index])
    corrected, largest = [0.0] * count, 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (count - rank) * p_values[index]))
        corrected[index] = largest
    return tuple(corrected)


def sign_flip_p(differences: FloatArray, rng: np.random.Generator) -> float:
    """Return the two-sided p of the mean under random exchange of the two methods in each study.

    All patterns of signs are tried for few studies; else they are drawn, and the observed one counts among them.
    """
    count = len(differences)
    if count <= EXACT_UP_TO:
        patterns = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    else:
        patterns = rng.integers(0, 2, size=(PERMUTATIONS, count))
        patterns[0] = 0
    sums = np.abs((1 - 2 * patterns) @ differences)
    return float(np.mean(sums >= np.abs(differences.sum()) * (1 - 1e-12)))
