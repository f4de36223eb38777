"""The dry run of a recipe: what it would learn from, and the time, memory and disk it would take."""

from __future__ import annotations

from collections.abc import Sequence

from .engine import engine_command, engine_environment
from .process import ChildProcess
from .protocol import error_of, error_of_exit, no_interpreter, parse_event, progress_of
from .task import JobError, JobProgress, JobState, Task


class Rehearsal(Task):
    """Runs ``train … --dry-run``; ``result`` is its summary, in words.

    Args:
        arguments: Those of ``train``.
        python: The interpreter that runs the engine.
    """

    def __init__(self, arguments: Sequence[str], python: str) -> None:
        super().__init__()
        self._python = python
        self._arguments = [*arguments, "--dry-run"]
        self._child: ChildProcess | None = None
        self._progress = JobProgress()
        self._summary: list[str] = []
        self._said_error: JobError | None = None

    @property
    def progress(self) -> JobProgress:
        """How far it is."""
        return self._progress

    @property
    def summary(self) -> str:
        """What was found so far; there is one also when studies would be refused."""
        return "\n".join(self._summary)

    @property
    def log(self) -> str:
        """What the engine printed beside it."""
        return "\n".join(filter(None, [self.summary, self._child.log if self._child else ""]))

    def start(self) -> None:
        """Start the engine."""
        command = engine_command(self._python, self._arguments)
        try:
            self._child = ChildProcess(command, environment=engine_environment(self._python), on_line=self._take)
            self._state = JobState.RUNNING
        except OSError as error:
            self._finish(JobState.FAILED, no_interpreter(self._python, error))

    def _take(self, line: str) -> bool:
        event = parse_event(line)
        if event is None:
            self._summary.append(line)
        elif event.kind == "progress":
            self._progress = progress_of(event)
        elif event.kind == "error":
            self._said_error = error_of(event)
        return True

    def _advance(self) -> None:
        code = self._child.exit_code if self._child is not None else None
        if self._child is None or code is None:
            return
        if self._canceled:
            self._finish(JobState.CANCELED)
        elif code or self._said_error:
            self._finish(JobState.FAILED, self._said_error or error_of_exit(code, self._child.log))
        else:
            self._result = self.summary
            self._finish(JobState.DONE)

    def _stop(self) -> None:
        if self._child is not None:
            self._child.stop()
