"""The one training loop: every network of this project is trained here.

One optimizer step: draw the step's items -> each player in turn: loss, gradients (accumulated), mean over the
processes, clipping, AdamW -> moving averages -> log, validation, checkpoint. Everything random is a function of
(seed, step), so a resumed run repeats an uninterrupted one bit for bit on a CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list

from ..core.config import TrainLoopConfig
from ..core.errors import CanceledError, InputError, OutOfMemoryError
from ..core.progress import Progress
from .batches import stream_batches
from .checkpoint import load_best, save_best
from .run_log import RunLog, StepClock
from .run_state import (
    Run,
    begin_run,
    copied,
    is_disk_nearly_full,
    refuse_full_disk,
    restore_run,
    set_modes,
    write_checkpoint,
)
from .step import item_indices, mean_over_processes, seeded, take_step
from .task import Batch, Task

STOP_FILE = "stop"
"""A file of this name in the run folder ends the training with a checkpoint."""
LOG_EVERY = 10
"""Steps between two lines of ``metrics.jsonl``, and between two looks at the disk's free space."""


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What a finished training leaves.

    Args:
        step: Optimizer steps done.
        best_step: The step with the best score.
        metrics: What ``Task.validate`` measured there.
        weights: State dicts by network of that step, moving averages where kept, on the CPU.
        seconds: Wall-clock time of this call.
    """

    step: int
    best_step: int
    metrics: Mapping[str, float]
    weights: Mapping[str, Mapping[str, torch.Tensor]]
    seconds: float


def train(
    task: Task, *, config: TrainLoopConfig, run: Path, resume: bool, device: torch.device | str, progress: Progress
) -> TrainResult:
    """Train until the last step, or until the score no longer rises.

    Args:
        task: What to train.
        config: The loop's settings.
        run: Run folder: checkpoints, best weights, ``metrics.jsonl``, and events for TensorBoard.
        resume: Go on from the newest checkpoint, if there is one.
        device: Where to compute; under ``accelerate launch`` each process has its own.
        progress: Reports every step; when it is canceled (or ``run/stop`` appears), a checkpoint is written first.

    Raises:
        InputError: The run exists and ``resume`` is not given, another configuration than the checkpoint's, a disk
            that is (after a checkpoint: nearly) full, or gradients that stay infinite.
        CanceledError: The user asked to stop.
        OutOfMemoryError: The device's memory is too small.
    """
    started = time.monotonic()
    state = begin_run(task, config, run, torch.device(device))
    restore_run(state, resume=resume)
    refuse_full_disk(state)
    try:
        _take_steps(state, progress)
    except torch.OutOfMemoryError:
        raise OutOfMemoryError(
            "The device ran out of memory", remedy="Choose a smaller patch or batch_size, or precision=bf16"
        ) from None
    state.accelerator.wait_for_everyone()
    weights = load_best(run)
    return TrainResult(state.step, state.best_step, state.best_metrics, weights, time.monotonic() - started)


def _take_steps(run: Run, progress: Progress) -> None:
    config, log, clock = run.config, RunLog(run.folder), StepClock()
    batches = stream_batches(run.task.sample, item_indices(run), config=config, device=run.accelerator.device)
    message = "starting"
    while run.step < config.steps and not _is_exhausted(run):
        _stop_if_asked(run, progress)
        # Not update(): a process that was told to stop between two looks would leave the others waiting for it.
        progress.show(run.step / config.steps, message)
        numbers = _timed_step(run, batches, clock)
        run.step += 1
        message = f"step {run.step}/{config.steps}, loss {next(iter(numbers.values())):.3f}"
        _after_step(run, numbers, log, clock)


def _timed_step(run: Run, batches: Iterator[Batch], clock: StepClock) -> dict[str, float]:
    began = time.monotonic()
    items = list(islice(batches, run.config.accumulation))
    waited = time.monotonic() - began
    numbers = take_step(run, items)
    clock.add(seconds=time.monotonic() - began, waited=waited)
    return numbers


def _after_step(run: Run, numbers: Mapping[str, float], log: RunLog, clock: StepClock) -> None:
    """Log, validate and write a checkpoint where due."""
    config, last = run.config, run.step == run.config.steps
    line = mean_over_processes(run, {**numbers, **clock.read()}) if last or run.step % LOG_EVERY == 0 else {}
    if last or _is_due(run.step, config.validate_every):
        line |= _validate(run)
    if line and run.accelerator.is_main_process:
        log.write(run.step, line, run.pictures)
        run.pictures = {}
    if last or _is_exhausted(run) or _is_due(run.step, config.checkpoint_every):
        write_checkpoint(run)


def _validate(run: Run) -> dict[str, float]:
    """Let the main process measure the averaged weights, keep them when they are the best, and tell the others."""
    found = [_measure(run) if run.accelerator.is_main_process else {}]
    if run.is_shared:
        broadcast_object_list(found)
    (metrics,) = found
    if _is_best(run, metrics):
        run.best_step, run.best_metrics, run.validations_since_best = run.step, metrics, 0
    else:
        run.validations_since_best += 1
    return {f"validation/{key}": value for key, value in metrics.items()}


def _measure(run: Run) -> dict[str, float]:
    networks = run.task.networks
    own = {name: copied(networks[name].state_dict()) for name in run.averages}
    for name, average in run.averages.items():
        networks[name].load_state_dict(average)
    set_modes(run.task, training=False)
    with torch.no_grad(), seeded(run.config.seed, run.accelerator.device):
        metrics = run.task.validate()
        run.pictures = run.task.pictures()
    if _is_best(run, metrics):
        save_best(run.folder, {name: network.state_dict() for name, network in networks.items()})
    for name, weights in own.items():
        networks[name].load_state_dict(weights)
    set_modes(run.task, training=True)
    return metrics


def _is_best(run: Run, metrics: Mapping[str, float]) -> bool:
    score = metrics["score"]
    return math.isfinite(score) and (not run.best_metrics or score > run.best_metrics["score"])


def _stop_if_asked(run: Run, progress: Progress) -> None:
    """End with a checkpoint when any process was told to, or the disk is nearly full: all at the same step."""
    stop_file = run.folder / STOP_FILE
    asked = progress.is_canceled() or stop_file.exists()
    full = run.accelerator.is_main_process and run.step % LOG_EVERY == 0 and is_disk_nearly_full(run)
    votes = torch.tensor([float(asked), float(full)], device=run.accelerator.device)
    asked, full = (bool(vote) for vote in run.accelerator.reduce(votes, reduction="sum").tolist())
    if not (asked or full):
        return
    write_checkpoint(run)
    if run.accelerator.is_main_process:
        stop_file.unlink(missing_ok=True)
    if asked:
        raise CanceledError(f"Stopped after step {run.step}; --resume goes on from there")
    raise InputError(
        f"The disk of '{run.folder.name}' is nearly full: stopped after step {run.step} with a checkpoint",
        expected=f"{run.config.keep_free_gb:g} GB free (keep_free_gb) besides the next checkpoint",
        remedy="Free space and go on with --resume",
    )


def _is_exhausted(run: Run) -> bool:
    return 0 < run.config.patience <= run.validations_since_best


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
