from __future__ import annotations

import numpy as np

from Diff4MMLiTSLib.training.clicks import VoxelClick, guidance_maps, simulate_clicks
from Diff4MMLiTSLib.training.patches import Patch, crop_patch
from tiny_models import working_study


def a_patch() -> Patch:
    return crop_patch(working_study(), np.array([12, 12, 12]), (24, 24, 24))


def test_each_click_is_a_ball_of_height_1_in_the_map_of_its_kind() -> None:
    maps = guidance_maps((VoxelClick((2, 3, 4), True), VoxelClick((5, 5, 5), False)), (8, 9, 10), 2.0)
    assert maps.shape == (2, 8, 9, 10)
    assert maps[0, 2, 3, 4] == maps[1, 5, 5, 5] == 1
    assert np.isclose(maps[0, 2, 3, 6], np.exp(-0.5))
    assert np.unravel_index(maps[1].argmax(), maps[1].shape) == (5, 5, 5)


def test_without_clicks_both_maps_are_zero() -> None:
    assert not guidance_maps((), (4, 4, 4), 2.0).any()


def test_a_click_outside_the_window_reaches_in() -> None:
    near, far = (guidance_maps((VoxelClick((z, 2, 2), True),), (5, 5, 5), 1.0)[0].max() for z in (-1, -20))
    assert 0.5 < near < 1
    assert far < 1e-6


def test_simulated_clicks_say_what_the_labels_say() -> None:
    patch, kinds = a_patch(), set()
    for seed in range(30):
        changed, (click,) = simulate_clicks(patch, np.random.default_rng(seed))
        on_lesion = bool(patch.tumor[click.index])
        assert bool(changed.tumor[click.index]) is click.positive
        assert click.positive <= on_lesion
        assert on_lesion or np.array_equal(changed.tumor, patch.tumor)
        kinds.add((click.positive, on_lesion))
    assert kinds == {(True, True), (False, True), (False, False)}


def test_a_lesion_that_is_clicked_on_may_fade_and_nothing_else_does() -> None:
    patch = a_patch()
    for seed in range(10):
        changed, (click,) = simulate_clicks(patch, np.random.default_rng(seed))
        elsewhere = ~patch.tumor
        assert np.array_equal(changed.phases[:, elsewhere], patch.phases[:, elsewhere])
        if click.positive:
            contrast = [
                float(np.ptp([p[2][q].mean() for q in (patch.tumor, patch.liver & elsewhere)]))
                for p in (changed.phases, patch.phases)
            ]
            assert contrast[0] < contrast[1]


def test_a_patch_without_liver_gets_no_click() -> None:
    patch = a_patch()
    empty = Patch(patch.phases, patch.presence, np.zeros_like(patch.liver), np.zeros_like(patch.tumor))
    assert simulate_clicks(empty, np.random.default_rng(0))[1] == ()
