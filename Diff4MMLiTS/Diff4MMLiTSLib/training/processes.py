"""The processes of one training: one alone, or several that ``accelerate launch`` or ``torchrun`` started."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import timedelta

import torch
from accelerate.state import PartialState

LONGEST_WAIT = timedelta(days=7)
"""How long processes wait for the main one, which may register a cohort meanwhile. Torch gives up after minutes."""


def join_processes(device: torch.device) -> PartialState:
    """Return this process's place among those of the training; ``.device`` is where it computes.

    Args:
        device: Where to compute; where several processes share a machine, each gets a GPU of its own.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if device.type == "cuda" and device.index is not None and not several:
        torch.cuda.set_device(device)
    return PartialState(cpu=device.type == "cpu", **({"timeout": LONGEST_WAIT} if several else {}))


def on_main_process(device: torch.device, work: Callable[[], None]) -> None:
    """Let the main process do some work, and the others wait until it is done."""
    processes = join_processes(device)
    if processes.is_main_process:
        work()
    processes.wait_for_everyone()


def follow_main_process(tensors: Iterable[torch.Tensor]) -> None:
    """Overwrite tensors in all processes with those of the main process."""
    for tensor in tensors:
        torch.distributed.broadcast(tensor.data, src=0)
