"""The brightness of the organs tells the contrast phase, or says that it does not."""

from __future__ import annotations

from dataclasses import asdict
from itertools import permutations

import numpy as np
import pytest

from abdomen import an_abdomen
from Diff4MMLiTSLib.core.grid import Grid, Volume
from Diff4MMLiTSLib.core.images import read_volume
from Diff4MMLiTSLib.core.phase_evidence import merge_evidence, phases_from_order
from Diff4MMLiTSLib.core.phase_image import ImageFindings, evidence_from_findings, evidence_from_image, weigh
from Diff4MMLiTSLib.core.phase_landmarks import Landmarks
from Diff4MMLiTSLib.core.phases import ALL_PHASES, Phase

LITERATURE = {
    Phase.NC: Landmarks(aorta=42, cava=42, liver=58, portal=13, spleen=48, cortex=45, medulla=30),
    Phase.AP: Landmarks(aorta=320, cava=80, liver=78, portal=36, spleen=145, cortex=215, medulla=110),
    Phase.PVP: Landmarks(aorta=160, cava=160, liver=118, portal=41, spleen=125, cortex=190, medulla=155),
    Phase.DELAY: Landmarks(aorta=110, cava=108, liver=95, portal=22, spleen=98, cortex=160, medulla=130),
}
"""Means of triphasic CT, as the landmarks see them."""


def mixed(first: Phase, second: Phase, share: float) -> ImageFindings:
    """Return a volume that was scanned between two phases."""
    early, late = asdict(LITERATURE[first]), asdict(LITERATURE[second])
    both = {name: early[name] + share * (late[name] - early[name]) for name in early if early[name] is not None}
    return weigh(Landmarks(**both))


@pytest.mark.parametrize("phase", ALL_PHASES)
def test_the_textbook_moment_of_each_phase_is_recognized_from_one_image(phase):
    (evidence,) = evidence_from_findings([weigh(LITERATURE[phase])])
    assert evidence.phase is phase and evidence.is_decisive
    assert "aorta" in evidence.reasons[0]


@pytest.mark.parametrize("phase", [Phase.NC, Phase.AP])
def test_pixels_alone_suffice(phase):
    evidence = evidence_from_image(an_abdomen(phase))
    assert evidence.phase is phase and evidence.is_decisive


@pytest.mark.parametrize(
    ("case", "phase"),
    [
        ("totalseg_example_nc_3mm", Phase.NC),
        ("acrin_nsclc042_nc", Phase.NC),
        ("chaos_pv_donor", Phase.PVP),
        ("tcga_bc_a10w_pv_hcc", Phase.PVP),
    ],
)
def test_every_real_ct_is_recognized_from_its_pixels(real_data, case, phase):
    evidence = evidence_from_image(read_volume(real_data / case / "ct.nii.gz"))
    assert evidence.phase is phase and evidence.is_decisive


@pytest.mark.parametrize("dose", [0.75, 1.0, 1.3])
@pytest.mark.parametrize("fat_hu", [0.0, -25.0])
def test_the_phases_of_a_study_are_told_apart_at_any_dose_and_in_fatty_livers(dose, fat_hu):
    native = asdict(LITERATURE[Phase.NC])
    volumes = []
    for phase in ALL_PHASES:
        values = {name: native[name] + dose * (v - native[name]) for name, v in asdict(LITERATURE[phase]).items() if v}
        volumes.append(weigh(Landmarks(**{**values, "liver": values["liver"] + fat_hu})))
    for order in ((0, 1, 2, 3), (2, 0, 3, 1)):
        found = evidence_from_findings([volumes[index] for index in order])
        assert [each.phase for each in found] == [ALL_PHASES[index] for index in order]
        assert all(each.is_decisive for each in found)


@pytest.mark.parametrize(("first", "second"), [(Phase.AP, Phase.PVP), (Phase.PVP, Phase.DELAY)])
def test_an_image_half_way_between_two_phases_is_left_open(first, second):
    (evidence,) = evidence_from_findings([mixed(first, second, 0.5)])
    assert not evidence.is_decisive
    assert any(str(first) in reason and str(second) in reason for reason in evidence.reasons)


def test_one_mistaken_landmark_does_not_decide():
    bowel = Landmarks(aorta=43, cava=41, liver=57, spleen=48, cortex=230, medulla=180)
    (evidence,) = evidence_from_findings([weigh(bowel)])
    assert evidence.phase is Phase.NC and evidence.is_decisive


def test_two_landmarks_are_too_few():
    (evidence,) = evidence_from_findings([weigh(Landmarks(aorta=320, liver=78))])
    assert evidence.phase is None and evidence.confidence == 0
    assert "too little" in evidence.reasons[0] and "aorta, liver" in evidence.reasons[0]


def test_an_image_without_an_abdomen_says_so():
    air = Volume(np.full((20, 20, 20), -1000, dtype=np.int16), Grid((20, 20, 20), (3.0, 3.0, 3.0)))
    evidence = evidence_from_image(air)
    assert evidence.phase is None and "none of aorta" in evidence.reasons[0]


def test_a_phase_that_is_there_twice_is_not_given_another_name_in_silence():
    twice = [weigh(LITERATURE[phase]) for phase in (Phase.NC, Phase.AP, Phase.PVP, Phase.PVP)]
    for in_order in (False, True):
        found = evidence_from_findings(twice, in_order=in_order)
        assert all(each.phase is Phase.PVP or not each.is_decisive for each in found[2:])
        assert found[0].is_decisive and found[1].is_decisive


def test_the_order_of_acquisition_does_not_make_a_late_phase_of_a_plain_image():
    unenhanced = [weigh(LITERATURE[phase]) for phase in (Phase.NC, Phase.NC, Phase.AP, Phase.PVP)]
    found = evidence_from_findings(unenhanced, in_order=True)
    truth = (Phase.NC, Phase.NC, Phase.AP, Phase.PVP)
    assert all(each.phase is phase or not each.is_decisive for each, phase in zip(found, truth, strict=True))
    assert [each.phase for each in found[:2]] == [Phase.NC, Phase.NC]
    assert all("judged by itself" in each.reasons[-1] for each in found)


def test_phases_that_look_alike_are_settled_by_order_and_pauses_together():
    late, early = mixed(Phase.AP, Phase.PVP, 0.55), mixed(Phase.AP, Phase.PVP, 0.45)
    volumes = [weigh(LITERATURE[Phase.NC]), late, early, weigh(LITERATURE[Phase.DELAY])]
    by_image = evidence_from_findings(volumes, in_order=True)
    assert [each.phase for each in by_image] == list(ALL_PHASES)
    assert [each.is_decisive for each in by_image] == [True, False, False, True]
    by_time = phases_from_order([0, 180, 215, 400])
    assert all(merge_evidence(pair).is_decisive for pair in zip(by_image, by_time, strict=True))


def test_more_volumes_than_phases_are_decided_one_by_one():
    volumes = [weigh(LITERATURE[phase]) for phase in (*ALL_PHASES, Phase.AP)]
    found = evidence_from_findings(volumes)
    assert [each.phase for each in found] == [*ALL_PHASES, Phase.AP]
    assert found[4] == evidence_from_findings([volumes[4]])[0]


def test_the_place_of_a_volume_in_the_list_does_not_matter():
    volumes = {phase: weigh(LITERATURE[phase]) for phase in (Phase.NC, Phase.PVP, Phase.DELAY)}
    for order in permutations(volumes):
        found = evidence_from_findings([volumes[phase] for phase in order])
        assert [each.phase for each in found] == list(order)
