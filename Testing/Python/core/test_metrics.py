"""Overlap and surface measures of two masks, with fixed rules for empty ones."""

from __future__ import annotations

import time

import numpy as np
import pytest

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.grid import Grid
from Diff4MMLiTSLib.core.metrics import MaskMetrics, bounding_box, compare_masks

GRID = Grid((30, 25, 20), (0.7, 0.7, 2.5))


def box(*edges: tuple[int, int], grid: Grid = GRID) -> np.ndarray:
    mask = np.zeros(grid.shape, dtype=bool)
    mask[tuple(slice(*edge) for edge in edges)] = True
    return mask


def test_equal_masks_agree_perfectly():
    mask = box((3, 9), (5, 15), (5, 20))
    assert compare_masks(mask, mask, GRID) == MaskMetrics(1.0, 1.0, 1.0, 0.0)


def test_both_masks_empty_agree_perfectly():
    empty = np.zeros(GRID.shape, dtype=bool)
    assert compare_masks(empty, empty, GRID) == MaskMetrics(1.0, 1.0, 1.0, 0.0)


@pytest.mark.parametrize("truth_is_empty", [True, False])
def test_one_empty_mask_is_no_agreement_at_the_image_diagonal(truth_is_empty):
    masks = [box((3, 9), (5, 15), (5, 20)), np.zeros(GRID.shape, dtype=bool)]
    result = compare_masks(*(masks if truth_is_empty else masks[::-1]), GRID)
    assert result == MaskMetrics(0.0, 0.0, 0.0, GRID.diagonal_mm)


def test_half_overlapping_boxes_have_the_dice_of_arithmetic():
    result = compare_masks(box((0, 10), (0, 10), (0, 10)), box((5, 15), (0, 10), (0, 10)), GRID)
    assert result.dsc == pytest.approx(0.5)
    assert result.jaccard == pytest.approx(1 / 3)


def test_exchanging_the_masks_changes_nothing():
    rng = np.random.default_rng(2)
    first, second = (rng.random(GRID.shape) > 0.8 for _ in range(2))
    assert compare_masks(first, second, GRID) == compare_masks(second, first, GRID)


def test_what_surrounds_the_structures_changes_nothing():
    first, second = box((3, 9), (5, 15), (5, 20)), box((4, 10), (5, 16), (7, 20))
    large = Grid((50, 45, 40), GRID.spacing_mm)
    padded = [np.pad(mask, 10) for mask in (first, second)]
    assert compare_masks(first, second, GRID) == compare_masks(*padded, large)


def test_numbers_agree_with_independent_implementations():
    """DSC and Jaccard are those of panoptica 2.1.7, DSC, NSD and HD95 those of surface-distance-based-measures 0.1."""
    grid = Grid((26, 22, 14), (0.8, 0.7, 2.5))
    z, y, x = np.indices(grid.shape)
    truth = ((z - 6) / 4.2) ** 2 + ((y - 10) / 7.3) ** 2 + ((x - 12) / 8.1) ** 2 < 1
    predicted = (((z - 7) / 4.6) ** 2 + ((y - 11) / 6.4) ** 2 + ((x - 14) / 9.2) ** 2 < 1) & (x % 7 != 0)
    found = compare_masks(predicted, truth, grid)
    expected = MaskMetrics(0.6774987690792713, 0.5122859270290394, 0.8301666561866107, 3.189043743820395)
    assert vars(found) == pytest.approx(vars(expected), abs=1e-6)


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(InputError, match="shape"):
        compare_masks(np.zeros((2, 3, 4), dtype=bool), np.zeros(GRID.shape, dtype=bool), GRID)


def test_a_small_tumor_in_a_large_volume_is_measured_quickly():
    grid = Grid((512, 512, 300), (0.7, 0.7, 1.0))
    edges = ((100, 130), (200, 240), (200, 240))
    started = time.monotonic()
    assert compare_masks(box(*edges, grid=grid), box(*edges, grid=grid), grid).dsc == 1.0
    assert time.monotonic() - started < 8.0


def test_the_bounding_box_is_tight_and_none_for_nothing():
    assert bounding_box(box((3, 9), (5, 15), (5, 20))) == (slice(3, 9), slice(5, 15), slice(5, 20))
    assert bounding_box(np.zeros((3, 3, 3), dtype=bool)) is None
