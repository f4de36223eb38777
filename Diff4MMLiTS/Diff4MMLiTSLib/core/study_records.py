"""The JSON files of a study folder, and what they say about its making and its quality."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import InputError
from .phases import parse_phase
from .study import HistoryEntry, PhaseQA, StageQA, Verdict

Json = dict[str, Any]  # Any: plain JSON, checked where it is read


def read_record(path: Path, *, newest: int) -> Json:
    """Read a JSON object of a study folder.

    Args:
        path: The file.
        newest: The newest format that is understood.

    Raises:
        InputError: No such file, no JSON object, or of a newer format.
    """
    name = f"{path.parent.name}/{path.name}"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no '{name}'", expected="a study folder", remedy="Check the path") from None
    except OSError as error:  # its text names the whole path
        raise InputError(f"'{name}' cannot be read: {error.strerror}", expected="a JSON file") from None
    except ValueError as error:
        raise InputError(f"'{name}' cannot be read: {error}", expected="a JSON file") from None
    if not isinstance(record, dict):
        raise InputError(f"'{name}' holds no JSON object", expected='{"format": 1, …}')
    found = record.get("format", newest)
    if not isinstance(found, int) or found > newest:
        raise InputError(f"'{name}' has format {found}", expected=f"at most {newest}", remedy="Update Diff4MMLiTS")
    return record


def write_record(path: Path, record: Json) -> None:
    """Write a JSON object of a study folder."""
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def history_of(record: Json, path: Path) -> tuple[HistoryEntry, ...]:
    """Return the history in the record of a study; unknown keys are left out.

    Raises:
        InputError: It is not one.
    """
    known = HistoryEntry.__dataclass_fields__
    with _blamed_on(path, "a history"):
        entries = record.get("history", [])
        return tuple(HistoryEntry(**{key: value for key, value in entry.items() if key in known}) for entry in entries)


def qa_of(path: Path) -> dict[str, StageQA]:
    """Return what the stages measured about themselves, by stage name; nothing where there is no such file.

    Raises:
        InputError: The file holds something else.
    """
    if not path.is_file():
        return {}
    with _blamed_on(path, "verdicts"):
        return {stage: _stage_qa(entry) for stage, entry in read_record(path, newest=1).items()}


def qa_record(qa: StageQA) -> Json:
    """Return what a stage measured as plain JSON; null for what is not a number."""
    phases = {
        phase: {"verdict": entry.verdict, "reasons": list(entry.reasons), **_finite(entry.measures)}
        for phase, entry in qa.phases.items()
    }
    head: Json = {"verdict": qa.verdict, "reasons": list(qa.reasons), "seconds": round(qa.seconds, 3), "phases": phases}
    return {**head, **_finite(qa.measures), **qa.notes}


@contextmanager
def _blamed_on(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(
            f"'{path.parent.name}/{path.name}' holds {kind} of another form",
            expected="what a command of this software wrote",
            remedy="Undo what was edited, or make the study again",
        ) from None


def _stage_qa(entry: Json) -> StageQA:
    rest = {key: value for key, value in entry.items() if key not in ("verdict", "reasons", "seconds", "phases")}
    return StageQA(
        verdict=Verdict(entry["verdict"]),
        seconds=float(entry.get("seconds", 0.0)),
        reasons=tuple(entry.get("reasons", ())),
        phases={parse_phase(name): _phase_qa(values) for name, values in entry.get("phases", {}).items()},
        measures=_numbers(rest),
        notes={key: value for key, value in rest.items() if isinstance(value, str)},
    )


def _phase_qa(entry: Json) -> PhaseQA:
    return PhaseQA(Verdict(entry["verdict"]), tuple(entry.get("reasons", ())), _numbers(entry))


def _numbers(entry: Json) -> dict[str, float]:
    return {key: math.nan if value is None else float(value) for key, value in entry.items() if _is_number(value)}


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _finite(measures: Mapping[str, float]) -> dict[str, float | None]:
    return {key: value if math.isfinite(value) else None for key, value in measures.items()}
