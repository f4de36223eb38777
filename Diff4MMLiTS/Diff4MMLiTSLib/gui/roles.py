"""Which contrast phase each volume of the scene is, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import slicer

from ..core.phase_evidence import PhaseEvidence
from ..core.phases import Phase

ROLE_ATTRIBUTE = "LiverRole"
"""Attribute of a volume node; other liver extensions read it too."""
ROLES = {Phase.NC: "Native", Phase.AP: "Arterial", Phase.PVP: "PortalVenous", Phase.DELAY: "Delayed"}
OTHER_ROLE = "Other"


def role_of(volume: slicer.vtkMRMLScalarVolumeNode) -> Phase | None:
    """Return the phase that the volume's ``LiverRole`` names, None when it has none or another."""
    raise NotImplementedError


def set_role(volume: slicer.vtkMRMLScalarVolumeNode, phase: Phase | None) -> None:
    """Write ``LiverRole``: the phase, or ``Other`` for None."""
    raise NotImplementedError


def evidence_of(volume: slicer.vtkMRMLScalarVolumeNode) -> PhaseEvidence:
    """Return what role, name and DICOM headers of a volume say about its phase; fast, looks at no voxel."""
    raise NotImplementedError


def evidence_with_images(volumes: Sequence[slicer.vtkMRMLScalarVolumeNode]) -> tuple[PhaseEvidence, ...]:
    """Return the evidence of names and headers merged with what the images themselves say; takes seconds a volume."""
    raise NotImplementedError


def proposed_phases(
    evidences: Mapping[slicer.vtkMRMLScalarVolumeNode, PhaseEvidence],
) -> dict[Phase, slicer.vtkMRMLScalarVolumeNode]:
    """Return the volume of each phase that is decided; of several for one phase the surest."""
    raise NotImplementedError


def check_roles(choices: Sequence[tuple[slicer.vtkMRMLScalarVolumeNode, Phase]]) -> None:
    """Refuse one phase for two volumes, and one volume for two phases.

    Raises:
        InputError: It names both.
    """
    raise NotImplementedError
