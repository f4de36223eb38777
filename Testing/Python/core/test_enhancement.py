"""Each family is recognized by its mean enhancement."""

from __future__ import annotations

import pytest

from Diff4MMLiTSLib.core.enhancement import TumorFamily, family_of
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
    found = family_of(dict(zip(phases, tumor_hu, strict=True)), dict(zip(phases, LIVER, strict=True)))
    assert found is family


def test_one_phase_is_enough_for_an_answer():
    assert family_of({Phase.PVP: 75.0}, {Phase.PVP: 118.0}) is TumorFamily.HYPOVASCULAR
