"""What the engine needs: what is there, what is missing, how to get it; torch is never imported here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from .task import Task

REQUIREMENTS_FILE = Path(__file__).parents[2] / "Resources" / "requirements.txt"
"""Lower bounds of what pip installs; torch comes through the PyTorch extension, SimpleITK with Slicer."""


class InstallKind(StrEnum):
    """How a missing part is installed."""

    PYTORCH_EXTENSION = "pytorch_extension"
    TORCH = "torch"
    PACKAGES = "packages"


@dataclass(frozen=True)
class Package:
    """One Python package that the engine needs.

    Args:
        name: Name at PyPI.
        version: The installed version, empty when missing.
        is_satisfied: Whether the installed version is new enough.
        requirement: What is needed, for example ``monai>=1.5``.
    """

    name: str
    version: str
    is_satisfied: bool
    requirement: str


@dataclass(frozen=True)
class InstallStep:
    """One step of the installation, done by the widget on an explicit click, on the main thread.

    Args:
        kind: How.
        title: For the user.
        requirements: What pip gets, for ``PACKAGES``; the version bound of torch for ``TORCH``.
    """

    kind: InstallKind
    title: str
    requirements: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gpu:
    """One CUDA device.

    Args:
        device: For ``--device``, for example ``cuda:0``.
        name: Its name.
        memory_gb: All of its memory.
        free_gb: What is free now.
    """

    device: str
    name: str
    memory_gb: float
    free_gb: float


@dataclass(frozen=True)
class EngineState:
    """What the engine's interpreter said about itself.

    Args:
        python: Version of the interpreter.
        packages: Each needed package there.
        torch_works: Whether torch could be imported.
        gpus: CUDA devices.
        memory_gb: Memory of the computer.
        disk_free_gb: Free space where the engine works.
        advice: What is missing and how to get it.
    """

    python: str
    packages: tuple[Package, ...]
    torch_works: bool
    gpus: tuple[Gpu, ...]
    memory_gb: float
    disk_free_gb: float
    advice: tuple[str, ...]

    @property
    def is_ready(self) -> bool:
        """Whether every command can run."""
        raise NotImplementedError


def packages_here() -> tuple[Package, ...]:
    """Return the needed packages as this interpreter has them; fast, offline, imports none of them."""
    raise NotImplementedError


def install_steps(packages: Sequence[Package], *, has_pytorch_extension: bool) -> tuple[InstallStep, ...]:
    """Return what must be done, in order; empty when nothing is missing."""
    raise NotImplementedError


class EngineCheck(Task):
    """Asks the engine's interpreter what it has, in a child process; ``result`` is an ``EngineState``.

    Args:
        python: The interpreter.
    """

    def __init__(self, python: str) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Start the child."""
        raise NotImplementedError
