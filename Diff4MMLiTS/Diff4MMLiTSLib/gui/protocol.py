"""What the engine says on its standard output, and what its exit code means to a user."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from typing import Any

from .task import JobError, JobProgress

UNEXPECTED, BAD_INPUT, MISSING, OUT_OF_MEMORY, CANCELED = 1, 2, 3, 4, 5
"""Exit codes of the engine."""
WINDOWS_CRASH, WINDOWS_NO_DLL, WINDOWS_CTRL_C = 0xC0000005, 0xC0000135, 0xC000013A
"""Exit codes of Windows: access violation, a library that is not found, Ctrl-C."""
MEMORY_HINT = "Close other programs, choose the CPU as device or the quality Fast, or segment fewer phases."
REPORT_HINT = "Look at the log; run again, and report it if it comes back."


@dataclass(frozen=True)
class Event:
    """One line of the engine.

    Args:
        kind: ``progress``, ``result``, ``error`` or ``ready``.
        fields: The rest of the JSON object.
    """

    kind: str
    fields: dict[str, Any]  # Any: JSON, read by the functions below


def parse_event(line: str) -> Event | None:
    """Return the event that a line holds, None when the line is something else."""
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kind = record.pop("event", None) if isinstance(record, dict) else None
    return Event(kind, record) if isinstance(kind, str) else None


def progress_of(event: Event) -> JobProgress:
    """Return the progress in an event; fields of another type are taken as absent."""
    fraction, left = event.fields.get("fraction"), event.fields.get("seconds_left")
    return JobProgress(
        stage=str(event.fields.get("stage", "")),
        fraction=min(1.0, max(0.0, float(fraction))) if isinstance(fraction, int | float) else 0.0,
        message=str(event.fields.get("message", "")),
        seconds_left=float(left) if isinstance(left, int | float) else None,
    )


def error_of(event: Event) -> JobError:
    """Return the error in an event."""
    fields = event.fields
    return JobError(str(fields.get("code", "unexpected")), str(fields.get("message", "")), str(fields.get("hint", "")))


def error_of_exit(code: int, log: str) -> JobError:
    """Return what an exit code means when the engine itself said nothing.

    Args:
        code: Exit code; negative for a signal of POSIX.
        log: What the child printed last; its last line is quoted.
    """
    raise NotImplementedError
