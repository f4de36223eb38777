"""The state of a training: what changes from step to step, how it is written to a checkpoint and comes back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from ..core.config import TrainLoopConfig
from ..core.errors import InputError
from ..core.files import free_bytes
from .checkpoint import load_checkpoint, save_checkpoint
from .event_file import Picture
from .processes import join_processes
from .run_log import forget_later_lines
from .task import Player, Task

SAME_AFTER_RESUME = ("steps", "batch_size", "accumulation", "warmup_fraction", "weight_decay", "clip_norm", "ema_decay")
"""Settings that a resumed run must share with its beginning, besides ``precision`` and ``seed``."""
CHANGING = ("step", "bad_steps", "best_step", "best_metrics", "validations_since_best")
"""What of the state is plain numbers."""
GIGABYTE = 10**9


@dataclass(eq=False)
class Run:
    """Everything that changes while training, and what a checkpoint holds.

    Args:
        task: What is trained.
        config: The loop's settings.
        folder: The run folder.
        accelerator: Knows the device and the other processes.
        optimizers: By player.
        averages: Moving averages of weights by network.
        step: Optimizer steps done.
        bad_steps: Steps in a row without finite gradients, by player.
        best_step: The step with the best score, -1 before the first validation.
        best_metrics: What was measured there.
        validations_since_best: Validations without a better score.
        pictures: Drawn by the last validation and not logged yet.
    """

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

    @property
    def is_shared(self) -> bool:
        """Whether several processes train together."""
        return int(self.accelerator.num_processes) > 1


def begin_run(task: Task, config: TrainLoopConfig, folder: Path, device: torch.device) -> Run:
    """Return the state before the first step; nothing is written."""
    AcceleratorState._reset_state()  # the precision may differ from that of a training before in this process
    join_processes(device)
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=config.precision.value)
    for network in task.networks.values():
        network.to(accelerator.device)
    set_modes(task, training=True)
    optimizers = {
        player.name: accelerator.prepare_optimizer(
            torch.optim.AdamW(
                parameters_of(task, player), lr=player.learning_rate, weight_decay=config.weight_decay, foreach=True
            )
        )
        for player in task.players
    }
    averages = {name: copied(task.networks[name].state_dict()) for name in task.ema}
    return Run(task, config, folder, accelerator, optimizers, averages)


def restore_run(run: Run, *, resume: bool) -> None:
    """Bring the state of the newest checkpoint back, if there is one.

    Raises:
        InputError: There is one and ``resume`` is not given, it was made with other settings, or it is damaged.
    """
    content = load_checkpoint(run.folder, run.accelerator.device)
    if content is not None:
        if not resume:
            raise InputError(
                f"The run '{run.folder.name}' has been started before",
                remedy="Give --resume to go on with it, or choose another folder",
            )
        _check_same_config(content["config"], run.config)
        for name, network in run.task.networks.items():
            network.load_state_dict(content["networks"][name])
        for name, optimizer in run.optimizers.items():
            optimizer.load_state_dict(content["optimizers"][name])
        if run.accelerator.scaler is not None:
            run.accelerator.scaler.load_state_dict(content["scaler"])
        run.averages = content["averages"]
        for key in CHANGING:
            setattr(run, key, content[key])
    run.accelerator.wait_for_everyone()  # nobody writes before all have read
    if run.accelerator.is_main_process:
        forget_later_lines(run.folder, None if content is None else run.step)


def write_checkpoint(run: Run) -> None:
    """Write the state into the run folder; only the main process does."""
    if not run.accelerator.is_main_process:
        return
    scaler = run.accelerator.scaler
    content = {
        "config": run.config.model_dump(mode="json"),
        "networks": {name: network.state_dict() for name, network in run.task.networks.items()},
        "averages": run.averages,
        "optimizers": {name: optimizer.state_dict() for name, optimizer in run.optimizers.items()},
        "scaler": scaler.state_dict() if scaler else {},
        **{key: getattr(run, key) for key in CHANGING},
    }
    save_checkpoint(run.folder, run.step, content, keep=run.config.keep_checkpoints)


def checkpoint_bytes(run: Run) -> int:
    """Return the size of a checkpoint: weights, their averages, and two moments per trained weight."""
    trained = [parameter for player in run.task.players for parameter in parameters_of(run.task, player)]
    return sum(map(_bytes_of, run.task.networks.values())) + sum(map(_bytes_of, trained)) * 2 + _averages_bytes(run)


def run_bytes(run: Run) -> int:
    """Return the disk space that a run takes at most: checkpoints, one being written, and the best weights twice."""
    best = sum(map(_bytes_of, run.task.networks.values()))
    return checkpoint_bytes(run) * (run.config.keep_checkpoints + 1) + 2 * best


def refuse_full_disk(run: Run) -> None:
    """Refuse a run that would fill the disk.

    Raises:
        InputError: There is less space than the run needs and the user wants to keep free.
    """
    needed, free = run_bytes(run) / GIGABYTE + run.config.keep_free_gb, free_bytes(run.folder) / GIGABYTE
    if free < needed:
        raise InputError(
            f"{free:.1f} GB are free on the disk of '{run.folder.name}'",
            expected=f"{needed:.1f} GB: the run's checkpoints, and {run.config.keep_free_gb:g} GB that stay free",
            remedy="Free space, choose another folder, or lower keep_checkpoints or keep_free_gb",
        )


def is_disk_nearly_full(run: Run) -> bool:
    """Return whether another checkpoint would leave less space than the user wants to keep free."""
    return free_bytes(run.folder) < run.config.keep_free_gb * GIGABYTE + checkpoint_bytes(run)


def parameters_of(task: Task, player: Player) -> list[nn.Parameter]:
    """Return what a player trains."""
    return [parameter for name in player.networks for parameter in task.networks[name].parameters()]


def set_modes(task: Task, *, training: bool) -> None:
    """Put the networks that somebody trains into training or evaluation mode; the others stay as they are."""
    learning = {name for player in task.players for name in player.networks}
    for name, network in task.networks.items():
        network.train(training and name in learning)


def copied(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a copy of a state dict."""
    return {key: value.detach().clone() for key, value in weights.items()}


def _check_same_config(old: Mapping[str, Any], new: TrainLoopConfig) -> None:  # Any: JSON of a configuration
    current = new.model_dump(mode="json")
    for key in (*SAME_AFTER_RESUME, "precision", "seed"):
        if old[key] != current[key]:
            raise InputError(
                f"The run was begun with {key} = {old[key]}, not {current[key]}",
                expected="the settings it was begun with",
                remedy="Resume with the same configuration, or start a new run",
            )


def _averages_bytes(run: Run) -> int:
    return sum(_sum_bytes(average.values()) for average in run.averages.values())


def _bytes_of(thing: nn.Module | torch.Tensor) -> int:
    return _sum_bytes([thing] if isinstance(thing, torch.Tensor) else thing.state_dict().values())


def _sum_bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
