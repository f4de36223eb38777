"""The one training loop: every network of this project is trained here.

One optimizer step: draw the step's items -> each player in turn: loss, gradients (accumulated), mean over the
processes, clipping, AdamW -> moving averages -> log, validation, checkpoint. Everything random is a function of
(seed, step), so a resumed run repeats an uninterrupted one bit for bit on a CPU.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from ..core.config import TrainLoopConfig
from ..core.errors import CanceledError, InputError, OutOfMemoryError
from ..core.progress import Progress
from .batches import stream_batches
from .checkpoint import load_best, load_checkpoint, save_best, save_checkpoint
from .event_file import EventFile, Picture
from .task import Batch, Player, Task

METRICS_FILE = "metrics.jsonl"
STOP_FILE = "stop"
"""A file of this name in the run folder ends the training with a checkpoint."""
LOG_EVERY = 10
"""Steps between two lines of ``metrics.jsonl``."""
BAD_STEPS = 10
"""Steps in a row without finite gradients after which training gives up; single ones happen and are skipped."""
SAME_AFTER_RESUME = ("steps", "batch_size", "accumulation", "warmup_fraction", "weight_decay", "clip_norm", "ema_decay")
"""Settings that a resumed run must share with its beginning, besides ``precision`` and ``seed``."""


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


@dataclass(eq=False)
class _Run:
    """Everything that changes while training, and what a checkpoint holds."""

    task: Task
    config: TrainLoopConfig
    folder: Path
    accelerator: Accelerator
    optimizers: Mapping[str, Any]  # Any: accelerate's wrapper of AdamW, untyped
    averages: dict[str, dict[str, torch.Tensor]]
    step: int = 0
    bad_steps: dict[str, int] = field(default_factory=dict)
    best_step: int = -1
    best_metrics: dict[str, float] = field(default_factory=dict)
    validations_since_best: int = 0
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    events: EventFile | None = None


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
        InputError: The run exists and ``resume`` is not given, another configuration than the checkpoint's, a full
            disk, or gradients that stay infinite.
        CanceledError: The user asked to stop.
        OutOfMemoryError: The device's memory is too small.
    """
    started = time.monotonic()
    state = _begin(task, config, run, torch.device(device))
    _restore(state, resume=resume)
    state.accelerator.wait_for_everyone()  # nobody writes before all have read
    batches = stream_batches(task.sample, _indices(state), config=config, device=state.accelerator.device)
    message = "starting"
    try:
        while state.step < config.steps and not _is_exhausted(state):
            _stop_if_asked(state, progress)
            progress.update(state.step / config.steps, message)
            numbers = _take_step(state, list(islice(batches, config.accumulation)))
            state.step += 1
            message = f"step {state.step}/{config.steps}, loss {next(iter(numbers.values())):.3f}"
            _after_step(state, numbers, started)
    except CanceledError:
        _checkpoint(state)
        raise
    except torch.OutOfMemoryError:
        raise OutOfMemoryError(
            "The device ran out of memory", remedy="Choose a smaller patch or batch_size, or precision=bf16"
        ) from None
    state.accelerator.wait_for_everyone()
    weights = load_best(run)
    return TrainResult(state.step, state.best_step, state.best_metrics, weights, time.monotonic() - started)


def learning_rate_factor(step: int, config: TrainLoopConfig) -> float:
    """Return the learning rate of a step, as a part of its peak: linear warm-up, then half a cosine to zero."""
    warmup = max(1, round(config.warmup_fraction * config.steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, config.steps - warmup)))


def _begin(task: Task, config: TrainLoopConfig, run: Path, device: torch.device) -> _Run:
    AcceleratorState._reset_state()  # the precision may differ from that of a training before in this process
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=config.precision.value)
    for network in task.networks.values():
        network.to(accelerator.device)
    _set_modes(task, training=True)
    optimizers = {
        player.name: accelerator.prepare_optimizer(
            torch.optim.AdamW(
                _parameters(task, player), lr=player.learning_rate, weight_decay=config.weight_decay, foreach=True
            )
        )
        for player in task.players
    }
    averages = {name: _copied(task.networks[name].state_dict()) for name in task.ema}
    return _Run(task, config, run, accelerator, optimizers, averages)


