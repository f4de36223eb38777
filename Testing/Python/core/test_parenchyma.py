"""The parenchyma's level and texture are measured where it is known and restored where they are missing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from Diff4MMLiTSLib.core.parenchyma import (
    compare_texture,
    large_vessels,
    missing_texture,
    parenchyma_level,
    parenchyma_voxels,
    seam_ratio,
)

SHAPE = (24, 36, 36)
SPACING = (3.0, 1.5, 1.5)


def noise(seed, sigma=0.8, deviation=12.0):
    values = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), sigma)
    return (values * deviation / values.std()).astype(np.float32)


@pytest.fixture
def region():
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    return np.linalg.norm((index - np.array(SHAPE) / 2) * SPACING, axis=-1) < 14


def filled(region, remaining=0.0, sigma=0.8):
    """Return parenchyma of 110 HU whose region has only a part of its noise."""
    return np.where(region, 110 + remaining * noise(2, sigma), 110 + noise(1, sigma)).astype(np.float32)


def test_the_level_follows_the_parenchyma_and_not_what_is_unknown(region):
    slope = np.linspace(90, 130, SHAPE[2], dtype=np.float32) + noise(0)
    level = parenchyma_level(np.where(region, 400, slope), ~region, SPACING)
    assert abs(level[region].mean() - 110) < 3
    assert level[..., -4:].mean() - level[..., :4].mean() > 10


def test_what_was_not_scanned_is_no_parenchyma_even_where_it_is_most_of_the_liver(region):
    values = np.where(np.arange(SHAPE[0])[:, None, None] < 16, -1000, 110 + noise(0)).astype(np.float32)
    liver = np.ones(SHAPE, dtype=bool)
    assert not parenchyma_voxels(values, liver, SPACING)[:16].any()
    assert abs(parenchyma_level(values, liver, SPACING)[region].mean() - 110) < 4


def test_vessels_are_no_parenchyma_and_large_ones_are_found():
    values = 110 + noise(0)
    values[:, 10:18, :] += 70  # 12 mm wide
    values[:, 28:30, :] += 70  # 3 mm wide
    everywhere = np.ones(SHAPE, dtype=bool)
    assert parenchyma_voxels(values, everywhere, SPACING)[:, 12:16].mean() < 0.01
    vessels = large_vessels(values, everywhere, SPACING)
    assert vessels[:, 12:16].mean() > 0.95
    assert not vessels[:, 22:].any()


@pytest.mark.parametrize("sigma", [0.5, 1.0])
@pytest.mark.parametrize("remaining", [0.0, 0.5])
def test_missing_texture_restores_deviation_and_correlation(region, sigma, remaining):
    values = filled(region, remaining, sigma)
    added = missing_texture(values, region, ~region, spacing_zyx_mm=SPACING, rng=np.random.default_rng(3))
    result = compare_texture(values + added, region, ~region, SPACING)
    assert not added[~region].any()
    assert result.std_ratio == pytest.approx(1.0, abs=0.2)  # one draw of correlated noise
    assert abs(result.correlation_difference) < 0.12


def test_the_texture_goes_on_without_a_seam(region):
    values = filled(region, sigma=1.2)
    added = missing_texture(values, region, ~region, spacing_zyx_mm=SPACING, rng=np.random.default_rng(3))
    independent = np.where(region, noise(7, 1.2), 0)
    assert seam_ratio(values + independent, region, ~region) > 1.4
    assert seam_ratio(values + added, region, ~region) == pytest.approx(1.0, abs=0.15)


def test_the_slow_part_of_the_noise_comes_back_too(region):
    values = filled(region, sigma=2.5)  # correlated over 4 to 8 mm
    added = missing_texture(values, region, ~region, spacing_zyx_mm=SPACING, rng=np.random.default_rng(3))
    assert (values + added)[region].std() == pytest.approx(12, rel=0.3)


def test_equal_spectra_do_not_differ_and_smooth_texture_does(region):
    alike = compare_texture(110 + noise(1), region, ~region, SPACING)
    smooth = np.where(region, 110 + noise(2, 2.0), 110 + noise(1)).astype(np.float32)
    assert alike.spectrum_difference < 0.35
    assert compare_texture(smooth, region, ~region, SPACING).spectrum_difference > 0.5


def test_texture_that_is_there_is_not_added_again(region):
    values = filled(region, 1.0)
    added = missing_texture(values, region, ~region, spacing_zyx_mm=SPACING, rng=np.random.default_rng(3))
    assert added[region].std() < 0.45 * 12


def test_borrowed_texture_is_used_and_noise_is_drawn_where_none_is_lent(region):
    values, borrowed = filled(region), noise(5)
    borrowed[: SHAPE[0] // 2] = np.nan
    added = missing_texture(
        values, region, ~region, spacing_zyx_mm=SPACING, rng=np.random.default_rng(3), borrowed=borrowed
    )
    lent = ndimage.binary_erosion(region, iterations=3) & np.isfinite(borrowed)  # beside the border it is changed
    drawn = region & np.isnan(borrowed)
    assert np.corrcoef(added[lent], borrowed[lent])[0, 1] > 0.95
    assert added[drawn].std() == pytest.approx(12, rel=0.35)


def test_borrowed_texture_is_not_added_to_texture_that_is_there(region):
    values = filled(region, 1.0)
    added = missing_texture(
        values, region, ~region, spacing_zyx_mm=SPACING, rng=np.random.default_rng(3), borrowed=noise(5)
    )
    assert added[region].std() < 0.45 * 12


def test_a_region_too_small_for_a_spectrum_gets_texture_too(region):
    small = region & (np.random.default_rng(0).random(SHAPE) < 0.03)
    values = np.where(small, 110, 110 + noise(1)).astype(np.float32)
    added = missing_texture(values, small, ~region, spacing_zyx_mm=SPACING, rng=np.random.default_rng(3))
    assert added[small].std() == pytest.approx(12, rel=0.35)


def test_a_step_at_the_border_is_a_seam_and_continuous_noise_is_none(region):
    values = 110 + noise(1)
    assert seam_ratio(values, region, ~region) == pytest.approx(1.0, abs=0.1)
    assert seam_ratio(values + 40 * region, region, ~region) > 1.8


def test_a_lesion_left_behind_is_measured(region):
    values = 110 + noise(1) - 30 * region
    assert compare_texture(values, region, ~region, SPACING).residual_hu == pytest.approx(-30, abs=3)
