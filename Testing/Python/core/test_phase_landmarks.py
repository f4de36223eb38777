"""The organs of an abdomen are found without masks, and what is not there is not found."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from abdomen import LITERATURE_HU, an_abdomen
from Diff4MMLiTSLib.core.grid import Grid, Volume
from Diff4MMLiTSLib.core.phase_landmarks import Landmarks, find_landmarks
from Diff4MMLiTSLib.core.phases import ALL_PHASES, Phase


@pytest.mark.parametrize("phase", ALL_PHASES)
def test_every_organ_is_as_bright_as_it_was_made(phase):
    found, truth = find_landmarks(an_abdomen(phase)), LITERATURE_HU[phase]
    assert found.aorta == pytest.approx(truth["aorta"], rel=0.08, abs=4)
    assert found.cava == pytest.approx(truth["cava"], abs=8)
    assert found.liver == pytest.approx(truth["liver"], abs=4)
    assert found.spleen == pytest.approx(truth["spleen"], abs=5)
    bright, dark = max(truth["cortex"], truth["medulla"]), min(truth["cortex"], truth["medulla"])
    assert found.cortex == pytest.approx(bright, rel=0.2, abs=15)
    assert dark - 30 < found.medulla <= found.cortex


def test_bright_vessels_in_the_liver_are_noticed_and_dark_ones_are_noise():
    dark, bright = (find_landmarks(an_abdomen(Phase.PVP, veins=veins)).portal for veins in (75.0, 185.0))
    assert 0 < dark < 15
    assert bright > dark + 20


def test_the_orientation_of_the_image_does_not_matter():
    ct = an_abdomen(Phase.PVP)
    flipped = np.asarray(ct.array)[::-1, ::-1, :].transpose(1, 0, 2)  # rows and slices exchanged, both reversed
    columns = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, -1.0, 0]])
    size = ct.grid.size
    corner = ct.grid.to_world(np.array([0.0, size[1] - 1.0, size[2] - 1.0]))
    grid = Grid((size[0], size[2], size[1]), ct.grid.spacing_mm, tuple(map(float, corner)), tuple(columns.ravel()))
    again = find_landmarks(Volume(np.ascontiguousarray(flipped), grid))
    assert astuple(again) == pytest.approx(astuple(find_landmarks(ct)), abs=0.5)


def test_kidneys_that_are_not_there_are_not_found():
    found = find_landmarks(an_abdomen(Phase.PVP, cortex=-100.0, medulla=-100.0))
    assert found.cortex is None and found.medulla is None
    assert found.aorta is not None and found.liver is not None


def test_a_stomach_with_oral_contrast_is_not_taken_for_a_kidney():
    found = find_landmarks(an_abdomen(Phase.NC, stomach=250.0))
    assert found.cortex == pytest.approx(35, abs=15)


def test_without_an_abdomen_nothing_is_found():
    ct = an_abdomen(Phase.PVP)
    no_spine = np.where(np.asarray(ct.array) > -500, 40, -1000).astype(np.int16)
    air = np.full_like(no_spine, -1000)
    flat = ct.grid.cropped((0, 0, 0), (118, 86, 8))
    for array, grid in ((no_spine, ct.grid), (air, ct.grid), (np.asarray(ct.array)[:8], flat)):
        assert find_landmarks(Volume(array, grid)) == Landmarks()
