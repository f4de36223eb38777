"""Whether each phase looks like what it is called: swapped phases align perfectly and are wrong all the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..core.config import RegisterLimits
from ..core.grid import Volume
from ..core.phase_image import evidence_from_findings, findings_of
from ..core.phases import Phase
from ..core.study import PhaseQA, Verdict, worst


def doubted_names(phases: Mapping[Phase, Volume], limits: RegisterLimits) -> dict[Phase, str]:
    """Return the reason to doubt a phase's name, for every phase whose image surely shows another one.

    Args:
        phases: CT values in HU by name, each on its own grid; seen together, since they show one patient.
        limits: How sure the image must be.
    """
    evidences = evidence_from_findings([findings_of(volume) for volume in phases.values()])
    return {
        phase: f"The image looks like {found.phase} (confidence {found.confidence:.2f}): {found.reasons[0]}"
        for phase, found in zip(phases, evidences, strict=True)
        if found.phase not in (None, phase) and found.confidence >= limits.name_confidence
    }


def with_doubt(qa: PhaseQA, doubt: str | None) -> PhaseQA:
    """Return the judgment of a phase, at best ``review`` when its name is in doubt."""
    if doubt is None:
        return qa
    return replace(qa, verdict=worst([qa.verdict, Verdict.REVIEW]), reasons=(*qa.reasons, doubt))
