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
    same = np.argwhere(np.isclose(windows, inside).all(axis=(3, 4, 5, 6)))
    assert len(same) == 1
    assert not hole[tuple(slice(start, start + size) for start, size in zip(same[0], (6, 8, 8), strict=True))].any()


def test_the_shell_at_the_border_is_lent_too_so_that_texture_can_go_on(phases, hole):
    healthy = healthy_liver(phases, LIVER, hole, SPACING)
    beside = ndimage.binary_dilation(hole, iterations=2) & ~hole
    assert np.isfinite(lend(healthy, hole)[:, beside[BOX]]).all()


def test_the_place_whose_surroundings_are_most_alike_lends(hole):
    smooth = 10 * ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((1, *SHAPE)), (0, 2, 2, 2))
    smooth = smooth.astype(np.float32)
    place = tuple(slice(start, start + 18 - 4) for start in (3, 22, 22))
    own = tuple(slice(start, start + 18 - 4) for start in (3, 5, 5))
    smooth[(slice(None), *place)] = smooth[(slice(None), *own)]
    deviation = np.zeros((1, *SHAPE), dtype=np.float32)
    deviation[(slice(None), *place)] = 7.0
    usable, grain = ~hole, np.zeros((1, 2, *SHAPE), dtype=np.float32)
    usable[:, :21, 21:] = usable[:, 21:, :21] = False
    found = [lend(HealthyLiver(deviation, smooth, grain, usable), hole, seed)[:, hole[BOX]] for seed in range(5)]
    assert np.mean([(values == 7.0).mean() for values in found]) > 0.9


def test_noise_comes_from_where_it_is_as_coarse_as_around_the_hole(hole):
    fine, coarse = (np.random.default_rng(seed).standard_normal(SHAPE) for seed in range(2))
    coarse = ndimage.gaussian_filter(coarse, 1.0)
    beside = np.arange(SHAPE[1])[:, None] < 20
    values = np.where(beside, 10 * coarse / coarse.std(), 10 * fine)
    healthy = healthy_liver(110 + values[None].astype(np.float32), LIVER, hole, SPACING)
    texture = lend(healthy, hole)[0][hole[BOX]].reshape(6, 8, 8)
    assert np.corrcoef(texture[..., 1:].ravel(), texture[..., :-1].ravel())[0, 1] > 0.5


def test_lesions_large_vessels_and_what_was_not_scanned_are_not_lent(phases, hole):
    phases[0, 4:10, 24:32, 24:32] -= 100  # a cyst that nobody has marked
    phases[1, 16:] = -1000
    usable = healthy_liver(phases, LIVER, hole, SPACING).usable
    assert not usable[5:9, 25:31, 25:31].any()
    assert not usable[16:].any()
    assert usable[3:12, 28:39, 4:20].all()


def test_a_hole_too_large_for_one_place_is_lent_in_pieces(phases, hole):
    usable = np.zeros(SHAPE, dtype=bool)
    usable[2:17, 2:7, 24:38] = usable[2:17, 24:38, 2:8] = True  # neither is as wide as the hole
    healthy = healthy_liver(phases, LIVER, hole, SPACING)
    healthy = replace(healthy, usable=usable)
    assert 0.5 < np.isfinite(lend(healthy, hole)[0][hole[BOX]]).mean() <= 1.0


def test_a_liver_without_healthy_places_lends_nothing(phases, hole):
    healthy = healthy_liver(phases, ~LIVER, hole, SPACING)
    assert np.isnan(lend(healthy, hole)).all()
