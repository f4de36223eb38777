"""Lesions are found, missed and invented by one rule, whatever their number."""

from __future__ import annotations

import math

import numpy as np
import pytest

from Diff4MMLiTSLib.core.grid import Grid
from Diff4MMLiTSLib.core.lesions import SIZE_NAMES, detection_score, match_lesions, separate_lesions

GRID = Grid((60, 40, 40), (1.0, 1.0, 1.0))


def cube(corner: tuple[int, int, int], edge: int) -> np.ndarray:
    mask = np.zeros(GRID.shape, dtype=bool)
    mask[tuple(slice(start, start + edge) for start in corner)] = True
    return mask


NOTHING = np.zeros(GRID.shape, dtype=bool)
SMALL, LARGE = cube((2, 2, 2), 5), cube((15, 10, 20), 20)


def test_one_found_one_missed_one_invented():
    score = detection_score([match_lesions(SMALL | cube((30, 30, 50), 4), SMALL | LARGE, GRID)])
    assert (score.truth, score.found, score.predicted, score.right) == (2, 1, 2, 1)
    assert (score.recall, score.precision, score.f1) == (0.5, 0.5, 0.5)


def test_two_lesions_drawn_as_one_are_both_found():
    bridge = cube((2, 2, 2), 20)
    match = match_lesions(SMALL | LARGE | bridge, SMALL | LARGE, GRID)
    assert len(match.predicted) == 1
    assert all(lesion.agrees for lesion in match.truth)


def test_one_lesion_drawn_in_two_pieces_is_found_once():
    pieces = LARGE.copy()
    pieces[:, :, 29:31] = False
    score = detection_score([match_lesions(pieces, LARGE, GRID)])
    assert (score.truth, score.found, score.predicted, score.right) == (1, 1, 2, 2)


def test_filling_the_image_finds_nothing():
    score = detection_score([match_lesions(~NOTHING, SMALL, GRID)])
    assert (score.found, score.right) == (0, 0)
    assert score.f1 == 0.0


def test_a_touching_voxel_finds_nothing():
    assert not match_lesions(cube((15, 10, 20), 4), LARGE, GRID).truth[0].agrees


def test_voxels_that_touch_by_a_corner_are_one_lesion():
    assert len(match_lesions(NOTHING, cube((2, 2, 2), 3) | cube((5, 5, 5), 3), GRID).truth) == 1


def test_the_diameter_is_that_of_a_ball_in_mm():
    grid = Grid((60, 60, 40), (0.8, 0.8, 1.5))
    z, y, x = np.indices(grid.shape)
    ball = ((z - 20) * 1.5) ** 2 + ((y - 30) * 0.8) ** 2 + ((x - 30) * 0.8) ** 2 < 15.0**2
    (lesion,) = match_lesions(ball, ball, grid).truth
    assert lesion.diameter_mm == pytest.approx(30.0, rel=0.01)
    assert lesion.volume_ml == pytest.approx(14.137, rel=0.02)
    assert SIZE_NAMES[lesion.size_class] == "20-50 mm"


def test_each_lesion_is_counted_in_one_size_class():
    matches = [match_lesions(SMALL | LARGE, SMALL | LARGE, GRID)]
    assert sum(detection_score(matches, index).truth for index in range(len(SIZE_NAMES))) == 2


def test_without_lesions_nothing_is_defined():
    score = detection_score([match_lesions(NOTHING, NOTHING, GRID)])
    assert all(math.isnan(value) for value in (score.recall, score.precision, score.f1))


def test_lesions_are_separated_the_largest_first_and_add_up_to_the_mask():
    mask = SMALL | LARGE | cube((30, 30, 50), 3)
    lesions = separate_lesions(mask)
    assert [int(lesion.sum()) for lesion in lesions] == [8000, 125, 27]
    np.testing.assert_array_equal(np.any(lesions, axis=0), mask)
    assert separate_lesions(NOTHING) == []
