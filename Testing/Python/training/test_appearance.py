from __future__ import annotations

import numpy as np
import pytest

from Diff4MMLiTSLib.core.config import AugmentationConfig
from Diff4MMLiTSLib.training.appearance import cut_field, vary_appearance

NOTHING = dict.fromkeys(("gain", "offset_hu", "noise_hu", "tissue_hu", "liver_hu", "blur_mm", "field_cut"), 0.0)


def vary(phases: np.ndarray, liver: np.ndarray, *, seed: int = 0, **changes: float) -> np.ndarray:
    augmentation = AugmentationConfig(**{**NOTHING, **changes})
    rng = np.random.default_rng(seed)
    return vary_appearance(phases, liver, augmentation=augmentation, spacing_mm=3.0, rng=rng)


@pytest.fixture
def phases() -> np.ndarray:
    return np.random.default_rng(1).uniform(-100, 200, (4, 8, 9, 10)).astype(np.float32)


@pytest.fixture
def liver() -> np.ndarray:
    mask = np.zeros((8, 9, 10), dtype=bool)
    mask[2:6, 2:6, 2:6] = True
    return mask


def test_without_variation_nothing_changes(phases: np.ndarray, liver: np.ndarray) -> None:
    assert np.array_equal(vary(phases, liver), phases)


def test_the_liver_alone_gets_brighter_or_darker_by_its_own_amount_in_each_phase(
    phases: np.ndarray, liver: np.ndarray
) -> None:
    change = vary(phases, liver, liver_hu=20.0) - phases
    assert not change[:, ~liver].any()
    amounts = [np.unique(np.round(part[liver], 2)) for part in change]
    assert all(len(amount) == 1 for amount in amounts)
    assert len({float(amount[0]) for amount in amounts}) == 4


def test_tissues_of_the_same_value_stay_alike(phases: np.ndarray, liver: np.ndarray) -> None:
    flat = np.where(liver, 100.0, 50.0)[None].repeat(4, axis=0).astype(np.float32)
    varied = vary(flat, liver, tissue_hu=15.0)
    assert all(len(np.unique(part)) == 2 for part in varied)
    assert np.abs(varied - flat).max() > 5


def test_blur_takes_detail_away(phases: np.ndarray, liver: np.ndarray) -> None:
    assert vary(phases, liver, blur_mm=6.0).std() < 0.9 * phases.std()


def test_beyond_the_end_of_the_field_there_is_air_and_no_label(phases: np.ndarray, liver: np.ndarray) -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        cut, (found, tumor) = cut_field(phases, (liver, liver), probability=1.0, rng=rng)
        air = (cut == -1000).all(axis=0)
        assert 0 < air.sum() < 0.6 * air.size
        assert np.array_equal(found, liver & ~air)
        assert np.array_equal(found, tumor)
        assert np.array_equal(cut[:, ~air], phases[:, ~air])


def test_the_field_is_not_cut_where_that_is_not_asked_for(phases: np.ndarray, liver: np.ndarray) -> None:
    cut, masks = cut_field(phases, (liver, liver), probability=0.0, rng=np.random.default_rng(0))
    assert cut is phases
    assert masks[0] is liver
