"""Phases of the volumes of a scene: from role, headers, name and image, with the evidence."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import slicer

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.phase_evidence import PhaseEvidence
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.gui.roles import (
    check_roles,
    evidence_of,
    evidence_with_images,
    proposed_phases,
    role_of,
    set_role,
)
from gui.scene_factory import add_volume, ijk_to_ras, smooth_values


@pytest.fixture
def add(scene):
    return lambda name: add_volume(smooth_values(), ijk_to_ras(), name)


@pytest.mark.parametrize(
    ("phase", "role"),
    [
        (Phase.NC, "Native"),
        (Phase.AP, "Arterial"),
        (Phase.PVP, "PortalVenous"),
        (Phase.DELAY, "Delayed"),
        (None, "Other"),
    ],
)
def test_roles_have_the_names_that_other_liver_extensions_use(add, phase, role):
    volume = add("x")
    set_role(volume, phase)
    assert volume.GetAttribute("LiverRole") == role
    assert role_of(volume) is phase


def test_a_name_tells_the_phase_and_the_reason_does_not_repeat_it(add):
    found = evidence_of(add("4: Abdomen arteriell Müller"))
    assert found.phase is Phase.AP
    assert found.is_decisive
    assert found.reasons == ("the name of the volume names AP",)
    assert not evidence_of(add("Müller 1.25")).is_decisive


def test_a_role_that_somebody_set_is_certain(add):
    volume = add("arterial")
    set_role(volume, Phase.DELAY)
    assert (evidence_of(volume).phase, evidence_of(volume).confidence) == (Phase.DELAY, 1.0)


def test_dicom_headers_are_asked_before_the_name(add, monkeypatch):
    tags = {"0008,103E": "Leber portalvenös", "0018,1030": "Abdomen", "0018,0010": "Ultravist"}
    database = SimpleNamespace(instanceValue=lambda uid, tag: tags[tag] if uid == "1.2" else "")
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    volume = add("arterial")
    volume.SetAttribute("DICOM.instanceUIDs", "1.2 1.3")
    assert evidence_of(volume).phase is Phase.PVP
    volume.SetAttribute("DICOM.instanceUIDs", "9.9")
    assert evidence_of(volume).phase is Phase.AP


def test_images_are_looked_at_too_and_what_names_say_stays(scene):
    noise = np.random.default_rng(0).normal(-80, 30, (12, 20, 24)).astype(np.int16)
    volumes = [add_volume(noise, ijk_to_ras(), name) for name in ("portal venous", "?")]
    named, unnamed = evidence_with_images(volumes)
    assert named.phase is Phase.PVP
    assert not unnamed.is_decisive


def test_of_two_volumes_for_one_phase_the_surest_is_proposed(add):
    first, second, third = add("a"), add("b"), add("c")
    found = {
        first: PhaseEvidence(Phase.AP, 0.7),
        second: PhaseEvidence(Phase.AP, 0.9),
        third: PhaseEvidence(Phase.PVP, 0.3),
    }
    assert proposed_phases(found) == {Phase.AP: second}


def test_duplicates_are_refused_with_both_names(add):
    first, second = add("one"), add("two")
    check_roles([(first, Phase.AP), (second, Phase.PVP)])
    with pytest.raises(InputError, match="'one' and 'two' are both AP"):
        check_roles([(first, Phase.AP), (second, Phase.AP)])
    with pytest.raises(InputError, match="AP and for PVP"):
        check_roles([(first, Phase.AP), (first, Phase.PVP)])
