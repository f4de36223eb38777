"""Which interpreter runs the engine, with which environment and command."""

from __future__ import annotations

from collections.abc import Sequence

PYTHON_VARIABLE = "DIFF4MMLITS_PYTHON"
PYTHON_SETTING = "Diff4MMLiTS/EnginePython"
"""Key in the application's settings; the Setup field."""


def engine_python() -> str:
    """Return the interpreter: ``DIFF4MMLITS_PYTHON``, else the Setup field, else PythonSlicer, else this interpreter."""
    raise NotImplementedError


def chosen_python() -> str:
    """Return what the Setup field holds; empty when it holds nothing."""
    raise NotImplementedError


def choose_python(path: str) -> None:
    """Store what the Setup field holds; empty for the default."""
    raise NotImplementedError


def engine_command(python: str, arguments: Sequence[str]) -> list[str]:
    """Return the command line of the engine with JSON progress."""
    raise NotImplementedError


def engine_environment(python: str) -> dict[str, str]:
    """Return all environment variables of a child that finds this package.

    For another interpreter than Slicer's it is the environment before Slicer's launcher changed it, since Slicer's
    libraries and PYTHONHOME would break it.
    """
    raise NotImplementedError
