"""What texts and times say about the contrast phase, and how evidence adds up."""

from __future__ import annotations

import pytest

from Diff4MMLiTSLib.core.phase_evidence import (
    PhaseEvidence,
    merge_evidence,
    phase_from_tags,
    phases_from_order,
    phases_in_text,
)
from Diff4MMLiTSLib.core.phases import ALL_PHASES, Phase

TEXTS = {
    Phase.NC: [
        "NC",
        "Abdomen nativ",
        "Non-Contrast",
        "W/O contrast",
        "SANS IV",
        "sans injection",
        "sin contraste",
        "senza mdc",
        "basale",
        "sem contraste",
        "zonder contrast",
        "ohne KM 5.0 B30f",
        "Pre_Contrast",
        "Unenhanced",
        "平扫",
        "単純",
        "造影前",
        "C-",
    ],
    Phase.AP: [
        "AP",
        "arterial",
        "Late Arterial 1.0",
        "Arteriell_1.5",
        "spätarteriell",
        "Phase artérielle",
        "Temps artériel tardif",
        "fase arteriosa",
        "fase arterial tardía",
        "Arteriële fase",
        "HAP",
        "Abdomen 35s",
        "动脉期",
        "動脈相",
    ],
    Phase.PVP: [
        "pvp",
        "portal venous",
        "portalvenös",
        "portal-venöse Phase",
        "temps portal",
        "fase venosa",
        "fase portale",
        "Fase portal del hígado",
        "portoveneuze fase",
        "Venous 3.0",
        "Leber 70s",
        "Bolus delay 70s",
        "门静脉期",
        "静脉期",
        "門脈相",
    ],
    Phase.DELAY: [
        "DELAY",
        "Delayed 3.0 B30f",
        "Delayed 5 min",
        "Spätphase",
        "temps tardif",
        "fase tardía",
        "fase di equilibrio",
        "late fase",
        "Abd 3min",
        "延迟期",
        "遅延相",
        "平衡相",
    ],
}
SILENT = ["CT Abdomen", "CAP 5.0 B30f", "w/wo contrast", "Abdomen/Pelvis AP 3.0", "C-Spine", "Thorax", "5 mm slices"]


@pytest.mark.parametrize(("phase", "text"), [(phase, text) for phase, texts in TEXTS.items() for text in texts])
def test_a_phase_is_recognized_in_nine_languages(phase, text):
    assert phases_in_text(text) == (phase,)


@pytest.mark.parametrize("text", [*SILENT, "Post contrast", "Liver 3 phase", "Abdomen mit KM", "spatial resolution"])
def test_a_text_without_a_phase_names_none(text):
    assert phases_in_text(text) == ()


def test_a_text_that_names_two_phases_decides_nothing():
    evidence = phase_from_tags("arterial/portal", "Liver portal", has_contrast=True)
    assert evidence.phase is None and "AP, PVP" in evidence.reasons[0]


def test_no_reason_repeats_the_text():
    evidence = phase_from_tags("Zzyzxmann arterial", "Zzyzxmann", has_contrast=False)
    assert evidence.is_decisive and "Zzyzxmann" not in " ".join(evidence.reasons)


@pytest.mark.parametrize(
    ("seconds", "phase"), [(-40, Phase.NC), (30, Phase.AP), (70, Phase.PVP), (200, Phase.DELAY), (130, None)]
)
def test_the_time_after_the_injection_tells_the_phase(seconds, phase):
    assert phase_from_tags("", "", has_contrast=True, seconds_after_injection=seconds).phase is phase


def test_agreement_makes_surer_and_equal_contradiction_leaves_it_open():
    arterial, portal = PhaseEvidence(Phase.AP, 0.7), PhaseEvidence(Phase.PVP, 0.7)
    assert merge_evidence([arterial, arterial]).confidence == pytest.approx(0.91)
    assert not merge_evidence([arterial, portal]).is_decisive
    assert merge_evidence([PhaseEvidence(), arterial]) == arterial


def test_a_missing_note_of_contrast_alone_does_not_decide():
    evidence = phase_from_tags("", "", has_contrast=False)
    assert evidence.phase is Phase.NC and not evidence.is_decisive


def test_four_acquisitions_with_the_pauses_of_a_liver_protocol_are_the_four_phases():
    assert tuple(evidence.phase for evidence in phases_from_order([0, 200, 235, 400])) == ALL_PHASES


@pytest.mark.parametrize("offsets", [[0, 200, 235], [0, 12, 40, 200], [0, 200, 400, 600], [0, 200, 235, 250]])
def test_other_acquisitions_are_not_ordered_into_phases(offsets):
    assert not any(evidence.phase for evidence in phases_from_order(offsets))
