"""Tumor masks are made in millimeters, inside the liver, apart from each other; or there is a reason why not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from conftest import ball
from Diff4MMLiTSLib.core.config import TumorMaskConfig
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.grid import Grid
from Diff4MMLiTSLib.core.tumor_mask import dilate_mm, draw_tumors, inpainting_mask

GRID = Grid((50, 50, 25), (2.0, 2.0, 4.0))


@pytest.fixture(scope="module")
def liver():
    return ball(GRID, GRID.center_mm, 45.0)


def draw(liver, seed=0, obstacles=None, **settings):
    rng = np.random.default_rng(seed)
    return draw_tumors(liver, GRID, config=TumorMaskConfig(**settings), rng=rng, obstacles=obstacles)


@pytest.mark.parametrize("margin_mm", [3.0, 5.0, 11.0])
def test_dilation_is_a_ball_in_millimeters_on_an_anisotropic_flipped_grid(a_grid, margin_mm):
    seed = np.zeros(a_grid.shape, dtype=bool)
    seed[6, 10, 12] = True
    center = a_grid.to_world(np.array([12.0, 10.0, 6.0]))
    assert np.array_equal(dilate_mm(seed, a_grid, margin_mm), ball(a_grid, center, margin_mm + 1e-6))


def test_the_inpainting_mask_covers_the_dilated_tumor_in_the_liver_and_all_of_the_tumor(liver):
    tumor = ball(GRID, np.add(GRID.center_mm, (40.0, 0.0, 0.0)), 8.0)  # reaches beyond the liver
    region = inpainting_mask(tumor, liver, GRID, margin_mm=6.0, rim_mm=0.0)
    assert not (tumor & ~region).any()
    assert not (dilate_mm(tumor, GRID, 6.0) & liver & ~region).any()
    assert not (region & ~dilate_mm(tumor, GRID, 6.0)).any()


@pytest.mark.parametrize("seed", range(4))
def test_tumors_lie_in_the_liver_apart_from_obstacles_and_each_other(liver, seed):
    vessel = ball(GRID, GRID.center_mm, 8.0)
    drawn = draw(liver, seed, vessel, tumors=3, diameter_mm=(12.0, 20.0), gap_mm=4.0)
    _, count = ndimage.label(dilate_mm(drawn.mask, GRID, 1.9))
    assert count == len(drawn.shapes) == 3
    assert not (drawn.mask & ~liver).any()
    assert not (drawn.mask & vessel).any()


def test_the_size_is_the_one_that_was_asked_for_on_any_grid(liver):
    fine = Grid((100, 100, 100), (1.0, 1.0, 1.0))
    inside = ball(fine, fine.center_mm, 45.0)
    for grid, free in ((GRID, liver), (fine, inside)):
        volumes = []
        for seed in range(6):
            config = TumorMaskConfig(diameter_mm=(24.0, 24.0), minimum_inside=1.0, axis_spread=0.0)
            drawn = draw_tumors(free, grid, config=config, rng=np.random.default_rng(seed))
            volumes.append(drawn.mask.sum() * grid.voxel_ml)
        assert np.mean(volumes) == pytest.approx(7.2, rel=0.15)  # a ball of 24 mm has 7.2 ml


def test_the_center_is_the_one_that_was_asked_for(liver):
    center = np.add(GRID.center_mm, (10.0, -6.0, 8.0))
    drawn = draw(liver, center_mm=tuple(center), diameter_mm=(20.0, 20.0))
    index = np.argwhere(drawn.mask).mean(axis=0)[::-1]
    assert np.linalg.norm(GRID.to_world(index) - center) < 4.0


def test_large_tumors_are_less_regular_than_small_ones(liver):
    def roughness(diameter):
        parts = []
        for seed in range(5):
            config = {"diameter_mm": (diameter, diameter), "axis_spread": 0.0, "lobulation": 0.0, "minimum_inside": 1.0}
            drawn = draw(liver, seed, **config)
            center = GRID.to_world(np.argwhere(drawn.mask).mean(axis=0)[::-1])
            round_one = ball(GRID, center, diameter / 2)
            parts.append((drawn.mask ^ round_one).sum() / round_one.sum())
        return np.mean(parts)

    assert roughness(50.0) > 1.2 * roughness(16.0)


def test_a_tumor_smaller_than_a_voxel_still_has_one(liver):
    assert draw(liver, diameter_mm=(0.5, 0.5)).mask.sum() == 1


def test_the_same_seed_gives_the_same_mask(liver):
    assert np.array_equal(draw(liver, 7, tumors=2).mask, draw(liver, 7, tumors=2).mask)
    assert not np.array_equal(draw(liver, 7).mask, draw(liver, 8).mask)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"diameter_mm": (140.0, 150.0), "tries": 5}, "No room for a tumor in 5 tries.*smaller"),
        ({"center_mm": (0.0, 0.0, 0.0)}, "center.*outside the free liver"),
    ],
)
def test_where_there_is_no_room_the_reason_is_said(liver, settings, words):
    with pytest.raises(InputError, match=words):
        draw(liver, **settings)


def test_an_empty_liver_is_refused(liver):
    with pytest.raises(InputError, match="no free voxel"):
        draw(np.zeros_like(liver))


@pytest.mark.parametrize("seed", range(8))
def test_a_flat_border_of_the_liver_cuts_no_more_off_a_tumor_than_asked_for(seed):
    grid = Grid((40, 40, 40), (2.0, 2.0, 2.0))
    liver = np.zeros(grid.shape, dtype=bool)
    liver[10:30, 10:30, 10:30] = True
    config = TumorMaskConfig(diameter_mm=(24.0, 24.0), minimum_inside=0.9, axis_spread=0.0, elasticity=0.0)
    drawn = draw_tumors(liver, grid, config=config, rng=np.random.default_rng(seed))
    ball_ml = 4 / 3 * np.pi * 12.0**3 / 1000
    assert drawn.mask.sum() * grid.voxel_ml > 0.8 * ball_ml
    center = np.rint(grid.to_index(np.array(drawn.shapes[0].center_mm))).astype(int)
    assert min(*(center - 10), *(29 - center)) >= 1  # 0.3 radii below the capsule
