"""The contrast phases of a multiphase liver CT and their names."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from .errors import InputError


class Phase(StrEnum):
    """A contrast phase; the order is the order of acquisition and of every phase axis ``P``."""

    NC = "NC"
    AP = "AP"
    PVP = "PVP"
    DELAY = "DELAY"


ALL_PHASES: tuple[Phase, ...] = tuple(Phase)
REFERENCE_ORDER: tuple[Phase, ...] = (Phase.PVP, Phase.AP, Phase.DELAY, Phase.NC)


def parse_phase(name: str) -> Phase:
    """Return the phase with this name, whatever its case.

    Raises:
        InputError: The name is not one of NC, AP, PVP, DELAY.
    """
    try:
        return Phase(name.strip().upper())
    except ValueError:
        raise InputError(
            f"Unknown phase name '{name}'",
            expected="one of " + ", ".join(ALL_PHASES),
            remedy="Name the non-contrast phase NC, arterial AP, portal venous PVP, delayed DELAY",
        ) from None


def in_order(phases: Iterable[Phase]) -> tuple[Phase, ...]:
    """Return phases sorted by acquisition: NC, AP, PVP, DELAY."""
    return tuple(sorted(phases, key=ALL_PHASES.index))


def default_reference(phases: Iterable[Phase]) -> Phase:
    """Return the phase that carries the annotation by default: the first present of PVP, AP, DELAY, NC.

    Raises:
        InputError: There is no phase at all.
    """
    present = set(phases)
    for phase in REFERENCE_ORDER:
        if phase in present:
            return phase
    raise InputError("A study without any phase", expected="at least one of " + ", ".join(ALL_PHASES))