def _take_step(state: _Run, batches: list[Batch]) -> dict[str, float]:
    """Let each player play once and update the moving averages; return the numbers for the log."""
    numbers: dict[str, float] = {}
    for index, player in enumerate(state.task.players):
        numbers |= _play(state, player, index, batches)
    # Short averages at the beginning forget the random initial weights.
    decay = min(state.config.ema_decay, (1 + state.step) / (10 + state.step))
    for name, average in state.averages.items():
        _update_average(average, state.task.networks[name], decay)
    return numbers


def _play(state: _Run, player: Player, index: int, batches: list[Batch]) -> dict[str, float]:
    accelerator, optimizer = state.accelerator, state.optimizers[player.name]
    parameters = _parameters(state.task, player)
    for network in state.task.networks.values():
        network.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    rate = player.learning_rate * learning_rate_factor(state.step, state.config)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    numbers: dict[str, float] = {}
    for micro, batch in enumerate(batches):
        seed = _seed(state.config.seed, state.step, index, micro, accelerator.process_index)
        with _seeded(seed, accelerator.device), accelerator.autocast():
            loss, found = player.loss(batch, _generator(seed, accelerator.device), state.step)
        accelerator.backward(loss / len(batches))
        for key, value in {"loss": float(loss.detach()), **found}.items():
            numbers[f"{player.name}/{key}"] = numbers.get(f"{player.name}/{key}", 0.0) + value / len(batches)
    norm = _finish_gradients(state, parameters)
    _update_weights(state, player, norm)
    return numbers | {f"{player.name}/gradient_norm": norm, f"{player.name}/learning_rate": rate}


def _finish_gradients(state: _Run, parameters: list[nn.Parameter]) -> float:
    """Average the gradients over the processes and clip them; return their norm."""
    if state.accelerator.num_processes > 1:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = state.accelerator.reduce(parameter.grad, reduction="mean")
    return float(state.accelerator.clip_grad_norm_(parameters, state.config.clip_norm))


def _update_weights(state: _Run, player: Player, norm: float) -> None:
    scaler = state.accelerator.scaler
    if math.isfinite(norm) or scaler is not None:  # with fp16 the scaler skips the step and lowers its scale
        state.optimizers[player.name].step()
    state.bad_steps[player.name] = 0 if math.isfinite(norm) else state.bad_steps.get(player.name, 0) + 1
    if state.bad_steps[player.name] >= BAD_STEPS:
        raise InputError(
            f"The gradients of {player.name} were not finite in {BAD_STEPS} steps in a row (step {state.step})",
            expected="finite losses",
            remedy="Lower the learning rate or check the training data, and resume from the last checkpoint",
        )


def _after_step(state: _Run, numbers: Mapping[str, float], started: float) -> None:
    """Log, validate and write a checkpoint where due."""
    config, last = state.config, state.step == state.config.steps
    line = dict(numbers) if last or state.step % LOG_EVERY == 0 else {}
    if last or _is_due(state.step, config.validate_every):
        line |= _validate(state)
    if line and state.accelerator.is_main_process:
        _log(state, {"seconds": round(time.monotonic() - started, 2), **line})
    if last or _is_exhausted(state) or _is_due(state.step, config.checkpoint_every):
        _checkpoint(state)


def _validate(state: _Run) -> dict[str, float]:
    networks = state.task.networks
    own = {name: _copied(networks[name].state_dict()) for name in state.averages}
    for name, average in state.averages.items():
        networks[name].load_state_dict(average)
    _set_modes(state.task, training=False)
    with torch.no_grad(), _seeded(state.config.seed, state.accelerator.device):
        metrics = state.task.validate()
        state.pictures = state.task.pictures()
    score = metrics["score"]
    if math.isfinite(score) and (not state.best_metrics or score > state.best_metrics["score"]):
        state.best_step, state.best_metrics, state.validations_since_best = state.step, metrics, 0
        if state.accelerator.is_main_process:
            save_best(state.folder, {name: network.state_dict() for name, network in networks.items()})
    else:
        state.validations_since_best += 1
    for name, weights in own.items():
        networks[name].load_state_dict(weights)
    _set_modes(state.task, training=True)
    return {f"validation/{key}": value for key, value in metrics.items()}


