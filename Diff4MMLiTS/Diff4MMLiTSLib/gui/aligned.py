"""Which volumes of the scene the user brought, and which ones registration made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import slicer

from ..core.phases import Phase
from .roles import role_of
from .scene import ALIGNED_ROLE

Volume = Any
"""A volume node; Any: MRML is not typed."""


def plain_volumes() -> list[Volume]:
    """Return the volumes that the user sees as input, in the order of the scene: none that registration made."""
    made = {volume.GetID() for volume in _made(_visible_volumes())}
    return [volume for volume in _visible_volumes() if volume.GetID() not in made]


def roled_volumes() -> list[Volume]:
    """Return every volume that has a phase, acquired or aligned."""
    return [volume for volume in _visible_volumes() if role_of(volume) is not None]


def partners(phases: Mapping[Phase | None, Volume]) -> dict[Phase, Volume]:
    """Return the aligned volume of each phase, of those that have one beside the acquired volume."""
    chosen = {volume.GetID() for volume in phases.values()}
    found = {role_of(volume): volume for volume in _made(_visible_volumes()) if volume.GetID() not in chosen}
    return {phase: volume for phase, volume in found.items() if phase is not None and phase in phases}


def _made(volumes: list[Volume]) -> list[Volume]:
    """Return the volumes that belong to an alignment and have the phase of a volume that does not."""
    references = {target.GetID() for volume in volumes if (target := volume.GetNodeReference(ALIGNED_ROLE))}
    in_alignment = [v for v in volumes if v.GetNodeReference(ALIGNED_ROLE) or v.GetID() in references]
    ids = {volume.GetID() for volume in in_alignment}
    acquired = {role_of(volume) for volume in volumes if volume.GetID() not in ids}
    return [volume for volume in in_alignment if role_of(volume) in acquired]


def _visible_volumes() -> list[Volume]:
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [n for n in nodes if n.GetClassName() == "vtkMRMLScalarVolumeNode" and not n.GetHideFromEditors()]
