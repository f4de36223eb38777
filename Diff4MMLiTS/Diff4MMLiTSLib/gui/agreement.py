"""How far two reviewers agree: in percent, and beyond what chance alone would give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from .ledger import Decision, Opinion
from .texts import _


@dataclass(frozen=True)
class Agreement:
    """Two reviewers on the pairs that both decided.

    Args:
        pairs: How many.
        fraction: Part of them with the same decision, 0 to 1; 0 without pairs.
        kappa: Cohen's kappa, 1 for full agreement, 0 for chance; None where chance alone explains everything (both
            gave one and the same decision throughout) or there is no pair.
    """

    pairs: int
    fraction: float
    kappa: float | None


def agreement(first: Mapping[str, Opinion], second: Mapping[str, Opinion]) -> Agreement:
    """Compare two reviewers.

    Args:
        first: What one thinks, by pair.
        second: What the other thinks.

    Source:
        Cohen, "A coefficient of agreement for nominal scales", 1960: kappa = (p_o - p_e) / (1 - p_e).
    """
    common = [pair for pair in first if pair in second and _is_decided(first[pair]) and _is_decided(second[pair])]
    if not common:
        return Agreement(0, 0.0, None)
    count = len(common)
    # 1. p_o: how often they agree
    observed = sum(first[pair].decision is second[pair].decision for pair in common) / count
    # 2. p_e: how often they would if each drew from the own decisions by chance
    ours, theirs = (Counter(opinions[pair].decision for pair in common) for opinions in (first, second))
    expected = sum(ours[decision] * theirs[decision] for decision in Decision) / count**2
    # 3. kappa
    return Agreement(count, observed, None if expected == 1.0 else (observed - expected) / (1.0 - expected))


def in_words(found: Agreement) -> str:
    """Return an agreement as a sentence."""
    if not found.pairs:
        return _("No pair was decided by both.")
    same = _("{percent} % the same on {pairs} pairs").format(percent=round(100 * found.fraction), pairs=found.pairs)
    if found.kappa is None:
        return _("{same}; Cohen's kappa is not defined, both gave one decision throughout.").format(same=same)
    return _("{same}; Cohen's kappa {kappa}.").format(same=same, kappa=f"{found.kappa:.2f}")


def _is_decided(opinion: Opinion) -> bool:
    return opinion.decision is not Decision.OPEN
