"""Several jobs one after another that are one job to the user: the result of each is what the next one works on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .job import Job
from .task import JobProgress, JobState, Task

Step = Callable[[Path], Job]
"""Starts a job on the path that the step before it left."""


class Chain(Task):
    """Runs jobs in order and ends with the first that fails or is canceled.

    Args:
        first: What the first step works on.
        steps: What to start, in order; each starts when the one before is done.
        on_result: Turns the path that the last step left into ``result``; the path itself by default.
        on_end: Called once, when the state becomes final.
    """

    def __init__(
        self,
        first: Path,
        steps: Sequence[Step],
        *,
        on_result: Callable[[Path], Any] | None = None,  # Any: whatever the caller wants as its result
        on_end: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(on_result, on_end)
        self._steps = list(steps)
        self._first = first
        self._number = 0
        self._job: Job | None = None

    @property
    def progress(self) -> JobProgress:
        """How far the whole is."""
        if self._job is None:
            return JobProgress()
        now = self._job.progress
        is_last = self._number == len(self._steps) - 1
        fraction = (self._number + now.fraction) / len(self._steps)
        return replace(now, fraction=fraction, seconds_left=now.seconds_left if is_last else None)

    @property
    def log(self) -> str:
        """What the running step printed beside the protocol."""
        return self._job.log if self._job is not None else ""

    def start(self) -> None:
        """Start the first step."""
        self._state = JobState.STARTING
        self._job = self._steps[0](self._first)

    def _advance(self) -> None:
        if self._job is None:
            return
        state = self._job.poll()
        if not state.is_final:
            self._state = JobState.RUNNING if state is JobState.LOADING else state
        elif state is not JobState.DONE:
            self._finish(state, self._job.error)
        elif self._canceled:
            self._finish(JobState.CANCELED)
        elif self._job.path is not None and self._number < len(self._steps) - 1:
            self._number += 1
            self._job = self._steps[self._number](self._job.path)
        elif self._job.path is not None:
            self._came(self._job.path)

    def _stop(self) -> None:
        if self._job is not None:
            self._job.cancel()
