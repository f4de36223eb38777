"""The margin of the inpainting mask: as given, or what registration has left over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from Diff4MMLiTSLib.core.config import InpaintConfig, build_config
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.study import PhaseQA, StageQA, Verdict
from Diff4MMLiTSLib.stages.inpainting_margin import margin_mm_of

AUTO = InpaintConfig(margin_mm="auto")


def judged(study, verdict=Verdict.PASS, **measures):
    return replace(study, qa={"register": StageQA(verdict, 1.0, phases={Phase.AP: PhaseQA(verdict, (), measures)})})


@pytest.mark.parametrize(("residual_mm", "margin_mm"), [(0.4, 3.0), (4.1, 4.5), (9.0, 9.0), (40.0, 15.0)])
def test_an_automatic_margin_is_the_residual_rounded_up_within_3_to_15_mm(a_study, residual_mm, margin_mm):
    assert margin_mm_of(judged(a_study, residual_p95_mm=residual_mm), AUTO) == margin_mm


def test_a_given_margin_is_used_whatever_registration_says(a_study):
    assert margin_mm_of(judged(a_study, residual_p95_mm=9.0), InpaintConfig(margin_mm=4.0)) == 4.0


def test_a_single_phase_needs_no_more_than_the_annotators_uncertainty(a_study):
    alone = replace(a_study, phases={Phase.PVP: a_study.reference})
    assert margin_mm_of(alone, AUTO) == 3.0


def test_a_phase_that_registration_rejected_does_not_widen_the_margin(a_study):
    assert margin_mm_of(judged(a_study, Verdict.REJECT, residual_p95_mm=14.0), AUTO) == 3.0


@pytest.mark.parametrize("measures", [{}, {"matched_fraction": 0.0}])
def test_without_a_measured_residual_there_is_no_automatic_margin(a_study, measures):
    with pytest.raises(InputError, match="no residual of AP"):
        margin_mm_of(judged(a_study, **measures), AUTO)
    with pytest.raises(InputError, match="no residual of AP"):
        margin_mm_of(a_study, AUTO)


@pytest.mark.parametrize("value", ["broad", -1.0, 20.0])
def test_other_margins_are_refused(value):
    with pytest.raises(InputError, match="margin_mm"):
        build_config(InpaintConfig, {"margin_mm": value})
