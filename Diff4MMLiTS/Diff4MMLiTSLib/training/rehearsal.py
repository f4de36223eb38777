"""A few steps of a training that is not meant: how long they take, and what memory and disk a real one needs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import torch

from ..core.config import TrainLoopConfig
from .batches import stream_batches
from .run_log import StepClock
from .run_state import begin_run, checkpoint_bytes, run_bytes, set_modes
from .step import seeded, take_step
from .task import Task

STEPS = 3
"""Measured, after one that is not: the first step allocates memory and chooses algorithms."""


@dataclass(frozen=True)
class Rehearsal:
    """What a few steps tell about a training.

    Args:
        parameters: Trained weights.
        seconds_per_step: Mean of the steps at the end of the schedule, when every loss counts.
        data_wait_fraction: Part of that in which the step waits for its items.
        seconds_per_validation: Of one validation of this task.
        checkpoint_bytes: Size of a checkpoint.
        run_bytes: Disk space of the run's checkpoints and best weights.
        device_bytes: Peak of the GPU's memory; 0 on a CPU.
    """

    parameters: int
    seconds_per_step: float
    data_wait_fraction: float
    seconds_per_validation: float
    checkpoint_bytes: int
    run_bytes: int
    device_bytes: int

    def seconds(self, config: TrainLoopConfig, *, validation_scale: float = 1.0) -> float:
        """Return how long a training with these settings takes.

        Args:
            config: The loop's settings.
            validation_scale: How many times as long as the rehearsed validation a real one takes.
        """
        validations = config.steps // config.validate_every if config.validate_every else 0
        validations += not config.validate_every or config.steps % config.validate_every != 0
        validating = validations * self.seconds_per_validation * validation_scale
        return config.steps * self.seconds_per_step + validating


def rehearse(task: Task, *, config: TrainLoopConfig, device: torch.device) -> Rehearsal:
    """Take a few steps and one validation; the networks of the task change, nothing is written.

    Raises:
        torch.OutOfMemoryError: The device's memory is too small.
    """
    run = begin_run(task, config, Path(), device)
    run.step = config.steps - 1  # by then every loss counts
    on_gpu = run.accelerator.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(run.accelerator.device)
    batches = stream_batches(task.sample, count(), config=config, device=run.accelerator.device)
    clock = StepClock()
    for step in range(STEPS + 1):
        began = time.monotonic()
        items = list(islice(batches, config.accumulation))
        waited = time.monotonic() - began
        take_step(run, items)
        if step > 0:
            clock.add(seconds=time.monotonic() - began, waited=waited)
    measured = clock.read()
    set_modes(task, training=False)
    began = time.monotonic()
    with torch.no_grad(), seeded(config.seed, run.accelerator.device):
        task.validate()
    return Rehearsal(
        parameters=sum(weight.numel() for network in task.networks.values() for weight in network.parameters()),
        seconds_per_step=measured["seconds_per_step"],
        data_wait_fraction=measured["data_wait_fraction"],
        seconds_per_validation=time.monotonic() - began,
        checkpoint_bytes=checkpoint_bytes(run),
        run_bytes=run_bytes(run),
        device_bytes=torch.cuda.max_memory_allocated(run.accelerator.device) if on_gpu else 0,
    )
