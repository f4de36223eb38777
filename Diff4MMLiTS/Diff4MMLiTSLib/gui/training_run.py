"""A training in a process of its own that outlives Slicer; all that is known of it is read from its files.

The log lies beside the run folder, which belongs to the trainer. The trainer's process holds the log as long as it
lives, so that whoever asks the system knows whether the training runs: a process number could be another's by then.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO

from ..core.errors import InputError
from ..core.files import explained
from .answer import AnswerTask
from .engine import engine_command, engine_environment, engine_python
from .models import CARD_FILE
from .process import NO_WINDOW, child_environment
from .protocol import Event, error_of, parse_event, progress_of
from .task import JobError, JobProgress
from .texts import _

METRICS_FILE, STOP_FILE, MODEL_FOLDER, CHECKPOINTS = "metrics.jsonl", "stop", "model", "checkpoints"
RECIPE_FILE = "recipe.json"
"""What the trainer calls them; a test of the whole way trains a tiny network."""
STARTED = "started"
TAIL_BYTES = 1 << 16
FRESH_S = 120.0
"""A training that was started elsewhere counts as running while its metrics are younger: a validation takes so long."""

_children: list[subprocess.Popen[bytes]] = []
"""Asked now and then for their end, so that the system can forget them."""


class RunState(StrEnum):
    """Where a training stands."""

    EMPTY = "empty"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    FINISHED = "finished"


@dataclass(frozen=True)
class Curve:
    """A number over the steps.

    Args:
        name: As in ``metrics.jsonl``.
        steps: Optimizer steps.
        values: One for each.
    """

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


class TrainingRun:
    """A run folder, whoever began it and when.

    Args:
        folder: The run folder; it need not exist yet.

    Raises:
        InputError: It has no name, as the root of a disk: the log, which lies beside it, would have none either.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.name:
            raise InputError(
                _("'{folder}' cannot be a run folder").format(folder=folder), expected=_("a folder with a name")
            )
        self.folder = folder
        self.log_file = folder.with_name(f"{folder.name}.log")

    @property
    def state(self) -> RunState:
        """Where the training stands now."""
        _reap()
        last = self._last_event()
        if _is_held(self.log_file):
            return RunState.RUNNING
        if last is not None and last.kind == "result":
            return RunState.FINISHED
        if last is not None and last.kind == "error":
            return RunState.STOPPED if error_of(last).code == "canceled" else RunState.FAILED
        if not self.log_file.is_file() and self._is_fresh():
            return RunState.RUNNING
        if not self.log_file.is_file() and self.models():
            return RunState.FINISHED
        if self._metrics_files() or self._has_checkpoint():
            return RunState.STOPPED
        return RunState.FAILED if self.log_file.is_file() else RunState.EMPTY

    @property
    def has_begun(self) -> bool:
        """Whether the trainer wrote into the run folder; it then goes on, and does not start again."""
        kept = (self.folder / RECIPE_FILE).is_file() or self._has_checkpoint()
        return kept or bool(self._metrics_files() or self.models())

    @property
    def progress(self) -> JobProgress:
        """How far the training is, as it last said."""
        events = [event for event in map(parse_event, self._tail()) if event is not None and event.kind == "progress"]
        return progress_of(events[-1]) if events else JobProgress()

    @property
    def error(self) -> JobError | None:
        """What went wrong, when the state is ``FAILED``."""
        last = self._last_event()
        if last is not None and last.kind == "error":
            return error_of(last)
        if last is not None or self.state is not RunState.FAILED:
            return None
        return JobError("unexpected", _("The training ended before its first step."), _("Look at the log below."))

    def start(self, recipe: Path, *, resume: bool = False, cohort: Path | None = None, device: str = "auto") -> None:
        """Start the trainer; it goes on when this program ends.

        Args:
            recipe: What to train.
            resume: Go on from the newest checkpoint.
            cohort: Studies to learn from, instead of those that the recipe names.
            device: auto, cpu, or cuda:N.

        Raises:
            InputError: It runs already, there is no recipe, or the log cannot be written.
        """
        if not recipe.is_file():
            raise InputError(
                _("There is no recipe '{recipe}'").format(recipe=recipe.name),
                expected=_("a .toml file"),
                remedy=_("Choose one"),
            )
        if self.state is RunState.RUNNING:
            raise InputError(
                _("'{folder}' is running").format(folder=self.folder.name),
                expected=_("a training that is stopped"),
                remedy=_("Stop it"),
            )
        python = engine_python()
        with explained(self.log_file):
            self.log_file.parent.mkdir(parents=True, exist_ok=True)
            (self.folder / STOP_FILE).unlink(missing_ok=True)
            with self.log_file.open("ab") as stream:
                _hold(stream, self.log_file)
                stream.write(json.dumps({"event": STARTED}).encode() + b"\n")
                stream.flush()
                command = engine_command(python, train_arguments(recipe, self.folder, cohort=cohort, device=device))
                self._launch([*command, *(["--resume"] if resume else [])], python, stream)

    def stop(self) -> None:
        """Ask the training to write a checkpoint and end; it does at its next step.

        Raises:
            InputError: The run folder cannot be written.
        """
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / STOP_FILE).touch()

    def curves(self) -> tuple[Curve, ...]:
        """Return loss and validation of the network that is trained now; lines that are not whole are left out."""
        files = self._metrics_files()
        records = [] if not files else [_parsed(line) for line in _lines(files[-1])]
        names = list(dict.fromkeys(name for record in records for name in record if _is_shown(name)))
        return tuple(curve for name in names if (curve := _curve(name, records)).steps)

    def log_tail(self, lines: int = 60) -> str:
        """Return what the trainer said last, in words."""
        said = []
        for line in self._tail():
            event = parse_event(line)
            if event is None:
                said.append(line)
            elif event.kind in ("progress", "error"):
                said.append(str(event.fields.get("message", "")))
        return "\n".join(list(dict.fromkeys(said))[-lines:])

    def models(self) -> tuple[Path, ...]:
        """Return the model folders that are complete."""
        found = [*self.folder.glob(f"{MODEL_FOLDER}/{CARD_FILE}"), *self.folder.glob(f"*/{MODEL_FOLDER}/{CARD_FILE}")]
        return tuple(sorted(card.parent for card in found))

    def _launch(self, command: Sequence[str], python: str, stream: IO[bytes]) -> None:
        try:
            child = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=child_environment(engine_environment(python)),
                start_new_session=True,
                creationflags=NO_WINDOW,
            )
        except OSError as error:
            raise InputError(
                _("The engine's interpreter could not be started ({why})").format(why=error.strerror),
                expected=_("a Python that runs the engine"),
                remedy=_("Choose another interpreter in the Setup tab"),
            ) from None
        _children.append(child)

    def _last_event(self) -> Event | None:
        """Return the last result or error since the last start."""
        last = None
        for event in map(parse_event, self._tail()):
            if event is not None and event.kind == STARTED:
                last = None
            elif event is not None and event.kind in ("result", "error"):
                last = event
        return last

    def _tail(self) -> list[str]:
        return _lines(self.log_file, TAIL_BYTES)

    def _metrics_files(self) -> list[Path]:
        """Return the metrics of all networks of the run, the one that was written last at the end."""
        found = [*self.folder.glob(METRICS_FILE), *self.folder.glob(f"*/{METRICS_FILE}")]
        return sorted(found, key=lambda file: file.stat().st_mtime_ns)

    def _has_checkpoint(self) -> bool:
        return any(self.folder.glob(f"{CHECKPOINTS}/*")) or any(self.folder.glob(f"*/{CHECKPOINTS}/*"))

    def _is_fresh(self) -> bool:
        files = self._metrics_files()
        return bool(files) and not self.models() and time.time() - files[-1].stat().st_mtime < FRESH_S


