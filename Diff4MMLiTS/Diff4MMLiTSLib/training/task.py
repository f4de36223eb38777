"""What the training loop trains: networks, their losses, their data and their validation, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..core.config import ModelKind
from .event_file import Picture

Batch = Mapping[str, torch.Tensor]
"""Items of one forward pass by name, on the device of training; the first axis counts items."""

Item = Mapping[str, NDArray[np.generic]]
"""One training item; arrays by name, without the batch axis."""

LossFunction = Callable[[Batch, torch.Generator, int], tuple[torch.Tensor, dict[str, float]]]
"""(batch, randomness, optimizer step) -> (scalar loss, numbers for the log)."""


@dataclass(frozen=True)
class Player:
    """What one optimizer trains: a network alone, or the generator or the discriminator of a GAN.

    Args:
        name: Appears before its numbers in the log.
        networks: Names in ``Task.networks`` whose parameters it changes; while it plays, the parameters of the other
            networks take no gradient.
        loss: Its loss.
        learning_rate: Peak learning rate.
    """

    name: str
    networks: tuple[str, ...]
    loss: LossFunction
    learning_rate: float


@dataclass(frozen=True)
class Task:
    """What the loop trains.

    Args:
        kind: The kind of model that comes out.
        networks: Networks by name; all of them are saved and resumed, buffers included.
        players: Play in this order in every step, each on the same items.
        ema: Networks of which an exponential moving average is kept.
        sample: Training item i; a pure function of i (and of the seed), so that resuming needs no other state.
        validate: Measures the networks, which hold their averaged weights while it runs; "score" is better when
            higher. It must not change the networks.
        pictures: Sample pictures by name for the log, drawn after each validation with the same weights.
    """

    kind: ModelKind
    networks: Mapping[str, nn.Module]
    players: tuple[Player, ...]
    ema: tuple[str, ...]
    sample: Callable[[int], Item]
    validate: Callable[[], dict[str, float]]
    pictures: Callable[[], Mapping[str, Picture]] = field(default=dict)
