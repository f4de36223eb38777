"""What is kept of the lesions: copies are recognized, different ones are not, and no image can be had back."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import ball
from Diff4MMLiTSLib.core.enhancement import TumorFamily
from Diff4MMLiTSLib.core.grid import Grid
from Diff4MMLiTSLib.core.known_lesions import describe, flat_contrast, known_lesions
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.tumor_mask import faded

GRID = Grid((30, 28, 26), (2.0, 2.0, 2.0))
FIRST_NUMBERS = (-4.0, -22.0, -2.0, 19.0)


def lesion(seed, radius_mm=8.0):
    rng = np.random.default_rng(seed)
    tumor = ball(GRID, GRID.center_mm, radius_mm)
    curve = rng.normal(-20, 25, (4, 1, 1, 1))
    return (curve * tumor + rng.normal(0, 3, (4, *tumor.shape)) * tumor).astype(np.float32), tumor


def known(*seeds):
    changes = [lesion(seed) for seed in seeds]
    contrasts = [change[:, tumor].mean(axis=1) for change, tumor in changes]
    families = [TumorFamily.HCC if seed % 2 else None for seed in seeds]
    return known_lesions([describe(*change, GRID) for change in changes], contrasts, families, [str(s) for s in seeds])


def test_a_copy_has_no_distance_and_another_lesion_has_one():
    lesions = known(1, 2, 3)
    assert lesions.nearest(*lesion(2), GRID) == pytest.approx(0, abs=1e-3)
    assert lesions.nearest(*lesion(4), GRID) > 0.1
    assert lesions.nearest(2 * lesion(2)[0], lesion(2)[1], GRID) == pytest.approx(1 / 3, abs=0.01)


def test_the_same_lesion_on_a_finer_grid_is_still_a_copy():
    change, tumor = lesion(2)
    fine = Grid((60, 56, 52), (1.0, 1.0, 1.0), tuple(o - 0.5 for o in GRID.origin_mm))
    twice = [np.repeat(np.repeat(np.repeat(a, 2, -1), 2, -2), 2, -3) for a in (change, tumor)]
    assert known(1, 2, 3).nearest(*twice, fine) < 0.15


def test_the_limit_is_the_distance_of_the_most_alike_lesions_of_different_studies():
    lesions = known(1, 2, 3)
    smallest = min(known(a).nearest(*lesion(b), GRID) for a, b in ((1, 2), (1, 3), (2, 3)))
    assert lesions.copy_limit() == pytest.approx(smallest, rel=0.05)
    assert known(1).copy_limit() == 0


def test_families_are_drawn_among_those_that_are_known():
    rng = np.random.default_rng(0)
    assert {known(1, 2).draw_family(rng) for _ in range(5)} == {TumorFamily.HCC}
    assert known(2, 4).draw_family(rng) is None


def test_contrasts_are_drawn_near_those_of_the_family():
    lesions, rng = known(1, 2, 3), np.random.default_rng(0)
    drawn = np.array([lesions.draw_contrast(TumorFamily.HCC, {}, rng) for _ in range(100)])
    distance = np.abs(drawn[:, None] - lesions.contrast_hu[None, [0, 2]]).max(axis=2).min(axis=1)
    assert distance.max() < 0.15 * np.abs(lesions.contrast_hu).max() + 15
    assert drawn.std(axis=0).min() > 2


def test_a_cyst_holds_water_in_every_liver():
    for level_hu in (60.0, 120.0):
        contrast = known(1).draw_contrast(TumorFamily.CYST, {Phase.PVP: level_hu}, np.random.default_rng(0))
        assert -10 < level_hu + contrast[2] < 25


def test_a_phase_that_a_lesion_did_not_show_is_drawn_like_the_others():
    lesions = known(1, 3)
    lesions.contrast_hu[0, 1] = np.nan
    drawn = lesions.draw_contrast(TumorFamily.HCC, {}, np.random.default_rng(0))
    assert np.isfinite(drawn).all()


def test_the_flat_tumor_most_like_a_flat_tumor_has_its_contrast():
    tumor = ball(GRID, GRID.center_mm, 8.0)
    contrast = np.array([-10.0, 30.0, -20.0, 5.0], np.float32)
    assert flat_contrast(contrast[:, None, None, None] * faded(tumor, GRID), tumor, GRID) == pytest.approx(contrast)


def test_a_contrast_is_plausible_near_those_of_the_family_only():
    lesions = known(1, 2)
    typical = float(lesions.contrast_hu[0, 1])
    assert lesions.implausible({Phase.AP: typical + 5}, TumorFamily.HCC) == ()
    assert "AP" in lesions.implausible({Phase.AP: typical + 40}, TumorFamily.HCC)[0]
    assert lesions.implausible({Phase.AP: 999.0}, TumorFamily.HEMANGIOMA) == ()


def test_the_description_stays_the_same_for_ever():
    change, tumor = np.zeros((4, *GRID.shape), np.float32), ball(GRID, GRID.center_mm, 8.0)
    change[1, tumor] = 32
    assert describe(change, tumor, GRID)[:4] == pytest.approx(FIRST_NUMBERS, abs=0.5)
