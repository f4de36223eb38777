"""How the denoiser learns: latents of lesions and their normal CTs, the loss, and validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..core.config import DenoiserTrainConfig, ModelKind
from ..core.enhancement import TumorFamily
from ..core.intensity import Window
from ..core.tumor_mask import dilate_mm
from ..nets.autoencoder import Autoencoder
from ..nets.denoiser import PHASE_COUNT, Denoiser, denoiser_condition, soft_occupancy
from ..nets.diffusion import add_noise, alpha_bars, training_target
from .datasets import FloatArray
from .generative import TRAINING_STREAM, VALIDATION_STREAM, as_batch, seeded
from .pairs import LesionPatch, TumorPair, lesion_patches
from .task import Batch, Item, Player, Task

VALIDATION_TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Parts of the noising process at which the denoiser is measured."""
VALIDATION_LESIONS = 8
JITTER = 0.25
"""A lesion lies up to this part of the patch beside its middle."""


@dataclass(frozen=True, eq=False)
class LesionLatents:
    """A lesion as the denoiser sees it; larger than a training patch, from which patches are cut.

    Args:
        normal: Latents of the normal CT, (P C, Z', Y', X').
        change: What the tumor adds to them, same shape.
        occupancy: Part of each cell that is tumor, (1, Z', Y', X').
        weight: How much each cell counts, (1, Z', Y', X').
        presence: (P,).
        trust: (P,), 0 to 1.
        family: One-hot, (F,).
    """

    normal: FloatArray
    change: FloatArray
    occupancy: FloatArray
    weight: FloatArray
    presence: FloatArray
    trust: FloatArray
    family: FloatArray


def denoiser_task(
    training: Sequence[TumorPair],
    validation: Sequence[TumorPair],
    *,
    config: DenoiserTrainConfig,
    autoencoder: Autoencoder,
    window: Window,
    device: torch.device | str = "cpu",
) -> Task:
    """Return the training of the denoiser on the tumors of pairs.

    Args:
        training: Studies with tumors and their normal CTs, on the autoencoder's working grid.
        validation: Pairs that are only measured; where there are none, training pairs are measured.
        config: Settings; the patch is a multiple of the autoencoder's factor.
        autoencoder: Trained; it is not changed.
        window: The autoencoder's intensity window.
        device: Where latents are computed.

    Raises:
        InputError: No lesion.
    """
    autoencoder = autoencoder.to(device).eval()
    lesions = [encode_lesion(patch, autoencoder, window, config) for patch in _patches(training, config, autoencoder)]
    held_out = lesions
    if validation:
        held_out = [
            encode_lesion(patch, autoencoder, window, config) for patch in _patches(validation, config, autoencoder)
        ]
    network = seeded(lambda: Denoiser(config.network, autoencoder.latent_channels), config.loop.seed)
    network.set_latent_scale(*map(torch.from_numpy, _statistics(lesions)))
    learning = _DenoiserTraining(lesions, held_out, config, network, autoencoder.factor)
    player = Player("denoiser", ("denoiser",), learning.loss, config.learning_rate)
    return Task(ModelKind.DENOISER, {"denoiser": network}, (player,), ("denoiser",), learning.sample, learning.validate)


@torch.no_grad()
def encode_lesion(
    patch: LesionPatch, autoencoder: Autoencoder, window: Window, config: DenoiserTrainConfig
) -> LesionLatents:
    """Return the latents of a lesion and of its normal CT."""
    device = next(autoencoder.parameters()).device
    normal, changed = (
        autoencoder.encode(torch.from_numpy(window.normalize(images))[:, None].to(device))
        for images in (patch.normal, patch.changed)
    )
    factor = autoencoder.factor
    tumor = torch.from_numpy(patch.tumor[None, None].astype(np.float32))
    ring = torch.from_numpy(dilate_mm(patch.tumor, patch.grid, config.ring_mm)[None, None].astype(np.float32))
    weight = torch.where(soft_occupancy(ring, factor) > 0, 1.0, config.background_weight)
    flags = torch.from_numpy(patch.presence)[:, None, None, None, None].to(device)
    family = one_hot(patch.family)
    return LesionLatents(
        normal=(normal * flags).flatten(0, 1).cpu().numpy(),  # (P C, Z', Y', X')
        change=((changed - normal) * flags).flatten(0, 1).cpu().numpy(),
        occupancy=soft_occupancy(tumor, factor)[0].numpy(),
        weight=weight[0].numpy(),
        presence=patch.presence,
        trust=patch.trust,
        family=family,
    )


