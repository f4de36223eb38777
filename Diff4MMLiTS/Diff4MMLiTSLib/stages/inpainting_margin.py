"""How far the tumor mask is dilated before the region is filled: a given distance, or what registration has left over.

Where a phase still shows the tumor displaced by more than the margin, tumor would remain in the "normal" CT.
"""

from __future__ import annotations

import math

from ..core.config import AUTO_MARGIN, InpaintConfig
from ..core.errors import InputError
from ..core.study import RegisteredStudy, rejected_phases

RESIDUAL = "residual_p95_mm"
"""The measure of registration: 95 % of the liver's structures lie closer to their match than this."""
LEAST_MM, MOST_MM = 3.0, 15.0
"""Annotators draw within about 3 mm of the border; beyond 15 mm a phase is not registered."""


def margin_mm_of(study: RegisteredStudy, config: InpaintConfig) -> float:
    """Return the dilation in mm: the configured one, or for ``auto`` the largest residual of the phases, rounded up.

    Args:
        study: For ``auto`` with registration's measures, unless it has one phase only.
        config: ``margin_mm`` is a distance or ``auto``.

    Raises:
        InputError: ``auto``, and nothing was measured.
    """
    if config.margin_mm != AUTO_MARGIN:
        return float(config.margin_mm)
    moved = set(study.phases) - {study.reference_phase} - rejected_phases(study)
    if not moved:
        return LEAST_MM
    qa = study.qa.get("register")
    measured = {phase: found.measures for phase, found in qa.phases.items()} if qa else {}
    missing = sorted(phase for phase in moved if RESIDUAL not in measured.get(phase, {}))
    if missing:
        raise InputError(
            f"Study '{study.study_id}': the margin cannot be found, registration has measured no residual of "
            f"{', '.join(missing)}",
            expected=f"{RESIDUAL} of every phase in qa.json, as the command register writes it",
            remedy="Register the study with this software, or give the margin in mm",
        )
    largest = max(measured[phase][RESIDUAL] for phase in moved)
    return min(MOST_MM, max(LEAST_MM, math.ceil(2 * largest) / 2))
