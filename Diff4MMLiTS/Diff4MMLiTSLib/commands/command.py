"""What a command is, and what the commands share."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..core.progress import Progress

if TYPE_CHECKING:
    from ..cohort import CohortResult
    from ..core.config import Settings
    from ..pipeline import RunOptions

SettingsT = TypeVar("SettingsT", bound="Settings")


@dataclass(frozen=True)
class Command:
    """One command of the command line.

    Args:
        name: What the user types.
        summary: One sentence for ``--help``.
        add_arguments: Declares its arguments.
        run: Does it; returns the path of the result, or None when the result was printed.
    """

    name: str
    summary: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace, Progress], Path | None]


@dataclass(frozen=True)
class CommandGroup:
    """Commands with a common first word, for example ``export nnunet`` and ``export dicom-seg``.

    Args:
        name: The common word.
        summary: One sentence for ``--help``.
        commands: The commands, by their second word.
    """

    name: str
    summary: str
    commands: tuple[Command, ...]


def settings_of(kind: type[SettingsT], options: Namespace, last: list[str] | None = None) -> SettingsT:
    """Return the settings: the defaults, the file, ``--set``, then what the command's own options say."""
    from ..core.config import load_config

    return load_config(kind, options.config, [*options.assignments, *(last or [])])


def finished(result: CohortResult, options: Namespace) -> Path:
    """Return the output folder, once nothing failed and a single study was not there before."""
    from ..cohort import raise_failures
    from ..core.files import exists_error
    from ..core.study_io import STUDY_FILE

    raise_failures(result)
    if not result.written and (options.source / STUDY_FILE).is_file():
        raise exists_error(options.out / result.skipped[0])
    return Path(options.out)


def run_options(options: Namespace) -> RunOptions:
    """Return device, force, seed and workers."""
    from ..cohort import Workers
    from ..pipeline import RunOptions

    workers = Workers(options.workers, options.scheduler)
    return RunOptions(options.device, options.force, getattr(options, "seed", 0), workers)