def one_hot(family: TumorFamily | None) -> FloatArray:
    """Return the family as the denoiser is told it, (F,); all zero for None."""
    return np.array([float(family is kind) for kind in TumorFamily], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class _DenoiserTraining:
    """What the denoiser learns from, and how."""

    lesions: Sequence[LesionLatents]
    held_out: Sequence[LesionLatents]
    config: DenoiserTrainConfig
    network: Denoiser
    factor: int

    def sample(self, index: int) -> Item:
        """Return training item ``index``: latents of one lesion, cut at random."""
        rng = np.random.default_rng([self.config.loop.seed, TRAINING_STREAM, index])
        lesion = self.lesions[int(rng.integers(len(self.lesions)))]
        kept = rng.random(PHASE_COUNT) >= self.config.phase_dropout
        presence = lesion.presence * kept if (lesion.presence * kept).any() else lesion.presence
        told = float(rng.random() >= self.config.family_dropout)
        return self._item(lesion, presence.astype(np.float32), told, rng)

    def loss(self, batch: Batch, generator: torch.Generator, _step: int) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the weighted square error of the prediction at random timesteps."""
        count, device = len(batch["change"]), batch["change"].device
        timesteps = torch.randint(self.config.network.diffusion.timesteps, (count,), generator=generator, device=device)
        return self._error(batch, timesteps, generator), {}

    def validate(self) -> dict[str, float]:
        """Measure the error at fixed timesteps on fixed patches with fixed noise."""
        device = next(self.network.parameters()).device
        generator = torch.Generator(device).manual_seed(self.config.loop.seed)
        errors = []
        for index, lesion in enumerate(self.held_out[:VALIDATION_LESIONS]):
            rng = np.random.default_rng([self.config.loop.seed, VALIDATION_STREAM, index])
            batch = as_batch(self._item(lesion, lesion.presence, 1.0, rng), device)
            for part in VALIDATION_TIMES:
                timestep = torch.tensor([int(part * self.config.network.diffusion.timesteps)], device=device)
                errors.append(float(self._error(batch, timestep, generator)))
        return {"score": -float(np.mean(errors)), "error": float(np.mean(errors))}

    def _error(self, batch: Batch, timesteps: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        diffusion = self.config.network.diffusion
        change = self.network.standardize_change(batch["change"])
        noise = torch.randn(change.shape, generator=generator, device=change.device)
        bars = alpha_bars(diffusion).to(change.device)[timesteps]
        condition = denoiser_condition(
            self.network.standardize_normal(batch["normal"]),
            batch["occupancy"],
            presence=batch["presence"],
            family=batch["family"],
        )
        predicted = self.network(add_noise(change, noise, bars), timesteps, condition)
        wanted = training_target(change, noise, bars, diffusion.prediction)
        channels = change.shape[1] // PHASE_COUNT
        phases = (batch["presence"] * batch["trust"]).repeat_interleave(channels, dim=1)
        weights = batch["weight"] * phases[:, :, None, None, None]
        error: torch.Tensor = ((predicted - wanted).square() * weights).sum() / weights.sum().clamp(min=1e-6)
        return error

    def _item(self, lesion: LesionLatents, presence: FloatArray, told: float, rng: np.random.Generator) -> Item:
        size = [length // self.factor for length in self.config.patch]
        spare = [have - want for have, want in zip(lesion.change.shape[1:], size, strict=True)]
        start = [int(rng.integers(left + 1)) for left in spare]
        box = (slice(None), *(slice(a, a + n) for a, n in zip(start, size, strict=True)))
        flags = np.repeat(presence, lesion.change.shape[0] // PHASE_COUNT)[:, None, None, None]
        return {
            "normal": lesion.normal[box] * flags,
            "change": lesion.change[box] * flags,
            "occupancy": lesion.occupancy[box],
            "weight": lesion.weight[box],
            "presence": presence,
            "trust": lesion.trust,
            "family": lesion.family * np.float32(told),
        }


def _patches(
    pairs: Sequence[TumorPair], config: DenoiserTrainConfig, autoencoder: Autoencoder
) -> tuple[LesionPatch, ...]:
    factor = autoencoder.factor
    size = tuple(factor * round(length * (1 + JITTER) / factor) for length in config.patch)
    return lesion_patches(pairs, (size[0], size[1], size[2]), largest_shift_mm=config.largest_shift_mm)


def _statistics(lesions: Sequence[LesionLatents]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean and deviation of the normal latents and deviation of the change inside tumors, each (C,)."""
    channels = len(lesions[0].change) // PHASE_COUNT
    normal: list[list[FloatArray]] = [[] for _ in range(channels)]
    change: list[list[FloatArray]] = [[] for _ in range(channels)]
    for lesion in lesions:
        inside = lesion.occupancy[0] > 0
        for phase in np.flatnonzero(lesion.presence):
            for channel in range(channels):
                normal[channel].append(lesion.normal[phase * channels + channel].ravel())
                change[channel].append(lesion.change[phase * channels + channel][inside])
    means = np.array([np.concatenate(parts).mean() for parts in normal], dtype=np.float32)
    deviations = np.array([np.concatenate(parts).std() for parts in normal], dtype=np.float32)
    scales = np.array([np.sqrt(np.square(np.concatenate(parts)).mean()) for parts in change], dtype=np.float32)
    return means, deviations, scales
