"""What each command takes and which one call it makes; heavy packages are imported when a command runs."""

from __future__ import annotations

from . import data, machine, stages, training
from .command import Command

COMMANDS: tuple[Command, ...] = (*machine.COMMANDS, *data.COMMANDS, *stages.COMMANDS, *training.COMMANDS)
"""In the order of ``--help``."""

__all__ = ["COMMANDS", "Command"]
