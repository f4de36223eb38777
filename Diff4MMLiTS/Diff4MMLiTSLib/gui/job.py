"""Running the engine: one command in a child process, or a warm worker that answers requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .engine import engine_command, engine_environment, engine_python
from .process import ChildProcess, kill_all
from .protocol import error_of, error_of_exit, no_interpreter, parse_event, progress_of
from .task import JobCanceled, JobError, JobFailed, JobProgress, JobState, Task
from .worker import Reply, Worker

__all__ = [
    "Job",
    "JobCanceled",
    "JobError",
    "JobFailed",
    "JobProgress",
    "JobState",
    "Reply",
    "Worker",
    "engine_environment",
    "engine_python",
    "kill_all",
]


class Job(Task):
    """One run of a command of the engine.

    Args:
        arguments: The command and its arguments, for example ``["register", IN, OUT]``; ``--progress json`` is added.
        python: The interpreter that runs the engine, see ``engine_python``.
        environment: All environment variables of the child; ``engine_environment(python)`` by default.
        on_result: Turns the path of the result into ``result``, on the thread that polls; the path itself by default.
        on_end: Called once, on the thread that polls, when the state becomes final, whichever it is.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        python: str,
        environment: Mapping[str, str] | None = None,
        on_result: Callable[[Path], Any] | None = None,  # Any: whatever the caller wants as its result
        on_end: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(on_result, on_end)
        self._python = python
        self._command = engine_command(python, arguments)
        self._environment = engine_environment(python) if environment is None else environment
        self._child: ChildProcess | None = None
        self._said = _Said()

    @property
    def progress(self) -> JobProgress:
        """How far the engine is."""
        return self._said.progress

    @property
    def log(self) -> str:
        """What the engine printed beside the protocol, the last lines."""
        return self._child.log if self._child else ""

    def start(self) -> None:
        """Start the engine; an interpreter that cannot be started makes the job ``FAILED``.

        Raises:
            RuntimeError: It was started before; a job runs once.
        """
        if self._state is not JobState.IDLE:
            raise RuntimeError(f"A job runs once; this one is {self._state}")
        try:
            self._child = ChildProcess(self._command, environment=self._environment, on_line=self._said.take)
            self._state = JobState.STARTING
        except OSError as error:
            self._finish(JobState.FAILED, no_interpreter(self._python, error))

    def _advance(self) -> None:
        if self._child is None:
            return
        code = self._child.exit_code
        if code is None:
            if self._said.is_heard and not self._canceled:
                self._state = JobState.RUNNING
        elif self._canceled:
            self._finish(JobState.CANCELED)
        elif code == 0 and self._said.path is not None and self._said.error is None:
            self._came(self._said.path)
        else:
            self._finish(JobState.FAILED, self._said.error or error_of_exit(code, self._child.log))

    def _stop(self) -> None:
        if self._child is not None:
            self._child.stop()


class _Said:
    """What the engine said so far; written by the reading thread, read by the polling one."""

    def __init__(self) -> None:
        self.progress = JobProgress()
        self.path: Path | None = None
        self.error: JobError | None = None
        self.is_heard = False

    def take(self, line: str) -> bool:
        event = parse_event(line)
        if event is None:
            return False
        self.is_heard = True
        if event.kind == "progress":
            self.progress = progress_of(event)
        elif event.kind == "result":
            self.path = Path(str(event.fields.get("path", "")))
        elif event.kind == "error":
            self.error = error_of(event)
        return True
