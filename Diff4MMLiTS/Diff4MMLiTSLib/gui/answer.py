"""A question to the engine whose answer is what it prints: what an interpreter has, what a training would take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .engine import engine_environment
from .process import ChildProcess
from .protocol import error_of, error_of_exit, no_interpreter, parse_event, progress_of
from .task import JobError, JobProgress, JobState, Task
from .texts import _


class AnswerTask(Task):
    """Runs a command; ``result`` is what ``read`` makes of the lines that were no part of the protocol.

    Args:
        command: The command line, the interpreter first.
        read: Makes the result; what it raises of ValueError, KeyError, TypeError and AttributeError means that the
            answer is not understood.
    """

    def __init__(self, command: Sequence[str], read: Callable[[str], Any]) -> None:  # Any: whatever is asked for
        super().__init__()
        self._command = list(command)
        self._read = read
        self._child: ChildProcess | None = None
        self._progress = JobProgress()
        self._lines: list[str] = []
        self._said: JobError | None = None

    @property
    def progress(self) -> JobProgress:
        """How far the engine is."""
        return self._progress

    @property
    def log(self) -> str:
        """What was printed: there is an answer also when it says what is wrong."""
        return "\n".join([*self._lines, *filter(None, [self._child.log if self._child else ""])])

    def start(self) -> None:
        """Start the child; an interpreter that cannot be started makes the task ``FAILED``."""
        python = self._command[0]
        try:
            self._child = ChildProcess(self._command, environment=engine_environment(python), on_line=self._take)
            self._state = JobState.RUNNING
        except OSError as error:
            self._finish(JobState.FAILED, no_interpreter(python, error))

    def _take(self, line: str) -> bool:
        event = parse_event(line)
        if event is None:
            self._lines.append(line)
        elif event.kind == "progress":
            self._progress = progress_of(event)
        elif event.kind == "error":
            self._said = error_of(event)
        return True

    def _advance(self) -> None:
        code = self._child.exit_code if self._child is not None else None
        if self._child is None or code is None:
            return
        if self._canceled:
            self._finish(JobState.CANCELED)
        elif code or self._said:
            self._finish(JobState.FAILED, self._said or error_of_exit(code, self._child.log))
        else:
            self._understand()

    def _understand(self) -> None:
        try:
            self._result = self._read("\n".join(self._lines))
        except (ValueError, KeyError, TypeError, AttributeError):
            message = _("The interpreter '{python}' gave an answer that is not understood.")
            hint = _("Choose a Python of version 3.11 or newer in the Setup tab.")
            self._finish(JobState.FAILED, JobError("unexpected", message.format(python=self._command[0]), hint))
        else:
            self._finish(JobState.DONE)

    def _stop(self) -> None:
        if self._child is not None:
            self._child.stop()
