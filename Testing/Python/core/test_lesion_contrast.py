from __future__ import annotations

import numpy as np
import pytest

from conftest import ball
from Diff4MMLiTSLib.core.grid import Grid
from Diff4MMLiTSLib.core.lesion_contrast import like_the_core

GRID = Grid((40, 36, 24), (1.5, 1.5, 2.5))
LIVER = ball(GRID, GRID.center_mm, 26.0)
LESION = ball(GRID, GRID.center_mm, 6.0)
REGION = ball(GRID, GRID.center_mm, 11.0)
CORE = ball(GRID, GRID.center_mm, 2.0)


def phases(*contrasts_hu: float, noise_hu: float = 10.0, seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, noise_hu, (len(contrasts_hu), *GRID.shape))
    flat = [np.where(LIVER, 100.0, 0.0) + contrast * LESION for contrast in contrasts_hu]
    return (np.stack(flat) + noise).astype(np.float32)


def dice(one: np.ndarray, two: np.ndarray) -> float:
    return 2 * float((one & two).sum()) / float(one.sum() + two.sum())


def extent(images: np.ndarray, region: np.ndarray = REGION, liver: np.ndarray = LIVER) -> np.ndarray:
    return like_the_core(region, CORE, phases=images, liver=liver, grid=GRID)


@pytest.mark.parametrize("contrast_hu", [-40.0, 40.0])
def test_a_region_around_a_lesion_is_cut_to_it_whether_dark_or_bright(contrast_hu: float) -> None:
    assert dice(REGION, LESION) < 0.5
    assert dice(extent(phases(contrast_hu)), LESION) > 0.85


def test_phases_tell_more_together_than_the_best_of_them() -> None:
    faint = phases(-12.0, 12.0, -12.0, noise_hu=25.0)
    alone = max(dice(extent(faint[index : index + 1]), LESION) for index in range(3))
    assert dice(extent(faint), LESION) > alone + 0.05


def test_a_phase_without_any_contrast_does_no_harm() -> None:
    one, two = phases(-40.0), phases(-40.0, 0.0)
    assert dice(extent(two), LESION) > dice(extent(one), LESION) - 0.05


@pytest.mark.parametrize("count", [1, 4])
def test_what_nothing_sets_off_mostly_keeps_its_region(count: int) -> None:
    kept = [np.array_equal(extent(phases(*[0.0] * count, noise_hu=20.0, seed=seed)), REGION) for seed in range(12)]
    assert sum(kept) > 6


@pytest.mark.parametrize("end_mm", [-12.0, -3.0, 0.0, 4.0])
@pytest.mark.parametrize("contrasts_hu", [(-40.0, -40.0), (-40.0, 40.0)])
def test_a_phase_that_ends_within_the_lesion_is_not_asked(contrasts_hu: tuple[float, float], end_mm: float) -> None:
    images = phases(*contrasts_hu)
    below = GRID.to_world(np.argwhere(np.ones(GRID.shape, dtype=bool))[:, ::-1])[:, 2] < GRID.center_mm[2] + end_mm
    images[1, below.reshape(GRID.shape)] = -1000.0
    assert dice(extent(images), LESION) > 0.85


def test_where_no_phase_shows_the_lesion_the_region_stays() -> None:
    assert np.array_equal(extent(np.full((2, *GRID.shape), -1000.0, dtype=np.float32)), REGION)


def test_without_liver_around_the_region_stays() -> None:
    assert np.array_equal(extent(phases(-40.0), liver=np.zeros_like(LIVER)), REGION)
    assert np.array_equal(extent(phases(-40.0), liver=REGION), REGION)


def test_vessels_in_the_liver_do_not_count_as_parenchyma() -> None:
    images = phases(40.0)
    images[:, :, 5:10] = np.where(LIVER[:, 5:10] & ~REGION[:, 5:10], 300.0, images[:, :, 5:10])
    assert dice(extent(images), LESION) > 0.8


def test_only_the_region_and_the_core_are_looked_at() -> None:
    half = REGION.copy()
    half[:, :, GRID.size[0] // 2 :] = False
    found = extent(phases(-40.0), region=half)
    assert (found <= (half | CORE)).all()
    assert (found >= CORE).all()
