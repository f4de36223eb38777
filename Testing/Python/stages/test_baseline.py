from __future__ import annotations

import numpy as np

from conftest import ball
from Diff4MMLiTSLib.core.grid import Grid, Volume
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.study import Mask, MaskSource, RegisteredStudy
from Diff4MMLiTSLib.stages.baseline import threshold_baseline

GRID = Grid((60, 60, 24), (2.0, 2.0, 5.0), (10.0, 20.0, 30.0), (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
LIVER, TUMOR = ball(GRID, GRID.center_mm, 40.0), ball(GRID, GRID.center_mm + 8, 14.0)


def a_study(tumor_hu: float = 70.0) -> RegisteredStudy:
    rng = np.random.default_rng(0)
    values = np.where(TUMOR, tumor_hu, np.where(LIVER, 118.0, -80.0)) + rng.normal(0, 10, GRID.shape)
    return RegisteredStudy("study", {Phase.PVP: Volume(values.astype(np.int16), GRID)}, Phase.PVP)


def dice(one: np.ndarray, two: np.ndarray) -> float:
    return 2 * float((one & two).sum()) / float(one.sum() + two.sum())


def test_a_dark_tumor_in_a_plain_liver_is_found() -> None:
    found = threshold_baseline(a_study())
    assert dice(found.liver.array, LIVER) > 0.8
    assert dice(found.tumor.array, TUMOR) > 0.7


def test_a_liver_without_dark_places_has_no_tumor() -> None:
    assert not threshold_baseline(a_study(tumor_hu=118)).tumor.array.any()


def test_masks_lie_on_the_grid_of_the_study() -> None:
    found = threshold_baseline(a_study())
    assert found.liver.volume.grid == found.tumor.volume.grid == GRID


def test_a_liver_that_is_given_is_used_as_it_is() -> None:
    liver = Mask(Volume(LIVER.astype(np.uint8), GRID), MaskSource.ANNOTATION)
    found = threshold_baseline(a_study(), liver)
    assert found.liver is not liver
    assert np.array_equal(found.liver.array, LIVER)
    assert found.liver.source is MaskSource.ANNOTATION


def test_a_volume_of_air_gives_empty_masks() -> None:
    grid = Grid((20, 20, 20), (3.0, 3.0, 3.0))
    air = RegisteredStudy("air", {Phase.NC: Volume(np.full(grid.shape, -900, dtype=np.int16), grid)}, Phase.NC)
    found = threshold_baseline(air)
    assert not found.liver.array.any()
    assert not found.tumor.array.any()
