"""Decisions on synthetic pairs: a file of lines to which one is added for each, and nothing is ever changed.

A pair is known by the content of its images, so that a folder may be moved, renamed or copied. Every line is complete
on the disk before its decision is shown; a line that a crash cut off is left out. Taking back is a line of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from uuid import uuid4

from ..core.errors import InputError
from ..core.files import explained
from .texts import _

LEDGER_FILE = "review.jsonl"
FORMAT = 1
LINE_START = b'{"format": '
LONGEST_COMMENT, LONGEST_NAME = 2000, 100


class Decision(StrEnum):
    """What a reviewer thinks of a pair."""

    OPEN = "open"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FLAGGED = "flagged"


@dataclass(frozen=True)
class Entry:
    """One line of a ledger: a decision, or the taking back of one.

    Args:
        line_id: Of this line alone, so that ledgers can be merged more than once.
        time: When, UTC, ISO 8601.
        reviewer: The name that the reviewer chose.
        pair: Content hash of the pair.
        decision: What the reviewer thinks from now on.
        comment: The reviewer's words from now on.
        undoes: Line that is taken back; empty for a decision.
    """

    line_id: str
    time: str
    reviewer: str
    pair: str
    decision: Decision = Decision.OPEN
    comment: str = ""
    undoes: str = ""


@dataclass(frozen=True)
class Opinion:
    """What one reviewer thinks of one pair now."""

    decision: Decision = Decision.OPEN
    comment: str = ""


class Ledger:
    """The decisions on the pairs of one cohort; one object writes to a file at a time.

    Args:
        file: The ledger; it is made with the first decision.

    Raises:
        InputError: The file cannot be read, or a newer version wrote it.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._entries = list(read_entries(file)) if file.exists() else []

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All lines, oldest first."""
        return tuple(self._entries)

    @property
    def reviewers(self) -> tuple[str, ...]:
        """Who decided anything, by name."""
        return tuple(sorted({entry.reviewer for entry in self._entries}))

    def opinions(self, reviewer: str) -> dict[str, Opinion]:
        """Return what a reviewer thinks now, by pair; pairs that were never decided are absent."""
        standing = _standing(entry for entry in self._entries if entry.reviewer == reviewer)
        return {entry.pair: Opinion(entry.decision, entry.comment) for entry in standing}

    def record(self, pair: str, reviewer: str, opinion: Opinion) -> Entry:
        """Add a decision; when this returns, it is on the disk.

        Raises:
            InputError: No name, too long a text, or the file cannot be written.
        """
        comment = opinion.comment.strip()
        if not reviewer.strip() or len(reviewer) > LONGEST_NAME or len(comment) > LONGEST_COMMENT:
            raise InputError(
                _("The reviewer's name is empty, or a text is too long"),
                expected=_("a name of at most {name} and a comment of at most {comment} characters").format(
                    name=LONGEST_NAME, comment=LONGEST_COMMENT
                ),
            )
        return self._add(Entry(uuid4().hex, self._now(), reviewer, pair, opinion.decision, comment))

    def undo(self, reviewer: str) -> Entry | None:
        """Take back the last decision of a reviewer that stands; return it, None when there is none.

        Raises:
            InputError: The file cannot be written.
        """
        undone = {entry.undoes for entry in self._entries}
        mine = (e for e in reversed(_in_time(self._entries)) if e.reviewer == reviewer and not e.undoes)
        last = next((entry for entry in mine if entry.line_id not in undone), None)
        if last is not None:
            self._add(Entry(uuid4().hex, self._now(), reviewer, last.pair, undoes=last.line_id))
        return last

    def merge(self, other: Path) -> int:
        """Add the lines of another ledger that this one lacks; return how many there were.

        Raises:
            InputError: One of the files cannot be read or written.
        """
        known = {entry.line_id for entry in self._entries}
        missing = [entry for entry in read_entries(other) if entry.line_id not in known]
        _append(self.file, missing)
        self._entries += missing
        return len(missing)

    def _add(self, entry: Entry) -> Entry:
        _append(self.file, [entry])
        self._entries.append(entry)
        return entry

    def _now(self) -> str:
        """Return the time, never before the last line: a clock that is set back must not change the order."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return max([now, *(entry.time for entry in self._entries)])


def read_entries(file: Path) -> tuple[Entry, ...]:
    """Return the lines of a ledger; the last one is left out when a crash cut it off.

    Raises:
        InputError: The file cannot be read, holds something else, or a newer version wrote it.
    """
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(
            _("'{file}' cannot be read: {why}").format(file=file.name, why=error.strerror),
            expected=_("a ledger of a review"),
        ) from None
    *whole, last = lines
    entries = [_entry(line, file, number) for number, line in enumerate(whole, start=1) if line.strip(b"\x00 \r")]
    return tuple(entry for entry in [*entries, _torn(last)] if entry is not None)


def _entry(line: bytes, file: Path, number: int) -> Entry | None:
    try:
        record = json.loads(line)
        if record["format"] > FORMAT:
            raise InputError(
                _("'{file}' was written by a newer version").format(file=file.name),
                expected=_("format {number}").format(number=FORMAT),
                remedy=_("Update Diff4MMLiTS"),
            )
        return _entry_of(record)
    except (ValueError, KeyError, TypeError):
        if line.startswith(LINE_START) or LINE_START.startswith(line):  # a crash cut it off; others were added after it
            return None
        raise InputError(
            _("Line {number} of '{file}' is no decision").format(number=number, file=file.name),
            expected=_("a ledger of a review"),
            remedy=_("Choose another file"),
        ) from None


def _torn(line: bytes) -> Entry | None:
    """Return the decision of a line without its end, when only the end of the line is missing."""
    try:
        return _entry_of(json.loads(line))
    except (ValueError, KeyError, TypeError):
        return None


def _entry_of(record: Mapping[str, object]) -> Entry:
    texts = {name: str(record[name]) for name in ("line_id", "time", "reviewer", "pair")}
    decision = Decision(str(record.get("decision", Decision.OPEN)))
    return Entry(
        **texts, decision=decision, comment=str(record.get("comment", "")), undoes=str(record.get("undoes", ""))
    )


def _append(file: Path, entries: Iterable[Entry]) -> None:
    """Add lines and wait until the disk has them; a torn line before them is closed first."""
    lines = [json.dumps({"format": FORMAT, **asdict(entry)}, ensure_ascii=False) for entry in entries]
    if not lines:
        return
    with explained(file), file.open("ab+") as stream:
        begins_anew = stream.seek(0, os.SEEK_END) == 0 or _last_byte(file) == b"\n"
        stream.write(b"" if begins_anew else b"\n")
        stream.write("".join(line + "\n" for line in lines).encode("utf-8"))
        stream.flush()
        os.fsync(stream.fileno())


def _last_byte(file: Path) -> bytes:
    with file.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1)


def _in_time(entries: Iterable[Entry]) -> list[Entry]:
    """Return lines by their time, those of one time in their order: merged ledgers interleave."""
    return sorted(entries, key=lambda entry: entry.time)


def _standing(entries: Iterable[Entry]) -> list[Entry]:
    """Return the last decision on each pair that was not taken back."""
    ordered = _in_time(entries)
    undone = {entry.undoes for entry in ordered}
    last = {entry.pair: entry for entry in ordered if not entry.undoes and entry.line_id not in undone}
    return list(last.values())
