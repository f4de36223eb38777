"""Which contrast phase each volume of the scene is, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import slicer

from ..core.errors import InputError
from ..core.grid import Volume
from ..core.images import read_volume
from ..core.phase_evidence import PhaseEvidence, merge_evidence, phase_from_tags, phase_from_text
from ..core.phase_image import evidence_from_findings, findings_of
from ..core.phases import Phase, in_order
from ..core.progress import Progress, silent
from .crossing import write_image
from .texts import _
from .work_folder import work_folder
from .world import in_world

ROLE_ATTRIBUTE = "LiverRole"
"""Attribute of a volume node; other liver extensions read it too."""
ROLES = {Phase.NC: "Native", Phase.AP: "Arterial", Phase.PVP: "PortalVenous", Phase.DELAY: "Delayed"}
OTHER_ROLE = "Other"
REFERENCE_ATTRIBUTE = "Diff4MMLiTS.ReferencePhase"
"""Attribute of the volume that its study names as the reference: the phase for which it was."""
HEADER_TAGS = ("0008,103E", "0018,1030", "0018,0010")
"""Series description, protocol name, contrast agent."""


def role_of(volume: slicer.vtkMRMLScalarVolumeNode) -> Phase | None:
    """Return the phase that the volume's ``LiverRole`` names, None when it has none or another."""
    role = volume.GetAttribute(ROLE_ATTRIBUTE)
    return next((phase for phase, name in ROLES.items() if name == role), None)


def set_role(volume: slicer.vtkMRMLScalarVolumeNode, phase: Phase | None) -> None:
    """Write ``LiverRole``: the phase, or ``Other`` for None."""
    volume.SetAttribute(ROLE_ATTRIBUTE, OTHER_ROLE if phase is None else ROLES[phase])


def reference_among(phases: Mapping[Phase, slicer.vtkMRMLScalarVolumeNode]) -> Phase | None:
    """Return the phase whose volume was named as the reference, None when the default counts."""
    named = (phase for phase, volume in phases.items() if volume.GetAttribute(REFERENCE_ATTRIBUTE) == phase)
    return next(named, None)


def evidence_of(volume: slicer.vtkMRMLScalarVolumeNode) -> PhaseEvidence:
    """Return what role, name and DICOM headers of a volume say about its phase; fast, looks at no voxel."""
    role = role_of(volume)
    if role is not None:
        return PhaseEvidence(role, 1.0, (_("its role in the scene is {role}").format(role=ROLES[role]),))
    return _evidence_of_texts(volume)


def evidence_with_images(
    volumes: Sequence[slicer.vtkMRMLScalarVolumeNode], progress: Progress | None = None
) -> tuple[PhaseEvidence, ...]:
    """Return the evidence of names and headers merged with what the images themselves say; takes seconds a volume.

    Roles are not asked: they may be what is to be found anew.

    Args:
        volumes: Of one examination, which are compared with each other.
        progress: Told before every volume.

    Raises:
        CanceledError: The user asked to stop.
    """
    progress = progress or silent()
    findings = []
    for index, volume in enumerate(volumes):
        progress.update(index / len(volumes), _("looking at {volume}").format(volume=volume.GetName()))
        findings.append(findings_of(_as_volume(volume)))
    from_images = evidence_from_findings(findings)
    return tuple(
        merge_evidence([known, seen]) for known, seen in zip(map(_evidence_of_texts, volumes), from_images, strict=True)
    )


def proposed_phases(
    evidences: Mapping[slicer.vtkMRMLScalarVolumeNode, PhaseEvidence],
) -> dict[Phase, Any]:  # Any: MRML is not typed
    """Return the volume of each phase that is decided; of several for one phase the surest, of equals the first."""
    decided = [(volume, found) for volume, found in evidences.items() if found.is_decisive]
    result: dict[Phase, Any] = {}  # Any: MRML is not typed
    for volume, found in sorted(decided, key=lambda pair: -pair[1].confidence):
        if found.phase is not None:
            result.setdefault(found.phase, volume)
    return {phase: result[phase] for phase in in_order(result)}


def check_roles(choices: Sequence[tuple[slicer.vtkMRMLScalarVolumeNode, Phase]]) -> None:
    """Refuse one phase for two volumes, and one volume for two phases.

    Raises:
        InputError: It names both.
    """
    for (volume, phase), (other, its_phase) in combinations(choices, 2):
        if volume is other:
            raise InputError(
                _("'{volume}' is chosen for {phase} and for {its_phase}").format(
                    volume=volume.GetName(), phase=phase, its_phase=its_phase
                ),
                expected=_("one phase for each volume"),
            )
        if phase is its_phase:
            raise InputError(
                _("'{volume}' and '{other}' are both {phase}").format(
                    volume=volume.GetName(), other=other.GetName(), phase=phase
                ),
                expected=_("one volume for each phase"),
                remedy=_("Change the role of one of them, or leave it out"),
            )


def _evidence_of_texts(volume: slicer.vtkMRMLScalarVolumeNode) -> PhaseEvidence:
    headers = _evidence_of_headers(volume)
    # Slicer names a volume after its series description: the name tells something new only without DICOM headers
    return headers if headers is not None else phase_from_text(volume.GetName() or "", where=_("name of the volume"))


def _evidence_of_headers(volume: slicer.vtkMRMLScalarVolumeNode) -> PhaseEvidence | None:
    """Return what the DICOM headers say, None for a volume that did not come from Slicer's DICOM database."""
    database = getattr(slicer, "dicomDatabase", None)
    instance = (volume.GetAttribute("DICOM.instanceUIDs") or "").split()
    if database is None or not instance:
        return None
    description, protocol, agent = (database.instanceValue(instance[0], tag) for tag in HEADER_TAGS)
    if not (description or protocol or agent):
        return None
    return phase_from_tags(description or "", protocol or "", has_contrast=bool(agent))


def _as_volume(node: slicer.vtkMRMLScalarVolumeNode) -> Volume:
    """Return the voxels in world coordinates; through a file, as every crossing between RAS and LPS."""
    with work_folder() as folder:
        file = Path(folder) / "volume.nrrd"
        write_image(in_world(node), file)
        return read_volume(file)
