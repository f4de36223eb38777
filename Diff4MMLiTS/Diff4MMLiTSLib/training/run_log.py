"""What a training says about itself: lines of ``metrics.jsonl`` and events for TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .event_file import EventFile, Picture

METRICS_FILE = "metrics.jsonl"


@dataclass
class RunLog:
    """The log of one call of the loop; only the main process writes it.

    Args:
        folder: The run folder.
        started: When the call began, by the monotonic clock, s.
    """

    folder: Path
    started: float = field(default_factory=time.monotonic)
    _events: EventFile | None = None

    def write(self, step: int, numbers: Mapping[str, float], pictures: Mapping[str, Picture]) -> None:
        """Append the numbers and pictures of one step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        line = {"seconds": round(time.monotonic() - self.started, 2), **numbers}
        with (self.folder / METRICS_FILE).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, **line}) + "\n")
        self._events = self._events or EventFile.create(self.folder)
        self._events.add(step, numbers=line, pictures=pictures)


def forget_later_lines(folder: Path, step: int | None) -> None:
    """Drop what a run wrote after the step that it resumes from; everything when it begins anew."""
    file = folder / METRICS_FILE
    if step is None:
        file.unlink(missing_ok=True)
    elif file.exists():
        lines = file.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        file.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


@dataclass
class StepClock:
    """How long steps take since the last look, and how much of that they wait for data."""

    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def add(self, *, seconds: float, waited: float) -> None:
        """Count one step that took ``seconds``, of which it waited for its items."""
        self.steps, self.seconds, self.waited = self.steps + 1, self.seconds + seconds, self.waited + waited

    def read(self) -> dict[str, float]:
        """Return the means since the last look, and begin anew."""
        means = {
            "seconds_per_step": self.seconds / max(1, self.steps),
            "data_wait_fraction": self.waited / max(self.seconds, 1e-9),
        }
        self.steps, self.seconds, self.waited = 0, 0.0, 0.0
        return means
