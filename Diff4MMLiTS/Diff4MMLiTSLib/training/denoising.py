"""How the denoiser learns: latents of lesions and their normal CTs, the loss, and validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..core.config import DenoiserTrainConfig, ModelKind
from ..core.enhancement import TumorFamily
from ..core.intensity import Window
from ..core.known_lesions import flat_contrast
from ..core.tumor_mask import dilate_mm, faded
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


def denoiser_task(
    training: Sequence[LesionPatch],
    validation: Sequence[LesionPatch],
    *,
    config: DenoiserTrainConfig,
    autoencoder: Autoencoder,
    window: Window,
    device: torch.device | str = "cpu",
) -> Task:
    """Return the training of the denoiser.

    Args:
        training: Lesions and their normal CTs; see ``patches_of``.
        validation: Lesions that are only measured; where there are none, training lesions are measured.
        config: Settings; the patch is a multiple of the autoencoder's factor.
        autoencoder: Trained; it is not changed.
        window: The autoencoder's intensity window.
        device: Where latents are computed.
    """
    autoencoder = autoencoder.to(device).eval().requires_grad_(False)
    network = seeded(lambda: Denoiser(config.network, autoencoder), config.loop.seed)
    learning = _DenoiserTraining(training, validation or training, config, network, autoencoder, window)
    network.set_latent_scale(*learning.latent_scale(device))
    player = Player("denoiser", ("denoiser",), learning.loss, config.learning_rate)
    return Task(ModelKind.DENOISER, {"denoiser": network}, (player,), ("denoiser",), learning.sample, learning.validate)


def patches_of(pairs: Sequence[TumorPair], config: DenoiserTrainConfig, factor: int) -> tuple[LesionPatch, ...]:
    """Return every lesion of the pairs in a patch somewhat larger than those of training, which are cut from it.

    Args:
        pairs: Studies with tumors and their normal CTs, on the autoencoder's working grid.
        config: Settings.
        factor: The autoencoder's compression per axis.

    Raises:
        InputError: No lesion.
    """
    z, y, x = (factor * round(length * (1 + JITTER) / factor) for length in config.patch)
    return lesion_patches(pairs, (z, y, x), largest_shift_mm=config.largest_shift_mm)


def one_hot(family: TumorFamily | None) -> FloatArray:
    """Return the family as the denoiser is told it, (F,); all zero for None."""
    return np.array([float(family is kind) for kind in TumorFamily], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class _DenoiserTraining:
    """What the denoiser learns from, and how."""

    lesions: Sequence[LesionPatch]
    held_out: Sequence[LesionPatch]
    config: DenoiserTrainConfig
    network: Denoiser
    autoencoder: Autoencoder
    window: Window

    def sample(self, index: int) -> Item:
        """Return training item ``index``: a lesion, mirrored and cut at random, of somewhat other contrast."""
        rng = np.random.default_rng([self.config.loop.seed, TRAINING_STREAM, index])
        lesion = self._draw(rng)
        kept = rng.random(PHASE_COUNT) >= self.config.phase_dropout
        presence = lesion.presence * kept if (lesion.presence * kept).any() else lesion.presence
        told = lesion.family if rng.random() >= self.config.family_dropout else None
        varied = replace(_varied(lesion, self.config, rng), presence=presence.astype(np.float32), family=told)
        return self._item(varied, rng)

    def loss(self, batch: Batch, generator: torch.Generator, _step: int) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the weighted square error of the prediction at random timesteps."""
        count, device = len(batch["base"]), batch["base"].device
        timesteps = torch.randint(self.config.network.diffusion.timesteps, (count,), generator=generator, device=device)
        return self._error(batch, timesteps, generator), {}

    def validate(self) -> dict[str, float]:
        """Measure the error at fixed timesteps on fixed patches with fixed noise."""
        device = next(self.network.parameters()).device
        generator = torch.Generator(device).manual_seed(self.config.loop.seed)
        errors = []
        for index, lesion in enumerate(self.held_out[:VALIDATION_LESIONS]):
            rng = np.random.default_rng([self.config.loop.seed, VALIDATION_STREAM, index])
            batch = as_batch(self._item(lesion, rng), device)
            for part in VALIDATION_TIMES:
                timestep = torch.tensor([int(part * self.config.network.diffusion.timesteps)], device=device)
                errors.append(float(self._error(batch, timestep, generator)))
        return {"score": -float(np.mean(errors)), "error": float(np.mean(errors))}

    @torch.no_grad()
    def latent_scale(self, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return mean and deviation of the base's latents and root mean square of the change in tumors, (C,) each."""
        sums = torch.zeros(5, self.autoencoder.latent_channels, dtype=torch.float64, device=device)
        for lesion in self.lesions:
            batch = as_batch(self._whole(lesion), torch.device(device))
            base, change = (part[0].reshape(PHASE_COUNT, -1, *part.shape[2:]) for part in self._latents(batch))
            there = batch["presence"][0] > 0
            inside = (soft_occupancy(batch["tumor"], self.autoencoder)[0] > 0).any(dim=0)  # (Z', Y', X')
            values = base[there].movedim(1, -1).flatten(0, -2).double()  # (cells, C)
            changes = change[there][..., inside].movedim(1, -1).flatten(0, -2).double()
            count, voxels = torch.full_like(sums[0], len(values)), torch.full_like(sums[0], len(changes))
            sums += torch.stack((values.sum(0), (values**2).sum(0), count, (changes**2).sum(0), voxels))
        mean = sums[0] / sums[2]
        deviation = (sums[1] / sums[2] - mean**2).clamp(min=0).sqrt()
        return mean.float().cpu(), deviation.float().cpu(), (sums[3] / sums[4]).sqrt().float().cpu()

    def _error(self, batch: Batch, timesteps: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        diffusion = self.config.network.diffusion
        base, raw = self._latents(batch)
        change = self.network.standardize_change(raw)
        noise = torch.randn(change.shape, generator=generator, device=change.device)
        bars = alpha_bars(diffusion).to(change.device)[timesteps]
        condition = denoiser_condition(
            self.network.standardize_base(base),
            soft_occupancy(batch["tumor"], self.autoencoder),
            presence=batch["presence"],
            family=batch["family"],
        )
        predicted = self.network(add_noise(change, noise, bars), timesteps, condition)
        wanted = training_target(change, noise, bars, diffusion.prediction)
        channels = change.shape[1] // PHASE_COUNT
        phases = (batch["presence"] * batch["trust"]).repeat_interleave(channels, dim=1)
        near = (soft_occupancy(batch["ring"], self.autoencoder) > 0).any(dim=1, keepdim=True)
        cells = torch.where(near, 1.0, self.config.background_weight)
        weights = cells * phases[:, :, None, None, None]
        error: torch.Tensor = ((predicted - wanted).square() * weights).sum() / weights.sum().clamp(min=1e-6)
        return error

    @torch.no_grad()
    def _latents(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the latents of the flat tumor and what the true one changes in them, (B, P C, Z', Y', X') each."""
        flags = batch["presence"].flatten()[:, None, None, None, None]  # (B P, 1, 1, 1, 1)
        base, changed = (
            self.autoencoder.encode(batch[name].flatten(0, 1)[:, None]) for name in ("base", "changed")
        )  # (B P, C, Z', Y', X')
        shape = (len(batch["base"]), -1, *base.shape[2:])
        return (base * flags).reshape(shape), ((changed - base) * flags).reshape(shape)

    def _draw(self, rng: np.random.Generator) -> LesionPatch:
        """Draw a lesion, each family as often as the others: a rare one must be learned too."""
        families = sorted({str(lesion.family) for lesion in self.lesions})
        family = families[int(rng.integers(len(families)))]
        chosen = [lesion for lesion in self.lesions if str(lesion.family) == family]
        return chosen[int(rng.integers(len(chosen)))]

    def _item(self, lesion: LesionPatch, rng: np.random.Generator) -> Item:
        whole = self._whole(lesion)
        spare = [have - want for have, want in zip(lesion.tumor.shape, self.config.patch, strict=True)]
        start = [int(rng.integers(left + 1)) for left in spare]
        z, y, x = (slice(a, a + n) for a, n in zip(start, self.config.patch, strict=True))
        cut = {name: np.ascontiguousarray(whole[name][:, z, y, x]) for name in ("base", "changed", "tumor", "ring")}
        return {**whole, **cut}

    def _whole(self, lesion: LesionPatch) -> Item:
        """Return a lesion as an item that is not cut."""
        ring = dilate_mm(lesion.tumor, lesion.grid, self.config.ring_mm)
        return {
            "base": self.window.normalize(_flat(lesion)),
            "changed": self.window.normalize(lesion.changed),
            "tumor": lesion.tumor[None].astype(np.float32),
            "ring": ring[None].astype(np.float32),
            "presence": lesion.presence,
            "trust": lesion.trust,
            "family": one_hot(lesion.family),
        }


def _flat(lesion: LesionPatch) -> FloatArray:
    """Return the normal CT with the flat tumor that is most like the lesion, (P, Z, Y, X), HU."""
    contrast = flat_contrast(lesion.changed - lesion.normal, lesion.tumor, lesion.grid)
    soft = faded(lesion.tumor, lesion.grid)
    return np.asarray(lesion.normal + contrast[:, None, None, None] * soft, dtype=np.float32)


def _varied(lesion: LesionPatch, config: DenoiserTrainConfig, rng: np.random.Generator) -> LesionPatch:
    """Return a lesion mirrored along random axes, with somewhat more or less contrast.

    Lesions know no left and right, and there are few of them; what is mirrored with them, the liver around, is context.
    """
    mirrored = tuple(axis for axis in (-3, -2, -1) if config.mirror and rng.random() < 0.5)
    gain = 1.0 + rng.uniform(-config.contrast_gain, config.contrast_gain)
    changed = lesion.normal + np.float32(gain) * (lesion.changed - lesion.normal)
    return replace(
        lesion,
        normal=np.flip(lesion.normal, mirrored),
        changed=np.flip(changed, mirrored),
        tumor=np.flip(lesion.tumor, mirrored),
    )
