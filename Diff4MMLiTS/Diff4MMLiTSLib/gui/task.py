"""Something that takes time and is polled from a timer: its states, its outcome, and what went wrong."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ..core.errors import Diff4MMLiTSError
from .texts import _

POLL_INTERVAL_S = 0.05


class JobState(StrEnum):
    """Where a task stands; the last three are final."""

    IDLE = "idle"
    STARTING = "starting"
    RUNNING = "running"
    LOADING = "loading"
    DONE = "done"
    CANCELED = "canceled"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen."""
        return self in (JobState.DONE, JobState.CANCELED, JobState.FAILED)


@dataclass(frozen=True)
class JobProgress:
    """How far a task is.

    Args:
        stage: Name of the step.
        fraction: Of the whole, 0 to 1.
        message: What is being done.
        seconds_left: Estimate, None while unknown.
    """

    stage: str = ""
    fraction: float = 0.0
    message: str = ""
    seconds_left: float | None = None


@dataclass(frozen=True)
class JobError:
    """What went wrong, in words that a user can act on.

    Args:
        code: For programs, for example ``out_of_memory``.
        message: What happened.
        hint: What to do about it.
    """

    code: str
    message: str
    hint: str = ""


class JobFailed(Exception):  # noqa: N818 (the name of a state)
    """``wait`` on a task that failed; ``error`` says why."""

    def __init__(self, error: JobError) -> None:
        self.error = error
        super().__init__(f"{error.message} {error.hint}".strip())


class JobCanceled(Exception):  # noqa: N818 (the name of a state)
    """``wait`` on a task that was canceled."""


class Task(ABC):
    """Something that takes time; call ``poll`` from a timer until the state is final.

    Args:
        on_result: Turns the path of the result into ``result``, on the thread that polls; the path itself by default.
        on_end: Called once, on the thread that polls, when the state becomes final, whichever it is.
    """

    def __init__(
        self,
        on_result: Callable[[Path], Any] | None = None,  # Any: whatever the caller wants as its result
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self._on_result = on_result
        self._on_end = on_end
        self._state = JobState.IDLE
        self._error: JobError | None = None
        self._result: Any = None
        self._path: Path | None = None
        self._canceled = False
        self._is_loading = False
        self.while_waiting: Callable[[], object] = lambda: None

    @property
    def state(self) -> JobState:
        """Where the task stood when it was last polled."""
        return self._state

    @property
    def error(self) -> JobError | None:
        """What went wrong, once the state is ``FAILED``."""
        return self._error

    @property
    def result(self) -> Any:  # noqa: ANN401 (what on_result made)
        """What ``on_result`` returned, else the path of the result; None until the state is ``DONE``."""
        return self._result

    @property
    def path(self) -> Path | None:
        """Where the engine wrote its result, once it did."""
        return self._path

    @property
    @abstractmethod
    def progress(self) -> JobProgress:
        """How far the task is."""

    @property
    @abstractmethod
    def log(self) -> str:
        """What was printed beside the protocol, the last lines."""

    def poll(self) -> JobState:
        """Look at what happened meanwhile, and return the state.

        When the work is done, one call returns ``LOADING``, so that this can be shown, and the next one runs
        ``on_result`` and returns ``DONE`` or ``FAILED``. Never raises, and may be called from within ``on_result``.
        """
        if self._state.is_final or self._is_loading:
            return self._state
        if self._state is JobState.LOADING:
            self._load()
        elif self._state is not JobState.IDLE:
            self._advance()
        return self._state

    def wait(self, timeout_s: float | None = None) -> Any:  # noqa: ANN401 (what on_result made)
        """Poll until the state is final and return the result; ``while_waiting`` is called between.

        Raises:
            JobFailed: It failed.
            JobCanceled: It was canceled.
            TimeoutError: It takes longer than ``timeout_s``; it goes on.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.poll().is_final:
            if self._state is JobState.IDLE:
                raise RuntimeError("The task was not started")
            if end is not None and time.monotonic() > end:
                raise TimeoutError(f"Not done after {timeout_s:g} s")
            self.while_waiting()
            time.sleep(POLL_INTERVAL_S)
        if self._error is not None:
            raise JobFailed(self._error)
        if self._state is JobState.CANCELED:
            raise JobCanceled("The task was canceled")
        return self._result

    def cancel(self) -> None:
        """Stop; the state becomes ``CANCELED`` as soon as everything has ended. Harmless in a final state."""
        if self._state.is_final or self._is_loading:
            return
        self._canceled = True
        if self._state in (JobState.IDLE, JobState.LOADING):
            self._finish(JobState.CANCELED)
        else:
            self._stop()

    @abstractmethod
    def _advance(self) -> None:
        """Look at the work; call ``_came`` or ``_finish`` when it is over."""

    @abstractmethod
    def _stop(self) -> None:
        """Make the work end."""

    def _came(self, path: Path) -> None:
        """The work is done and left this path."""
        self._path = path
        self._state = JobState.LOADING

    def _load(self) -> None:
        self._is_loading = True
        try:
            result = self._on_result(self._path) if self._on_result and self._path else self._path
        except Exception as error:  # whatever a reader raises must not stop the timer
            self._finish(JobState.FAILED, _loading_error(error))
        else:
            self._result = result
            self._finish(JobState.DONE)
        finally:
            self._is_loading = False

    def _finish(self, state: JobState, error: JobError | None = None) -> None:
        self._state, self._error = state, error
        if self._on_end is not None:
            end, self._on_end = self._on_end, None
            end()


def in_words(error: Diff4MMLiTSError) -> JobError:
    """Return an error of ours with what was expected and what to do about it as sentences."""
    return JobError(error.code, error.found.rstrip(".") + ".", hint_of(error.expected, error.remedy))


def hint_of(expected: str, remedy: str) -> str:
    """Return what was expected and what to do, in sentences; either may be empty."""
    wish = _("Expected: {what}.").format(what=expected.rstrip(".")) if expected else ""
    return " ".join(filter(None, [wish, remedy.rstrip(".") + "." if remedy else ""]))


def _loading_error(error: Exception) -> JobError:
    if isinstance(error, Diff4MMLiTSError):
        return in_words(error)
    return JobError(
        "loading_failed",
        _("The result was made, but could not be loaded ({kind}: {error}).").format(
            kind=type(error).__name__, error=error
        ),
        _("Load its files by hand, and report this with the log."),
    )
