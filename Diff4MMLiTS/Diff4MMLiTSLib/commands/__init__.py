"""What each command takes and which one call it makes; heavy packages are imported when a command runs."""

from __future__ import annotations

from . import data, machine, serving, stages, training
from .command import Command

COMMANDS: tuple[Command, ...] = tuple(
    command for group in (machine, data, stages, serving, training) for command in group.COMMANDS
)
"""In the order of ``--help``."""

__all__ = ["COMMANDS", "Command"]
