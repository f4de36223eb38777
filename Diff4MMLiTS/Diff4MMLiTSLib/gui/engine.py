"""Which interpreter runs the engine, with which environment and command."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from .settings import read_setting, write_setting

PYTHON_VARIABLE = "DIFF4MMLITS_PYTHON"
PYTHON_SETTING = "EnginePython"
LIBRARY = Path(__file__).parents[2]
"""The folder that holds the package of the engine."""
FOR_SLICERS_PYTHON = ("PYTHONHOME", "PYTHONPATH")
"""Variables with which another Python would load Slicer's standard library."""


def engine_python() -> str:
    """Return the interpreter: ``DIFF4MMLITS_PYTHON``, else the Setup field, else PythonSlicer, else this one."""
    chosen = os.environ.get(PYTHON_VARIABLE, "") or chosen_python()
    return chosen or _own_python()


def chosen_python() -> str:
    """Return what the Setup field holds; empty when it holds nothing."""
    return read_setting(PYTHON_SETTING)


def choose_python(path: str) -> None:
    """Store what the Setup field holds; empty for the default."""
    write_setting(PYTHON_SETTING, path)


def is_own(python: str) -> bool:
    """Return whether an interpreter is Slicer's, into which Slicer can install."""
    return python in (_own_python(), sys.executable)


def engine_command(python: str, arguments: Sequence[str]) -> list[str]:
    """Return the command line of the engine with JSON progress."""
    return [python, "-m", "Diff4MMLiTSLib", *arguments, "--progress", "json"]


def engine_environment(python: str) -> dict[str, str]:
    """Return all environment variables of a child that finds this package.

    For another interpreter than Slicer's it is the environment before Slicer's launcher changed it, since Slicer's
    libraries and PYTHONHOME would break it.
    """
    environment = dict(os.environ) if is_own(python) else _environment_before_slicer()
    paths = [str(LIBRARY), *filter(None, [environment.get("PYTHONPATH", "")])]
    return environment | {"PYTHONPATH": os.pathsep.join(paths)}


def _own_python() -> str:
    return shutil.which("PythonSlicer") or sys.executable


def _environment_before_slicer() -> dict[str, str]:
    try:
        from slicer.util import startupEnvironment

        environment: dict[str, str] = startupEnvironment()
    except (ImportError, AttributeError):  # no Slicer application: nothing was changed
        return dict(os.environ)
    return {name: value for name, value in environment.items() if name not in FOR_SLICERS_PYTHON}
