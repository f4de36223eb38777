"""One optimizer step: each player in turn, on the same items; everything random is a function of (seed, step)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from ..core.config import TrainLoopConfig
from ..core.errors import InputError
from .processes import follow_main_process
from .run_state import Run, parameters_of
from .task import Batch, Player

BAD_STEPS = 10
"""Steps in a row without finite gradients after which training gives up; single ones happen and are skipped."""


def learning_rate_factor(step: int, config: TrainLoopConfig) -> float:
    """Return the learning rate of a step, as a part of its peak: linear warm-up, then half a cosine to zero."""
    warmup = max(1, round(config.warmup_fraction * config.steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, config.steps - warmup)))


def item_indices(run: Run) -> Iterator[int]:
    """Yield the items of all steps that are left; the processes of a step share its items, in order."""
    config, accelerator = run.config, run.accelerator
    for forward in range(run.step * config.accumulation, config.steps * config.accumulation):
        first = (forward * accelerator.num_processes + accelerator.process_index) * config.batch_size
        yield from range(first, first + config.batch_size)


def take_step(run: Run, batches: Sequence[Batch]) -> dict[str, float]:
    """Let each player play once and update the moving averages.

    Args:
        run: Its networks, optimizers and averages change.
        batches: One per forward pass (``accumulation``).

    Returns:
        Numbers for the log, by ``player/name``: means over the items of this process.

    Raises:
        InputError: The gradients stay infinite.
    """
    numbers: dict[str, float] = {}
    for index, player in enumerate(run.task.players):
        numbers |= _play(run, player, index, batches)
    if run.is_shared:
        follow_main_process(_tensors_without_gradient(run))
    # Short averages at the beginning forget the random initial weights.
    decay = min(run.config.ema_decay, (1 + run.step) / (10 + run.step))
    for name, average in run.averages.items():
        _update_average(average, run.task.networks[name], decay)
    return numbers


def mean_over_processes(run: Run, numbers: Mapping[str, float]) -> dict[str, float]:
    """Return the means of the numbers over all processes."""
    if not run.is_shared:
        return dict(numbers)
    values = torch.tensor(list(numbers.values()), dtype=torch.float64, device=run.accelerator.device)
    means = run.accelerator.reduce(values, reduction="mean").tolist()
    return dict(zip(numbers, means, strict=True))


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Make what draws from torch's global generator (dropout) repeatable, and leave that generator as it was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _play(run: Run, player: Player, index: int, batches: Sequence[Batch]) -> dict[str, float]:
    accelerator, optimizer = run.accelerator, run.optimizers[player.name]
    parameters = parameters_of(run.task, player)
    for network in run.task.networks.values():
        network.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    rate = player.learning_rate * learning_rate_factor(run.step, run.config)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    numbers: dict[str, float] = {}
    for micro, batch in enumerate(batches):
        seed = _seed(run.config.seed, run.step, index, micro, accelerator.process_index)
        with seeded(seed, accelerator.device), accelerator.autocast():
            loss, found = player.loss(batch, _generator(seed, accelerator.device), run.step)
        accelerator.backward(loss / len(batches))
        for key, value in {"loss": float(loss.detach()), **found}.items():
            numbers[f"{player.name}/{key}"] = numbers.get(f"{player.name}/{key}", 0.0) + value / len(batches)
    norm = _finish_gradients(run, parameters)
    _update_weights(run, player, norm)
    return numbers | {f"{player.name}/gradient_norm": norm, f"{player.name}/learning_rate": rate}


def _finish_gradients(run: Run, parameters: list[nn.Parameter]) -> float:
    """Average the gradients over the processes, all in one message, and clip them; return their norm."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if run.is_shared:
        mean = run.accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), reduction="mean")
        for gradient, part in zip(gradients, mean.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
    return float(run.accelerator.clip_grad_norm_(parameters, run.config.clip_norm))


def _update_weights(run: Run, player: Player, norm: float) -> None:
    scaler = run.accelerator.scaler
    if math.isfinite(norm) or scaler is not None:  # with fp16 the scaler skips the step and lowers its scale
        run.optimizers[player.name].step()
    run.bad_steps[player.name] = 0 if math.isfinite(norm) else run.bad_steps.get(player.name, 0) + 1
    if run.bad_steps[player.name] >= BAD_STEPS:
        raise InputError(
            f"The gradients of {player.name} were not finite in {BAD_STEPS} steps in a row (step {run.step})",
            expected="finite losses",
            remedy="Lower the learning rate or check the training data, and resume from the last checkpoint",
        )


def _tensors_without_gradient(run: Run) -> Iterator[torch.Tensor]:
    """Yield what changes by other rules than gradients: statistics of normalization, codebooks."""
    for network in run.task.networks.values():
        yield from network.buffers()
        yield from (parameter for parameter in network.parameters() if parameter.grad is None)


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
