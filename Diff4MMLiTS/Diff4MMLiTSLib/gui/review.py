"""A review: one pair after another, the reviewer's decisions, and the place where the review was left."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ..core.errors import InputError
from ..core.progress import Progress, silent
from .agreement import Agreement, agreement
from .ledger import LEDGER_FILE, Decision, Ledger, Opinion
from .pairs import Pair, export_pairs, pairs_in
from .texts import _

REVIEWER = "Reviewer"
"""Setting: the name that the reviewer chose."""


FILTERS: tuple[Decision | None, ...] = (None, *Decision)
"""Which pairs can be gone through: all, or those with one decision."""


def decision_name(decision: Decision | None) -> str:
    """Return the name of a decision that the user reads; None stands for all of them."""
    names = {
        None: _("All"),
        Decision.OPEN: _("Open"),
        Decision.ACCEPTED: _("Accepted"),
        Decision.REJECTED: _("Rejected"),
        Decision.FLAGGED: _("Flagged"),
    }
    return names[decision]


class Review:
    """Goes through the pairs of a cohort and keeps the decisions beside them.

    It begins at the first pair that this reviewer has not decided.

    Args:
        cohort: Folder of synthetic pairs.
        reviewer: The name that the reviewer chose; never one that the system knows.
        progress: Told while the pairs are read.

    Raises:
        InputError: There is no pair, a pair or the ledger cannot be read, or the name is empty.
        CanceledError: The user asked to stop.
    """

    def __init__(self, cohort: Path, reviewer: str, progress: Progress | None = None) -> None:
        if not reviewer.strip():
            raise InputError(_("The reviewer has no name"), expected=_("a name or a sign, for example R1"))
        self.cohort = cohort
        self.reviewer = reviewer.strip()
        self.pairs = pairs_in(cohort, progress or silent())
        self.ledger = Ledger(cohort / LEDGER_FILE)
        self.filter: Decision | None = None
        self._opinions = self.ledger.opinions(self.reviewer)
        self._index = next((i for i, pair in enumerate(self.pairs) if self._decision(pair) is Decision.OPEN), 0)

    @property
    def pair(self) -> Pair:
        """The pair that is looked at."""
        return self.pairs[self._index]

    @property
    def number(self) -> int:
        """Which of all pairs it is, counted from 1."""
        return self._index + 1

    @property
    def opinion(self) -> Opinion:
        """What this reviewer thinks of it."""
        return self._opinions.get(self.pair.key, Opinion())

    @property
    def counts(self) -> dict[Decision, int]:
        """How many pairs have each decision of this reviewer."""
        found = Counter(self._decision(pair) for pair in self.pairs)
        return {decision: found[decision] for decision in Decision}

    def decide(self, decision: Decision, comment: str | None = None) -> None:
        """Decide on the pair; the decision is on the disk when this returns.

        Args:
            decision: What the reviewer thinks.
            comment: The reviewer's words; None keeps what was said before.

        Raises:
            InputError: The ledger cannot be written, or the comment is too long.
        """
        words = self.opinion.comment if comment is None else comment
        self.ledger.record(self.pair.key, self.reviewer, Opinion(decision, words))
        self._opinions = self.ledger.opinions(self.reviewer)

    def comment(self, text: str) -> None:
        """Say something about the pair; its decision stays.

        Raises:
            InputError: As ``decide``.
        """
        if text.strip() != self.opinion.comment:
            self.decide(self.opinion.decision, text)

    def undo(self) -> bool:
        """Take the last decision back and go to its pair; return whether there was one.

        Raises:
            InputError: The ledger cannot be written.
        """
        entry = self.ledger.undo(self.reviewer)
        if entry is None:
            return False
        self._opinions = self.ledger.opinions(self.reviewer)
        here = [index for index, pair in enumerate(self.pairs) if pair.key == entry.pair]
        self._index = here[0] if here else self._index
        return True

    def go(self, step: int) -> bool:
        """Go to the next (1) or previous (-1) pair that the filter admits; return whether there is one."""
        index = self._index + step
        while 0 <= index < len(self.pairs):
            if self._is_wanted(self.pairs[index]):
                self._index = index
                return True
            index += step
        return False

    def show(self, wanted: Decision | None) -> bool:
        """Go through the pairs with this decision from now on, None for all; return whether there is one.

        The pair that is looked at stays when it is among them; else the next one is taken, or the previous one.
        """
        self.filter = wanted
        return self._is_wanted(self.pair) or self.go(1) or self.go(-1)

    def agreements(self) -> dict[tuple[str, str], Agreement]:
        """Return how far each two reviewers of the ledger agree on the pairs of this cohort."""
        keys = {pair.key for pair in self.pairs}
        opinions = {
            name: {key: opinion for key, opinion in self.ledger.opinions(name).items() if key in keys}
            for name in self.ledger.reviewers
        }
        names = sorted(opinions)
        return {
            (one, other): agreement(opinions[one], opinions[other])
            for number, one in enumerate(names)
            for other in names[number + 1 :]
        }

    def merge(self, other: Path) -> int:
        """Add another reviewer's ledger; return how many lines were new.

        Raises:
            InputError: It cannot be read, or this one not be written.
        """
        count = self.ledger.merge(other / LEDGER_FILE if other.is_dir() else other)
        self._opinions = self.ledger.opinions(self.reviewer)
        return count

    def accepted(self) -> tuple[Pair, ...]:
        """Return the pairs that this reviewer accepted and nobody else rejected."""
        vetoed = {
            key
            for name in self.ledger.reviewers
            for key, opinion in self.ledger.opinions(name).items()
            if opinion.decision is Decision.REJECTED
        }
        mine = (pair for pair in self.pairs if self._decision(pair) is Decision.ACCEPTED)
        return tuple(pair for pair in mine if pair.key not in vetoed)

    def export(self, out: Path, progress: Progress | None = None) -> Path:
        """Make a cohort of the accepted pairs, for training; see ``export_pairs``."""
        return export_pairs(self.accepted(), out, progress or silent())

    def _is_wanted(self, pair: Pair) -> bool:
        return self.filter in (None, self._decision(pair))

    def _decision(self, pair: Pair) -> Decision:
        return self._opinions.get(pair.key, Opinion()).decision
