"""Intervals cover the truth as often as they say, and paired tests see paired differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.statistics import compare_paired, holm, mean_interval, sign_flip_p, wilcoxon_p


def test_intervals_cover_the_true_mean_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    intervals = [mean_interval(rng.normal(0.7, 0.1, 40), rng) for _ in range(200)]
    assert 0.88 <= np.mean([interval.low <= 0.7 <= interval.high for interval in intervals]) <= 0.99


def test_the_same_seed_gives_the_same_interval():
    values = np.linspace(0, 1, 9)
    assert mean_interval(values, np.random.default_rng(3)) == mean_interval(values, np.random.default_rng(3))


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_studies_have_no_interval(count):
    interval = mean_interval(np.full(count, 0.5), np.random.default_rng(0))
    assert math.isnan(interval.low)
    assert interval.count == count


def test_a_constant_gain_is_significant_and_none_is_not():
    rng = np.random.default_rng(1)
    base = rng.random(30)
    assert compare_paired(base + 0.05 + rng.normal(0, 0.01, 30), base, rng).permutation_p < 0.001
    assert compare_paired(base, base, rng).wilcoxon_p == 1.0


def test_few_pairs_are_permuted_exactly():
    assert sign_flip_p(np.array([1.0, 2.0, 3.0]), np.random.default_rng(0)) == pytest.approx(2 / 8)


def test_the_sampled_permutation_agrees_with_scipy():
    differences = np.random.default_rng(4).normal(0.2, 1.0, 40)
    reference = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=9999, rng=np.random.default_rng(0)
    )
    assert sign_flip_p(differences, np.random.default_rng(0)) == pytest.approx(reference.pvalue, abs=0.02)
    assert 0 < wilcoxon_p(differences) < 1


def test_methods_on_different_studies_are_refused():
    with pytest.raises(InputError, match="same studies"):
        compare_paired(np.zeros(3), np.zeros(4), np.random.default_rng(0))


def test_holm_corrects_the_smallest_p_most_and_keeps_their_order():
    assert holm([0.04, 0.01, 0.03, 0.5]) == pytest.approx((0.09, 0.04, 0.09, 0.5))
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == ()
