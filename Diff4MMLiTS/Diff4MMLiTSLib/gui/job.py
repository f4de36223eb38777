"""Running the engine: one command in a child process, or a warm worker that answers requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .engine import engine_command, engine_environment, engine_python
from .process import ChildProcess, kill_all
from .protocol import Event, error_of, error_of_exit, parse_event, progress_of
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
