"""A warm engine: the model stays loaded, and each request is answered by the same process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from .engine import engine_command, engine_environment
from .process import ChildProcess
from .protocol import Event, error_of, error_of_exit, no_interpreter, parse_event, progress_of
from .task import JobError, JobProgress, JobState, Task
from .texts import _


class Reply(Task):
    """The answer to one request, polled like a job; made by ``Worker.request``.

    ``cancel`` drops the answer: the worker goes on and stays warm.
    """

    def __init__(self, worker: Worker, on_result: Callable[[Path], Any] | None) -> None:
        super().__init__(on_result)
        self._state = JobState.STARTING
        self._worker = worker
        self._progress = JobProgress()
        self._answer: Path | JobError | None = None

    @property
    def progress(self) -> JobProgress:
        """How far the request is."""
        return self._progress

    @property
    def log(self) -> str:
        """What the worker printed."""
        return self._worker.log

    def fail(self, error: JobError) -> None:
        """Take an error as the answer, unless there is one; called by the worker."""
        if self._answer is None:
            self._answer = error

    def take(self, event: Event) -> None:
        """Take what the engine says about this request; called on the worker's reading thread."""
        if event.kind == "progress":
            self._progress = progress_of(event)
        elif event.kind == "result":
            self._answer = Path(str(event.fields.get("path", "")))
        elif event.kind == "error":
            self._answer = error_of(event)

    def _advance(self) -> None:
        self._worker.poll()
        if self._canceled:
            self._finish(JobState.CANCELED)
        elif isinstance(self._answer, JobError):
            self._finish(JobState.FAILED, self._answer)
        elif self._answer is not None:
            self._came(self._answer)
        elif self._worker.state is JobState.RUNNING:
            self._state = JobState.RUNNING

    def _stop(self) -> None:
        self._finish(JobState.CANCELED)


class Worker:
    """A warm ``serve`` process; it starts with the first request, and again with the next request after it died.

    Args:
        arguments: The command, for example ``["serve", "--model", MODEL, "--device", "auto"]``.
        python: The interpreter that runs the engine.
        environment: All environment variables of the child; ``engine_environment(python)`` by default.
    """

    def __init__(self, arguments: Sequence[str], *, python: str, environment: Mapping[str, str] | None = None) -> None:
        self._python = python
        self._command = engine_command(python, arguments)
        self._environment = engine_environment(python) if environment is None else environment
        self._numbers = count(1)
        self._open: dict[int, Reply] = {}
        self._child: ChildProcess | None = None
        self._log = ""
        self._is_ready = False
        self._error: JobError | None = None
        self._said: JobError | None = None

    @property
    def state(self) -> JobState:
        """IDLE (no process), STARTING (the model is being loaded), RUNNING (ready or busy), FAILED (it died)."""
        if self._child is not None:
            return JobState.RUNNING if self._is_ready else JobState.STARTING
        return JobState.IDLE if self._error is None else JobState.FAILED

    @property
    def error(self) -> JobError | None:
        """Why the process died, until it is started again."""
        return self._error

    @property
    def log(self) -> str:
        """What the process printed beside the protocol, the last lines; after its death what it had printed."""
        return self._child.log if self._child is not None else self._log

    def start(self) -> None:
        """Load the model ahead of the first request; harmless when it runs."""
        self.poll()
        if self._child is not None:
            return
        self._is_ready, self._error, self._said = False, None, None
        try:
            self._child = ChildProcess(self._command, environment=self._environment, on_line=self._take, has_input=True)
        except OSError as error:
            self._error = no_interpreter(self._python, error)

    def request(self, fields: Mapping[str, object], on_result: Callable[[Path], Any] | None = None) -> Reply:
        """Ask for something; requests are answered one after the other.

        Args:
            fields: JSON of the request: study, segmentation, clicks, out; its number is added.
            on_result: Turns the path of the answer into the reply's ``result``, on the thread that polls.

        Returns:
            A reply to poll. It fails when the process dies, or cannot be started.
        """
        reply = Reply(self, on_result)
        self.start()
        if self._child is None:
            reply.fail(self._error or JobError("unexpected", _("The engine could not be started.")))
            return reply
        number = next(self._numbers)
        self._open[number] = reply
        try:
            self._child.send(json.dumps({"request": number, **fields}))
        except OSError:
            self.poll()  # it is dying: polling says why, as soon as it is dead
        return reply

    def poll(self) -> JobState:
        """Look whether the process still lives; when it died, its open replies get to know why."""
        child = self._child
        code = child.exit_code if child is not None else None
        if child is not None and code is not None:
            self._error = self._said or error_of_exit(code, child.log)
            self._log, self._child = child.log, None
            self._end_replies(self._error)
        return self.state

    def close(self) -> None:
        """End the process and its whole tree; open replies become ``CANCELED``."""
        child, self._child = self._child, None
        replies, self._open = self._open, {}
        if child is not None:
            self._log = child.log
            child.stop()
        for reply in replies.values():
            reply.cancel()

    def _end_replies(self, error: JobError) -> None:
        replies, self._open = self._open, {}
        for reply in replies.values():
            reply.fail(error)

    def _take(self, line: str) -> bool:
        """Take one line of the child, on its reading thread."""
        event = parse_event(line)
        if event is None:
            return False
        self._is_ready = self._is_ready or event.kind == "ready"
        reply = self._reply_to(event)
        if reply is not None:
            reply.take(event)
        elif event.kind == "error":
            self._said = error_of(event)
        return True

    def _reply_to(self, event: Event) -> Reply | None:
        """Return the reply an event belongs to: the one it names, or the oldest for progress without a number."""
        number = event.fields.get("request")
        if event.kind == "progress" and number is None:
            return next(iter(self._open.values()), None)
        if event.kind in ("result", "error") and isinstance(number, int):
            return self._open.pop(number, None)
        return self._open.get(number) if isinstance(number, int) else None
