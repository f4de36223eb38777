"""Healthy liver is lent whole, in all phases from one place, and only where it is healthy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from Diff4MMLiTSLib.core.healthy_liver import HealthyLiver, borrowed_texture, healthy_liver

SHAPE = (20, 40, 40)
SPACING = (2.0, 2.0, 2.0)
HOLE = (slice(6, 12), slice(8, 16), slice(8, 16))
LIVER = np.ones(SHAPE, dtype=bool)
BOX = (slice(0, 18), slice(2, 22), slice(2, 22))


@pytest.fixture
def hole():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[HOLE] = True
    return mask


@pytest.fixture
def phases():
    shared, first, second = (np.random.default_rng(seed).standard_normal(SHAPE) for seed in range(3))
    return np.stack([110 + 8 * shared + 6 * first, 90 + 8 * shared + 6 * second]).astype(np.float32)


def lend(healthy, hole, seed=0):
    return borrowed_texture(healthy, BOX, hole[BOX], np.random.default_rng(seed))


def test_all_phases_come_from_one_healthy_place(phases, hole):
    healthy = healthy_liver(phases, LIVER, hole, SPACING)
    inside = lend(healthy, hole)[:, hole[BOX]].reshape(2, 6, 8, 8)
    windows = np.lib.stride_tricks.sliding_window_view(healthy.deviation, inside.shape)[0]
    same = np.argwhere(np.abs(windows - inside).mean(axis=(3, 4, 5, 6)) < 2)  # other places: 11 HU
    assert len(same) == 1
    assert not hole[tuple(slice(start, start + size) for start, size in zip(same[0], (6, 8, 8), strict=True))].any()


def test_the_shell_at_the_border_is_lent_too_so_that_texture_can_go_on(phases, hole):
    healthy = healthy_liver(phases, LIVER, hole, SPACING)
    beside = ndimage.binary_dilation(hole, iterations=2) & ~hole
    assert np.isfinite(lend(healthy, hole)[:, beside[BOX]]).all()


def test_the_place_whose_surroundings_are_most_alike_lends(hole):
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((1, *SHAPE)), (0, 2, 2, 2))
    own, place = (tuple(slice(start, start + 14) for start in corner) for corner in ((3, 5, 5), (3, 22, 22)))
    smooth[(slice(None), *place)] = smooth[(slice(None), *own)]
    smooth[:, hole] = 0  # what is filled shows nothing
    usable = np.zeros(SHAPE, dtype=bool)
    usable[own] = usable[5:13, 24:34, 24:34] = True  # 27 places
    index = np.arange(usable.size, dtype=np.float32).reshape(1, *SHAPE)
    healthy = HealthyLiver(index, smooth.astype(np.float32), np.zeros((1, 2, *SHAPE), dtype=np.float32), usable & ~hole)
    moved = lend(healthy, hole)[:, hole[BOX]] - index[:, hole]
    assert (moved == 17 * SHAPE[2] + 17).all()


def test_noise_comes_from_where_it_is_as_coarse_as_around_the_hole(hole):
    fine, coarse = (np.random.default_rng(seed).standard_normal(SHAPE) for seed in range(2))
    coarse = ndimage.gaussian_filter(coarse, 1.0)
    beside = np.arange(SHAPE[1])[:, None] < 20
    values = np.where(beside, 10 * coarse / coarse.std(), 10 * fine)
    healthy = healthy_liver(110 + values[None].astype(np.float32), LIVER, hole, SPACING)
    texture = lend(healthy, hole)[0][hole[BOX]].reshape(6, 8, 8)
    assert np.corrcoef(texture[..., 1:].ravel(), texture[..., :-1].ravel())[0, 1] > 0.5


def test_lesions_large_vessels_and_what_was_not_scanned_are_not_lent(phases, hole):
    phases[0, 4:12, 24:32, 24:32] -= 40  # a lesion that nobody has marked, 16 mm
    phases[1, :, 24:29, 4:9] += 80  # a vessel, 10 mm
    phases[1, :, 33:35, :] += 50  # a fine one, 4 x 4 mm
    phases[1, 2:, 33:35, :] -= 50
    phases[1, 16:] = -1000
    usable = healthy_liver(phases, LIVER, hole, SPACING).usable
    assert usable[4:12, 24:32, 24:32].mean() < 0.05
    assert not usable[:, 23:30, 3:10].any()
    assert not usable[16:].any()
    assert usable[1, 33:35, 2:38].all()
    assert usable[3:12, 34:39, 2:38].all()


@pytest.mark.parametrize(("shown", "lent"), [(0, 50), (10, 50), (20, 30), (50, 0), (-20, 50)])
def test_a_vessel_that_the_fill_shows_and_that_is_lent_as_well_counts_once(hole, shown, lent):
    healthy = healthy_liver(np.full((1, *SHAPE), 110, dtype=np.float32), LIVER, hole, SPACING)
    smooth = np.where(hole, shown, 50)[None].astype(np.float32)
    healthy = replace(healthy, smooth=smooth, deviation=np.full_like(smooth, 50))
    assert (lend(healthy, hole)[:, hole[BOX]] == lent).all()


def test_a_hole_too_large_for_one_place_is_lent_in_pieces(phases, hole):
    usable = np.zeros(SHAPE, dtype=bool)
    usable[2:17, 2:7, 24:38] = usable[2:17, 24:38, 2:8] = True  # neither is as wide as the hole
    healthy = healthy_liver(phases, LIVER, hole, SPACING)
    healthy = replace(healthy, usable=usable)
    assert np.isfinite(lend(healthy, hole)[0][hole[BOX]]).mean() > 0.85  # one piece: 0.75


def test_a_liver_without_healthy_places_lends_nothing(phases, hole):
    healthy = healthy_liver(phases, ~LIVER, hole, SPACING)
    assert np.isnan(lend(healthy, hole)).all()
