"""What each command takes and which one call it makes; heavy packages are imported when a command runs."""

from __future__ import annotations

from . import data, export, machine, serving, stages, training
from .command import Command, CommandGroup

COMMANDS: tuple[Command | CommandGroup, ...] = (
    *machine.COMMANDS,
    *data.COMMANDS,
    *stages.COMMANDS,
    *serving.COMMANDS,
    *training.COMMANDS,
    *export.COMMANDS,
)
"""In the order of ``--help``."""

__all__ = ["COMMANDS", "Command", "CommandGroup"]
