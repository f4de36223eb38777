"""What the engine needs: what is there, what is missing, how to get it; torch is never imported here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib import metadata
from itertools import zip_longest
from pathlib import Path
from typing import Any

from .answer import AnswerTask
from .texts import _

REQUIREMENTS_FILE = Path(__file__).parents[2] / "Resources" / "requirements.txt"
"""Lower bounds of what pip installs; torch comes through the PyTorch extension, SimpleITK with Slicer."""

TORCH_BOUND = "2.4"


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
        is_satisfied: Whether the installed version is new enough and, of torch, can be loaded.
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
        return all(package.is_satisfied for package in self.packages)


def packages_here() -> tuple[Package, ...]:
    """Return the needed packages as this interpreter has them; fast, offline, imports none of them."""
    return tuple(_package(name, bound, _version_here(name)) for name, bound in _requirements())


def install_steps(packages: Sequence[Package], *, has_pytorch_extension: bool) -> tuple[InstallStep, ...]:
    """Return what must be done, in order; empty when nothing is missing.

    Args:
        packages: As ``packages_here`` or an ``EngineState`` tells.
        has_pytorch_extension: Whether Slicer's PyTorch extension is installed, which chooses the right torch.
    """
    missing = {package.name: package for package in packages if not package.is_satisfied}
    steps = []
    torch = missing.pop("torch", None)
    if torch is not None and not has_pytorch_extension:
        steps.append(InstallStep(InstallKind.PYTORCH_EXTENSION, _("Install the extension PyTorch and restart Slicer")))
    if torch is not None:
        bound = torch.requirement.removeprefix(torch.name)
        steps.append(InstallStep(InstallKind.TORCH, _("Install PyTorch for this computer's GPU or CPU"), (bound,)))
    if missing:
        names = ", ".join(missing)
        requirements = tuple(package.requirement for package in missing.values())
        steps.append(InstallStep(InstallKind.PACKAGES, _("Install {names}").format(names=names), requirements))
    return tuple(steps)


def check_engine(python: str) -> AnswerTask:
    """Return a started task that asks an interpreter what it has, in a child process; its result is an ``EngineState``.

    A torch that crashes when it is imported ends that process, never Slicer's.
    """
    task = AnswerTask([python, "-m", "Diff4MMLiTSLib", "doctor", "--json"], _read_doctor)
    task.start()
    return task


def _read_doctor(text: str) -> EngineState:
    return _engine_state(json.loads(text[max(0, text.find("{")) :]))


def _engine_state(record: dict[str, Any]) -> EngineState:  # Any: JSON of "doctor"
    gpus = tuple(
        Gpu(f"cuda:{index}", str(gpu["name"]), float(gpu["memory_gb"]), float(gpu.get("free_gb", gpu["memory_gb"])))
        for index, gpu in enumerate(record["gpus"])
    )
    versions, torch_works = record["packages"], bool(record["torch_works"])
    packages = (_package(name, bound, str(versions.get(name) or "")) for name, bound in _requirements())
    return EngineState(
        python=str(record["python"]),
        packages=tuple(
            each if torch_works or each.name != "torch" else replace(each, is_satisfied=False) for each in packages
        ),
        torch_works=torch_works,
        gpus=gpus,
        memory_gb=float(record["memory_gb"]),
        disk_free_gb=float(record["disk_free_gb"]),
        advice=tuple(map(str, record["advice"])),
    )


def _requirements() -> Iterator[tuple[str, str]]:
    """Give name and lower bound of each needed package; torch first."""
    yield "torch", TORCH_BOUND
    for line in REQUIREMENTS_FILE.read_text(encoding="utf-8").splitlines():
        name, separator, bound = line.partition("#")[0].strip().partition(">=")
        if separator:
            yield name.strip(), bound.strip()


def _package(name: str, bound: str, version: str) -> Package:
    return Package(name, version, bool(version) and _is_at_least(version, bound), f"{name}>={bound}")


def _version_here(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _is_at_least(version: str, bound: str) -> bool:
    """Compare the leading numbers of two versions; what follows them (``+cu126``, ``rc1``) does not count."""
    pairs = zip_longest(_numbers(version), _numbers(bound), fillvalue=0)
    return next((found > needed for found, needed in pairs if found != needed), True)


def _numbers(version: str) -> list[int]:
    leading = re.match(r"\d+(?:\.\d+)*", version)
    return [int(number) for number in leading.group().split(".")] if leading else []