def _checkpoint(state: _Run) -> None:
    if not state.accelerator.is_main_process:
        return
    scaler = state.accelerator.scaler
    content = {
        "step": state.step,
        "config": state.config.model_dump(mode="json"),
        "networks": {name: network.state_dict() for name, network in state.task.networks.items()},
        "averages": state.averages,
        "optimizers": {name: optimizer.state_dict() for name, optimizer in state.optimizers.items()},
        "scaler": scaler.state_dict() if scaler else {},
        "bad_steps": state.bad_steps,
        "best_step": state.best_step,
        "best_metrics": state.best_metrics,
        "validations_since_best": state.validations_since_best,
    }
    save_checkpoint(state.folder, state.step, content, keep=state.config.keep_checkpoints)


def _restore(state: _Run, *, resume: bool) -> None:
    content = load_checkpoint(state.folder, state.accelerator.device)
    if content is None:
        (state.folder / METRICS_FILE).unlink(missing_ok=True)
        return
    if not resume:
        raise InputError(
            f"The run '{state.folder.name}' has been started before",
            remedy="Give --resume to go on with it, or choose another folder",
        )
    _check_same_config(content["config"], state.config)
    for name, network in state.task.networks.items():
        network.load_state_dict(content["networks"][name])
    for name, optimizer in state.optimizers.items():
        optimizer.load_state_dict(content["optimizers"][name])
    if state.accelerator.scaler is not None:
        state.accelerator.scaler.load_state_dict(content["scaler"])
    state.averages = content["averages"]
    for key in ("step", "bad_steps", "best_step", "best_metrics", "validations_since_best"):
        setattr(state, key, content[key])
    _forget_later_metrics(state.folder / METRICS_FILE, state.step)


def _check_same_config(old: Mapping[str, Any], new: TrainLoopConfig) -> None:  # Any: JSON of a configuration
    current = new.model_dump(mode="json")
    for key in (*SAME_AFTER_RESUME, "precision", "seed"):
        if old[key] != current[key]:
            raise InputError(
                f"The run was begun with {key} = {old[key]}, not {current[key]}",
                expected="the settings it was begun with",
                remedy="Resume with the same configuration, or start a new run",
            )


def _forget_later_metrics(file: Path, step: int) -> None:
    if file.exists():
        lines = file.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        file.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _stop_if_asked(state: _Run, progress: Progress) -> None:
    stop_file = state.folder / STOP_FILE
    asked = torch.tensor(float(progress.is_canceled() or stop_file.exists()), device=state.accelerator.device)
    if float(state.accelerator.reduce(asked, reduction="sum")) > 0:  # all processes stop at the same step
        stop_file.unlink(missing_ok=True)
        raise CanceledError(f"Training stopped at step {state.step}; it can be resumed")


def _is_exhausted(state: _Run) -> bool:
    return 0 < state.config.patience <= state.validations_since_best


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _log(state: _Run, line: Mapping[str, float]) -> None:
    state.folder.mkdir(parents=True, exist_ok=True)
    with (state.folder / METRICS_FILE).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"step": state.step, **line}) + "\n")
    state.events = state.events or EventFile.create(state.folder)
    state.events.add(state.step, numbers=line, pictures=state.pictures)
    state.pictures = {}


def _indices(state: _Run) -> Iterator[int]:
    """Yield the items of all steps that are left; the processes of a step share its items, in order."""
    config, accelerator = state.config, state.accelerator
    for forward in range(state.step * config.accumulation, config.steps * config.accumulation):
        first = (forward * accelerator.num_processes + accelerator.process_index) * config.batch_size
        yield from range(first, first + config.batch_size)


def _parameters(task: Task, player: Player) -> list[nn.Parameter]:
    return [parameter for name in player.networks for parameter in task.networks[name].parameters()]


def _set_modes(task: Task, *, training: bool) -> None:
    learning = {name for player in task.players for name in player.networks}
    for name, network in task.networks.items():
        network.train(training and name in learning)  # a network that nobody trains stays as it is, buffers included


def _copied(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value.detach().clone() for key, value in weights.items()}


def _update_average(average: dict[str, torch.Tensor], network: nn.Module, decay: float) -> None:
    learned = {name for name, _ in network.named_parameters()}
    for key, value in network.state_dict().items():
        if key in learned:
            average[key].lerp_(value.detach(), 1.0 - decay)
        else:
            average[key].copy_(value)


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _generator(seed: int, device: torch.device) -> torch.Generator:
    generator = torch.Generator(device=device)
    generator.manual_seed(seed)
    return generator


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Make what draws from torch's global generator (dropout) repeatable, and leave that generator as it was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
