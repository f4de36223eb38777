"""Each family is recognized by its mean enhancement."""

from __future__ import annotations

import numpy as np
import pytest

from Diff4MMLiTSLib.core.enhancement import TumorFamily, core_of, family_of
from Diff4MMLiTSLib.core.grid import Grid
from Diff4MMLiTSLib.core.phases import ALL_PHASES, Phase

LIVER = (58, 78, 118, 95)


@pytest.mark.parametrize(
    ("tumor_hu", "family"),
    [
        ((48, 115, 105, 80), TumorFamily.HCC),
        ((42, 58, 75, 72), TumorFamily.HYPOVASCULAR),
        ((8, 8, 10, 10), TumorFamily.CYST),
        ((38, 120, 130, 115), TumorFamily.HEMANGIOMA),
    ],
)
def test_typical_enhancement_is_recognized(tumor_hu, family):
    phases = ALL_PHASES
    tumor = dict(zip(phases, tumor_hu, strict=True))
    assert family_of(tumor, dict(zip(phases, LIVER, strict=True)), tumor) is family


def test_a_small_cyst_shows_its_water_in_its_core_only():
    blurred = dict(zip(ALL_PHASES, (23, 29, 41, 34), strict=True))
    water = dict.fromkeys(ALL_PHASES, 10.0)
    assert family_of(blurred, dict(zip(ALL_PHASES, LIVER, strict=True)), water) is TumorFamily.CYST


def test_the_core_of_a_ball_is_a_ball_of_half_its_radius():
    grid = Grid((41, 41, 41), (1.0, 1.0, 1.0))
    distance = np.linalg.norm(np.indices((41, 41, 41)) - 20, axis=0)
    assert (core_of(distance <= 12, grid) ^ (distance <= 6)).sum() < 300  # of 925: a shell of less than half a voxel
    small = np.linalg.norm(np.indices((41, 41, 41)) - 4, axis=0) <= 3
    assert core_of((distance <= 12) | small, grid)[4, 4, 4]
    assert not core_of(np.zeros((41, 41, 41), dtype=bool), grid).any()


def test_one_phase_is_enough_for_an_answer():
    assert family_of({Phase.PVP: 75.0}, {Phase.PVP: 118.0}, {Phase.PVP: 70.0}) is TumorFamily.HYPOVASCULAR
