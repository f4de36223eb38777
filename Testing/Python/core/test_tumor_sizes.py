"""Sizes are fitted to lesions and drawn again as they were."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import ball
from Diff4MMLiTSLib.core.config import SizeDistribution, TumorMaskConfig
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.grid import Grid
from Diff4MMLiTSLib.core.tumor_mask import draw_tumors
from Diff4MMLiTSLib.core.tumor_sizes import fit_sizes, lesion_diameters_mm

GRID = Grid((60, 50, 40), (2.0, 2.0, 3.0))


def test_each_lesion_of_a_mask_has_a_diameter():
    first = ball(GRID, np.add(GRID.center_mm, (-30.0, 0.0, 0.0)), 8.0)
    second = ball(GRID, np.add(GRID.center_mm, (25.0, 0.0, 0.0)), 16.0)
    assert sorted(lesion_diameters_mm(first | second, GRID)) == pytest.approx([16.0, 32.0], rel=0.08)
    assert lesion_diameters_mm(np.zeros_like(first), GRID) == ()


def test_a_log_normal_distribution_is_found_again():
    rng = np.random.default_rng(0)
    sizes = fit_sizes(20.0 * np.exp(0.5 * rng.standard_normal(400)))
    assert sizes.median_mm == pytest.approx(20.0, rel=0.1)
    assert sizes.spread == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("diameter_mm", [7.3, 11.7, 12.9, 23.1])
def test_lesions_of_one_size_are_a_distribution_too(diameter_mm):
    sizes = fit_sizes([diameter_mm] * 6)
    assert sizes.smallest_mm == sizes.median_mm == sizes.largest_mm == diameter_mm


def test_few_lesions_tell_no_distribution():
    with pytest.raises(InputError, match="3 lesions"):
        fit_sizes([10.0, 20.0, 30.0])


def test_masks_have_the_sizes_of_the_distribution():
    liver = ball(GRID, GRID.center_mm, 55.0)
    sizes = SizeDistribution(median_mm=20.0, spread=0.3, smallest_mm=12.0, largest_mm=30.0)
    config = TumorMaskConfig(sizes=sizes, axis_spread=0.0)
    rng = np.random.default_rng(1)
    drawn = [draw_tumors(liver, GRID, config=config, rng=rng).shapes[0].diameter_mm for _ in range(30)]
    assert np.median(drawn) == pytest.approx(20.0, rel=0.2)
    assert 12.0 - 1e-6 <= min(drawn) < max(drawn) <= 30.0 + 1e-6
    assert np.std(np.log(drawn)) > 0.15
