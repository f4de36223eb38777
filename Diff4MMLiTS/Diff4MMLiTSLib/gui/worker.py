"""A warm engine: the model stays loaded, and each request is answered by the same process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .task import JobError, JobProgress, JobState, Task


class Reply(Task):
    """The answer to one request, polled like a job; made by ``Worker.request``.

    ``cancel`` drops the answer: the worker goes on and stays warm.
    """

    @property
    def progress(self) -> JobProgress:
        """How far the request is."""
        raise NotImplementedError


class Worker:
    """A warm ``serve`` process; it starts with the first request, and again with the next request after it died.

    Args:
        arguments: The command, for example ``["serve", "--model", MODEL, "--device", "auto"]``.
        python: The interpreter that runs the engine.
        environment: All environment variables of the child; ``engine_environment(python)`` by default.
    """

    def __init__(
        self, arguments: Sequence[str], *, python: str, environment: Mapping[str, str] | None = None
    ) -> None:
        raise NotImplementedError

    @property
    def state(self) -> JobState:
        """IDLE (no process), STARTING (the model is being loaded), RUNNING (ready or busy), FAILED (it died)."""
        raise NotImplementedError

    @property
    def error(self) -> JobError | None:
        """Why the process died, until it is started again."""
        raise NotImplementedError

    @property
    def log(self) -> str:
        """What the process printed beside the protocol, the last lines."""
        raise NotImplementedError

    def start(self) -> None:
        """Load the model ahead of the first request; harmless when it runs."""
        raise NotImplementedError

    def request(self, fields: Mapping[str, object], on_result: Callable[[Path], Any] | None = None) -> Reply:
        """Ask for something; requests are answered one after the other.

        Args:
            fields: JSON of the request: study, segmentation, clicks, out; its number is added.
            on_result: Turns the path of the answer into the reply's ``result``, on the thread that polls.

        Returns:
            A reply to poll. It fails when the process dies, or cannot be started.
        """
        raise NotImplementedError

    def close(self) -> None:
        """End the process and its whole tree; open replies become ``CANCELED``."""
        raise NotImplementedError
