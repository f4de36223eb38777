"""Each type's guarantee holds by construction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conftest import ball
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.grid import Volume
from Diff4MMLiTSLib.core.phases import Phase, default_reference, parse_phase
from Diff4MMLiTSLib.core.study import (
    TUMOR_FREE,
    Mask,
    MaskSource,
    NormalStudy,
    PhaseQA,
    RegisteredStudy,
    StageQA,
    Study,
    SyntheticPair,
    Verdict,
    check_study_id,
    without_rejected,
    worst,
)


def test_the_reference_is_the_first_present_of_pvp_ap_delay_nc():
    assert default_reference([Phase.NC, Phase.PVP]) is Phase.PVP
    assert default_reference([Phase.NC, Phase.DELAY]) is Phase.DELAY
    with pytest.raises(InputError):
        default_reference([])


def test_phase_names_are_read_in_any_case_and_unknown_ones_are_refused_with_the_choices():
    assert parse_phase(" pvp ") is Phase.PVP
    with pytest.raises(InputError, match="NC, AP, PVP, DELAY"):
        parse_phase("venous")


def test_a_study_without_its_reference_phase_is_refused(a_study):
    with pytest.raises(InputError, match="reference phase NC"):
        replace(a_study, reference_phase=Phase.NC)


def test_a_mask_on_another_grid_is_refused_with_the_difference(a_study):
    moved = replace(a_study.grid, origin_mm=(0.0, 0.0, 0.0))
    liver = Mask(Volume(np.asarray(a_study.liver.volume.array), moved), MaskSource.ANNOTATION)
    with pytest.raises(InputError, match=r"liver mask.*origin"):
        replace(a_study, liver=liver)


def test_a_registered_study_has_one_grid(a_study):
    coarse = replace(a_study.grid, spacing_mm=(3.0, 3.0, 4.0))
    phases = {**a_study.phases, Phase.NC: Volume(np.zeros(coarse.shape, dtype=np.int16), coarse)}
    Study("s", phases, Phase.PVP)
    with pytest.raises(InputError, match=r"Phase NC.*spacing"):
        RegisteredStudy("s", phases, Phase.PVP)


def test_a_normal_study_needs_the_declaration_not_just_an_absent_mask(a_study):
    NormalStudy(replace(a_study, tumor=TUMOR_FREE))
    with pytest.raises(InputError, match="does not say"):
        NormalStudy(replace(a_study, tumor=None))
    with pytest.raises(InputError, match="has tumors"):
        NormalStudy(a_study)


def test_a_synthetic_pair_must_say_so(a_study):
    mask = Mask(
        Volume(ball(a_study.grid, a_study.grid.center_mm, 4.0).astype(np.uint8), a_study.grid), MaskSource.SYNTHETIC
    )
    SyntheticPair(replace(a_study, tumor=mask, synthetic=True))
    with pytest.raises(InputError):
        SyntheticPair(replace(a_study, tumor=mask))
    with pytest.raises(InputError):
        SyntheticPair(replace(a_study, synthetic=True))


def test_a_mask_holds_only_zero_and_one(a_grid):
    with pytest.raises(InputError, match="0 for background"):
        Mask(Volume(np.full(a_grid.shape, 2, dtype=np.uint8), a_grid), MaskSource.MODEL)


def test_the_stack_has_all_phases_in_order_and_says_which_are_there(a_study):
    values, presence = a_study.stack()
    np.testing.assert_array_equal(presence, [0, 1, 1, 0])
    np.testing.assert_array_equal(values[2], a_study.reference.array)
    assert not values[0].any()


@pytest.mark.parametrize("study_id", ["", "..", "a/b", "a\\b", "x" * 101, "ends ", " begins", "a\nb", ".", "a."])
def test_ids_that_cannot_name_a_folder_are_refused(study_id):
    with pytest.raises(InputError):
        check_study_id(study_id)


def test_ids_may_hold_spaces_and_umlauts():
    assert check_study_id("Fall 7 (Müller-Test)_v1.2") == "Fall 7 (Müller-Test)_v1.2"


def test_the_worst_verdict_wins():
    assert worst([Verdict.PASS, Verdict.REJECT, Verdict.REVIEW]) is Verdict.REJECT
    assert worst([]) is Verdict.PASS


def test_a_rejected_phase_is_missing_to_later_stages_and_that_is_said(a_study, caplog):
    judged = {Phase.AP: PhaseQA(Verdict.REJECT, ("another patient",)), Phase.PVP: PhaseQA(Verdict.REJECT)}
    study = replace(a_study, qa={"register": StageQA(Verdict.REJECT, 1.0, phases=judged)})
    left = without_rejected(study)
    assert list(left.phases) == [Phase.PVP] and left.qa == study.qa
    assert "AP is left out" in caplog.text and "another patient" in caplog.text


def test_a_phase_to_review_stays(a_study):
    judged = {Phase.AP: PhaseQA(Verdict.REVIEW, ("blurred",))}
    study = replace(a_study, qa={"register": StageQA(Verdict.REVIEW, 1.0, phases=judged)})
    assert without_rejected(study) is study


@pytest.mark.parametrize("study_id", [".hidden", "NUL", "com1.x", "肝" * 80, "a" * 101, "a/b", "ends.", ""])
def test_an_id_that_cannot_name_a_visible_folder_everywhere_is_refused(study_id):
    with pytest.raises(InputError, match="cannot name a folder"):
        check_study_id(study_id)


@pytest.mark.parametrize("study_id", ["Fall 7 (ü)", "肝_01", "console", "a.b-c"])
def test_an_id_in_any_script_names_a_folder(study_id):
    assert check_study_id(study_id) == study_id
