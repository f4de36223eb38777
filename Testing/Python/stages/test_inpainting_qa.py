"""The check of a fill: a good one passes, and each fault is found for what it is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from conftest import ball
from Diff4MMLiTSLib.core.grid import Grid, Volume
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.study import Verdict
from Diff4MMLiTSLib.stages.inpainting_qa import check_fill

GRID = Grid((40, 40, 28), (1.5, 1.5, 2.0))
LIVER = ball(GRID, GRID.center_mm, 27.0)
REGION = ball(GRID, GRID.center_mm, 10.0)


def noise(seed, sigma=0.7):
    values = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(GRID.shape), sigma)
    return 10 * values / values.std()


PARENCHYMA = 118 + noise(0)


def check(fill, *, outside=0.0, rejected=()):
    """Return the judgment of a fill in PVP, beside a flawless AP."""
    before = {Phase.PVP: PARENCHYMA - 40 * REGION, Phase.AP: PARENCHYMA}
    after = {Phase.PVP: np.where(REGION, fill, PARENCHYMA + outside), Phase.AP: PARENCHYMA}
    volumes = [
        {phase: Volume(values.astype(np.float32), GRID) for phase, values in phases.items()}
        for phases in (before, after)
    ]
    return check_fill(*volumes, region=REGION, liver=LIVER, rejected=rejected)


def test_the_patients_own_parenchyma_passes():
    quality = check(PARENCHYMA)
    assert quality.verdict is Verdict.PASS
    assert quality.phases[Phase.PVP].measures["changed_known_voxels"] == 0


@pytest.mark.parametrize(
    ("fill", "verdict", "words"),
    [
        (PARENCHYMA - 45, Verdict.REJECT, "differs by -4"),
        (PARENCHYMA + 12, Verdict.REVIEW, "differs by 1"),
        (118 + 0.3 * noise(1), Verdict.REVIEW, "deviation"),
        (118 + noise(1, 2.0), Verdict.REVIEW, "power spectrum"),
        (118 + noise(1, 0.1), Verdict.REVIEW, "neighboring voxels"),
        (118 + noise(1) * 1.25 + 12 * np.sign(noise(2, 6)), Verdict.REVIEW, "steps at its border"),
    ],
)
def test_each_fault_of_a_fill_is_named(fill, verdict, words):
    quality = check(fill)
    assert quality.phases[Phase.PVP].verdict is verdict
    assert any(words in reason for reason in quality.phases[Phase.PVP].reasons)
    assert quality.phases[Phase.AP].verdict is Verdict.PASS
    assert quality.verdict is verdict


def test_a_known_voxel_that_changed_is_rejected():
    found = check(PARENCHYMA, outside=1e-3).phases[Phase.PVP]
    assert found.verdict is Verdict.REJECT
    assert found.measures["changed_known_voxels"] == (~REGION).sum()


def test_a_phase_that_was_left_out_calls_for_review():
    quality = check(PARENCHYMA, rejected=(Phase.NC,))
    assert quality.verdict is Verdict.REVIEW
    assert "NC was left out" in quality.reasons[0]
