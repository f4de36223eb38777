"""A phase that is called what it is not is noticed, whatever its alignment."""

from __future__ import annotations

import pytest

from Diff4MMLiTSLib.core.config import RegisterLimits
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study import PhaseQA, Verdict
from Diff4MMLiTSLib.phantom.generator import Variant, make_phantom
from Diff4MMLiTSLib.phantom.scanner import Preset
from Diff4MMLiTSLib.stages.registration_names import doubted_names, with_doubt
from Diff4MMLiTSLib.stages.registration_qa import summarize


@pytest.fixture(scope="module")
def phases():
    return make_phantom(3, preset=Preset.SMALL, variant=Variant.STANDARD, progress=silent()).study.phases


def test_phases_that_are_called_what_they_are_raise_no_doubt(phases):
    assert doubted_names(phases, RegisterLimits()) == {}


def test_swapped_phases_are_both_in_doubt(phases):
    swapped = {**phases, Phase.NC: phases[Phase.AP], Phase.AP: phases[Phase.NC]}
    doubts = doubted_names(swapped, RegisterLimits())
    assert set(doubts) == {Phase.NC, Phase.AP} and "looks like AP" in doubts[Phase.NC]


def test_a_doubt_asks_for_review_and_never_softens_a_rejection():
    doubted = with_doubt(PhaseQA(Verdict.PASS), "it looks like NC")
    assert (doubted.verdict, doubted.reasons) == (Verdict.REVIEW, ("it looks like NC",))
    assert with_doubt(PhaseQA(Verdict.REJECT, ("folded",)), "it looks like NC").verdict is Verdict.REJECT
    assert with_doubt(PhaseQA(Verdict.PASS), None) == PhaseQA(Verdict.PASS)


def test_a_reference_phase_in_doubt_is_said_for_the_study():
    qa = summarize({Phase.AP: PhaseQA(Verdict.PASS)}, "it looks like NC", Phase.PVP)
    assert qa.verdict is Verdict.REVIEW and qa.reasons == ("PVP: it looks like NC",)
