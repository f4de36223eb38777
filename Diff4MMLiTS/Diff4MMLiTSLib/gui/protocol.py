"""What the engine says on its standard output, and what its exit code means to a user."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from typing import Any

from .task import JobError, JobProgress, hint_of
from .texts import _

UNEXPECTED, BAD_INPUT, MISSING, OUT_OF_MEMORY, CANCELED = 1, 2, 3, 4, 5
"""Exit codes of the engine."""
WINDOWS_CRASH, WINDOWS_NO_DLL, WINDOWS_CTRL_C = 0xC0000005, 0xC0000135, 0xC000013A
"""Exit codes of Windows: access violation, a library that is not found, Ctrl-C."""
MEMORY_HINT = _("Close other programs, choose the CPU as device or the quality Fast, or segment fewer phases.")
REPORT_HINT = _("Look at the log; run again, and report it if it comes back.")
CRASH_HINT = _("Test the device in the Setup tab; install PyTorch again in a version for this system, or use the CPU.")
LONGEST_QUOTE = 300
EXPECTED = "Expected: "
"""How the engine begins what it expected."""
KILL_SIGNAL, CRASH_SIGNALS = 9, (4, 6, 7, 8, 11)
"""SIGKILL; SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV. Windows lacks most names."""

_Meaning = tuple[str, str, str]
"""Code, message, hint."""
_KNOWN_EXITS: dict[int, _Meaning] = {
    0: ("no_result", _("The engine ended without saying where its result lies."), REPORT_HINT),
    UNEXPECTED: ("unexpected", _("The engine failed."), REPORT_HINT),
    BAD_INPUT: ("bad_input", _("The engine refused its input."), _("Look at the log for what it expected.")),
    MISSING: ("missing", _("A model or a Python package is missing."), _("Install it in the Setup tab.")),
    OUT_OF_MEMORY: ("out_of_memory", _("The memory of the computer or of the GPU ran out."), MEMORY_HINT),
    CANCELED: ("canceled", _("The engine was stopped by another program."), _("Start it again.")),
    WINDOWS_CRASH: ("crashed", _("The engine crashed (access violation)."), CRASH_HINT),
    WINDOWS_NO_DLL: ("missing", _("A library of the engine's interpreter is missing."), CRASH_HINT),
    WINDOWS_CTRL_C: ("canceled", _("The engine was ended by another program."), _("Start it again.")),
}


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
    """Return the error in an event; the engine's message ends with its hint, which is shown apart."""
    hint = str(event.fields.get("hint") or "")
    message = str(event.fields.get("message", ""))
    if hint and message.rstrip(".").endswith(hint.rstrip(".")):
        message = message.rstrip(".").removesuffix(hint.rstrip("."))
        hint = hint_of(hint, "") if message.endswith(EXPECTED) else hint_of("", hint)
        message = message.removesuffix(EXPECTED).strip()
    return JobError(str(event.fields.get("code", "unexpected")), message, hint)


def error_of_exit(code: int, log: str) -> JobError:
    """Return what an exit code means when the engine itself said nothing.

    Args:
        code: Exit code; negative for a signal of POSIX.
        log: What the child printed last; its last line is quoted.
    """
    code = code & 0xFFFFFFFF if code > 255 or code < -64 else code  # Windows codes may come as negative numbers
    last = log.strip().rpartition("\n")[2].strip()
    name, message, hint = _KNOWN_EXITS.get(code) or _of_signal(code) or _of_launch(code) or _unknown(code)
    said = _('It last said: "{line}".').format(line=last[:LONGEST_QUOTE]) if last else ""
    return JobError(name, f"{message} {said}".strip(), hint)


def no_interpreter(python: str, error: OSError) -> JobError:
    """Return the error of an interpreter that the system cannot start."""
    message = _("The engine's interpreter '{python}' could not be started ({why}).")
    hint = _("Choose another interpreter in the Setup tab.")
    return JobError("missing", message.format(python=python, why=error.strerror or error), hint)


def _of_signal(code: int) -> _Meaning | None:
    number = -code if code < 0 else code - 128  # a shell or a launcher reports signal 9 as 137
    if number == signal.SIGTERM:
        return ("canceled", _("The engine was ended by another program."), _("Start it again."))
    if number == KILL_SIGNAL:
        text = _("The engine was killed, most likely because the computer's memory ran out.")
        return ("out_of_memory", text, MEMORY_HINT)
    if number in CRASH_SIGNALS:
        return ("crashed", _("The engine crashed (signal {number}).").format(number=number), CRASH_HINT)
    if code < 0:
        return ("unexpected", _("The engine was ended by signal {number}.").format(number=number), REPORT_HINT)
    return None


def _of_launch(code: int) -> _Meaning | None:
    if code in (126, 127):
        text = _("The engine's interpreter could not be started.")
        return ("missing", text, _("Choose another one in the Setup tab."))
    return None


def _unknown(code: int) -> _Meaning:
    return ("unexpected", _("The engine ended with the exit code {code}.").format(code=code), REPORT_HINT)