def rehearse(arguments: Sequence[str], python: str) -> AnswerTask:
    """Return a started task that says what a training would learn from, and the time, memory and disk it would take.

    Args:
        arguments: Those of ``train``.
        python: The interpreter that runs the engine.
    """
    task = AnswerTask(engine_command(python, [*arguments, "--dry-run"]), str)
    task.start()
    return task


def train_arguments(recipe: Path, run: Path, *, cohort: Path | None, device: str) -> list[str]:
    """Return the arguments of ``train``."""
    arguments = ["train", str(recipe.absolute()), "--out", str(run.absolute()), "--device", device]
    # JSON's strings are TOML's too, as long as no letter is written as two surrogates
    assigned = f"cohorts=[{json.dumps(str(cohort.absolute()), ensure_ascii=False)}]" if cohort else ""
    return [*arguments, *(["--set", assigned] if assigned else [])]


def _is_shown(name: str) -> bool:
    return name.count("/") == 1 and (name.endswith("/loss") or name.startswith("validation/"))


def _curve(name: str, records: Sequence[dict[str, float]]) -> Curve:
    points = [(record["step"], record[name]) for record in records if name in record and "step" in record]
    return Curve(name, tuple(int(step) for step, _value in points), tuple(value for _step, value in points))


def _parsed(line: str) -> dict[str, float]:
    """Return the numbers of a line; none of one that is not whole."""
    with suppress(ValueError):
        record = json.loads(line)
        if isinstance(record, dict):
            return {name: float(value) for name, value in record.items() if isinstance(value, int | float)}
    return {}


def _lines(file: Path, most_bytes: int = 0) -> list[str]:
    """Return the lines of a file, or those of its end; none of one that is not there."""
    try:
        with file.open("rb") as stream:
            if most_bytes:
                size = stream.seek(0, 2)
                stream.seek(max(0, size - most_bytes))
            return stream.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _hold(stream: IO[bytes], file: Path) -> None:
    """Keep a file as long as this stream or a child that inherits it lives; Windows does so with every open file."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            _("'{name}' is running").format(name=file.stem),
            expected=_("a training that is stopped"),
            remedy=_("Stop it"),
        ) from None


def _is_held(file: Path) -> bool:
    """Return whether a process holds a file."""
    if not file.is_file():
        return False
    if sys.platform == "win32":
        try:
            file.rename(file)  # is refused while another process has it open
        except PermissionError:
            return True
        return False
    import fcntl

    try:
        with file.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _reap() -> None:
    for child in [child for child in _children if child.poll() is not None]:
        _children.remove(child)
