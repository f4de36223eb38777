"""A child process that behaves as badly as it is told to; it stands in for the engine, never for the job runner."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

ENGINE = r"""
import json, os, signal, subprocess, sys, time

def say(**fields):
    print(json.dumps(fields), flush=True)

def sleep_in(pid_file, *, deaf=False):
    code = "import time; time.sleep(60)"
    if deaf:
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); " + code
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE if deaf else None)
    if deaf:
        child.stdout.readline()
    with open(pid_file, "a") as stream:
        stream.write(f"{child.pid}\n")

scenario, *rest = [argument for argument in sys.argv[1:] if argument not in ("--progress", "json")]
exec(scenario)
"""


def install(folder: Path) -> dict[str, str]:
    """Write the fake engine and return the environment in which it is found; a scenario is Python code, argument 1."""
    package = folder / "Diff4MMLiTSLib"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(ENGINE, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(folder)}


def is_running(pid: int) -> bool:
    """Whether a process lives; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def pids_in(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()]


def until(condition: Callable[[], bool], *, timeout_s: float = 20.0) -> None:
    """Wait for something that a process does on its own time."""
    import time

    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("It did not happen in time")
        time.sleep(0.02)


PYTHON = sys.executable
