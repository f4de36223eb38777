"""How the inpainter and the autoencoder learn: items, losses and validation for the one training loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..core.config import AutoencoderTrainConfig, InpainterNetwork, InpainterTrainConfig, ModelKind
from ..core.errors import InputError
from ..core.grid import Grid
from ..core.intensity import Window
from ..core.parenchyma import parenchyma_level
from ..core.tumor_mask import dilate_mm, draw_tumors, inpainting_mask
from ..nets.autoencoder import Autoencoder, Discriminator, codebook_health
from ..nets.inpainter import PHASE_COUNT, RESIDUAL_GAIN, Inpainter
from .adversarial import AdversarialWeights, discriminator_loss, generator_loss, spectral_loss
from .datasets import BoolArray, FloatArray, WorkingStudy
from .event_file import Picture
from .patches import Patch, crop_patch, random_center
from .task import Batch, Item, Player, Task

NetworkT = TypeVar("NetworkT", bound=nn.Module)

VALIDATION_ITEMS = 8
VALIDATION_HOLES = 24
"""Holes differ more than patches do: of size, of place, of phases."""
PICTURES = 2
"""Validation items that are drawn for the log."""
TRAINING_STREAM, VALIDATION_STREAM = 0, 1
"""Second word of the seed of an item."""
LOWEST = -0.999
"""Normalized values above this are data; a phase that ends within the liver is padded with air."""
SMALLEST_HOLE_MM = 6.0
"""Radius of the ball that is cut out where a patch has no room for a random hole."""
RESTART_EVERY = 50
"""Steps between two searches for dead codes."""


def inpainter_task(
    training: Sequence[WorkingStudy],
    validation: Sequence[WorkingStudy],
    *,
    config: InpainterTrainConfig,
    build: Callable[[InpainterNetwork], nn.Module] = Inpainter,
) -> Task:
    """Return the training of the inpainter on random holes in livers, away from real tumors.

    Args:
        training: Studies with livers, at ``config.spacing_mm``.
        validation: Studies that are only measured; where there are none, training studies are measured.
        config: Settings.
        build: Makes the network; comparisons train others, with the methods of ``Inpainter``, on the same items.
    """
    network = seeded(lambda: build(config.network), config.loop.seed)
    judge = _discriminator(config, PHASE_COUNT + 1)
    learning = _InpainterTraining(training, validation or training, config, network, judge)
    players = [Player("inpainter", ("inpainter",), learning.loss, config.learning_rate)]
    if judge is not None:
        players.append(Player("discriminator", ("discriminator",), learning.judge_loss, config.learning_rate))
    networks = {"inpainter": network} | ({"discriminator": judge} if judge is not None else {})
    return Task(
        ModelKind.INPAINTER,
        networks,
        tuple(players),
        ema=("inpainter",),
        sample=learning.sample,
        validate=learning.validate,
        pictures=learning.pictures,
    )


def autoencoder_task(
    training: Sequence[WorkingStudy], validation: Sequence[WorkingStudy], *, config: AutoencoderTrainConfig
) -> Task:
    """Return the training of the autoencoder on single phases of studies with tumors; arguments as ``inpainter_task``.

    No moving average of its weights is kept: the codebook, itself one, follows the encoder as it is.
    """
    if any(size % 2 ** len(config.network.channels) for size in config.patch):
        raise InputError(
            f"Patches of {config.patch} voxels",
            expected=f"multiples of {2 ** len(config.network.channels)}, the autoencoder's compression",
        )
    network = seeded(lambda: Autoencoder(config.network), config.loop.seed)
    judge = _discriminator(config, 1)
    learning = _AutoencoderTraining(training, validation or training, config, network, judge)
    players = [Player("autoencoder", ("autoencoder",), learning.loss, config.learning_rate)]
    if judge is not None:
        players.append(Player("discriminator", ("discriminator",), learning.judge_loss, config.learning_rate))
    networks = {"autoencoder": network} | ({"discriminator": judge} if judge is not None else {})
    return Task(ModelKind.AUTOENCODER, networks, tuple(players), (), learning.sample, learning.validate)


def seeded(build: Callable[[], NetworkT], seed: int) -> NetworkT:
    """Return a network whose fresh weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


@dataclass(frozen=True, eq=False)
class _InpainterTraining:
    """What the inpainter learns from, and how."""

    training: Sequence[WorkingStudy]
    validation: Sequence[WorkingStudy]
    config: InpainterTrainConfig
    network: nn.Module
    judge: Discriminator | None

    def sample(self, index: int) -> Item:
        """Return training item ``index``."""
        return self._item(self.training, index, TRAINING_STREAM)

    def loss(self, batch: Batch, _generator: torch.Generator, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        """Return L1 in the hole and on the known liver, spectral loss, and what the discriminator adds."""
        answer = self.network(**_inputs(batch), composited=False)
        filled = torch.where(batch["hole"] > 0, answer, batch["images"])
        counted = _counted(batch)
        difference = (answer - batch["images"]).abs() * RESIDUAL_GAIN
        absolute = _mean(difference, counted)
        known = _mean(difference, batch["liver"] * (1 - batch["hole"]) * _scanned(batch))
        pair = ((images - batch["base"]) * counted * RESIDUAL_GAIN for images in (filled, batch["images"]))
        spectral = spectral_loss(*pair)
        total = absolute + self.config.known_weight * known + self.config.spectral_weight * spectral
        numbers = {"l1": float(absolute.detach()), "known": float(known.detach()), "spectral": float(spectral.detach())}
        weights = _weights(self.config, step)
        if self.judge is None or weights.adversarial == 0:
            return total, numbers
        extra, found = generator_loss(self.judge, self._shown(batch, None), self._shown(batch, filled), weights)
        return total + extra, numbers | found

    def judge_loss(self, batch: Batch, _generator: torch.Generator, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the discriminator's loss; 0 until its opinion counts, so that it costs nothing before."""
        assert self.judge is not None  # this player exists only with a discriminator
        weights = _weights(self.config, step)
        if weights.adversarial == 0:
            return torch.stack([parameter.sum() for parameter in self.judge.parameters()]).sum() * 0.0, {}
        with torch.no_grad():
            filled = self.network(**_inputs(batch))
        return discriminator_loss(self.judge, self._shown(batch, None), self._shown(batch, filled), weights)

    def validate(self) -> dict[str, float]:
        """Measure the mean absolute error in holes of validation studies, in HU."""
        errors = []
        for index in range(VALIDATION_HOLES):
            batch = as_batch(self._item(self.validation, index, VALIDATION_STREAM), self._device)
            errors.append(float(_mean((self.network(**_inputs(batch)) - batch["images"]).abs(), _counted(batch))))
        mae_hu = float(np.mean(errors)) * _hu_per_unit(self.config.window_hu)
        return {"score": -mae_hu, "mae_hu": mae_hu}

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    def pictures(self) -> dict[str, Picture]:
        """Draw the middle slice of the first validation items: hole, fill and truth beside each other, per phase."""
        drawn = {}
        for index in range(PICTURES):
            batch = as_batch(self._item(self.validation, index, VALIDATION_STREAM), self._device)
            filled = self.network(**_inputs(batch))
            views = (batch["images"] * (1 - batch["hole"]), filled, batch["images"])
            middle = batch["images"].shape[2] // 2
            strip = torch.cat([view[0, :, middle] * _flags(batch)[0, :, 0] for view in views], dim=-1)  # (P, Y, 3 X)
            gray = (strip.flatten(0, 1).clamp(-0.5, 0.5) + 0.5) * 255  # about -30 to 260 HU
            drawn[f"hole, fill, truth {index + 1}"] = gray.byte().cpu().numpy()
        return drawn

    def _item(self, studies: Sequence[WorkingStudy], index: int, stream: int) -> Item:
        rng = np.random.default_rng([self.config.loop.seed, stream, index])
        return inpainter_item(studies[int(rng.integers(len(studies)))], self.config, rng)

    def _shown(self, batch: Batch, filled: torch.Tensor | None) -> torch.Tensor:
        """Return patches as the discriminator sees them, real ones for None; hidden real tumors stay blank."""
        images = batch["images"] if filled is None else filled
        visible = torch.maximum(batch["learned"], 1 - batch["hole"]) * _scanned(batch)
        return torch.cat(((images - batch["base"]) * visible * RESIDUAL_GAIN, batch["hole"]), dim=1)


@dataclass(frozen=True, eq=False)
class _AutoencoderTraining:
    """What the autoencoder learns from, and how."""

    training: Sequence[WorkingStudy]
    validation: Sequence[WorkingStudy]
    config: AutoencoderTrainConfig
    network: Autoencoder
    judge: Discriminator | None

    def sample(self, index: int) -> Item:
        """Return training item ``index``: one phase, (1, Z, Y, X)."""
        return self._item(self.training, index, TRAINING_STREAM)

    def loss(self, batch: Batch, generator: torch.Generator, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the reconstruction losses and what the discriminator adds; keep the codebook alive."""
        images = batch["images"]
        drawn = torch.rand(len(images), generator=generator, device=images.device)
        made = self.network(images, (drawn < self.config.quantized_fraction).float(), learn_codes=True)
        numbers = codebook_health(made.codes, self.config.network.codes)
        if step % RESTART_EVERY == 0:
            numbers["restarted_codes"] = float(self.network.restart_dead_codes(made.latents, generator))
        absolute = functional.l1_loss(made.images, images) * RESIDUAL_GAIN
        gradient = _gradient_difference(made.images, images) * RESIDUAL_GAIN
        spectral = spectral_loss(made.images * RESIDUAL_GAIN, images * RESIDUAL_GAIN)
        total = absolute + self.config.gradient_weight * gradient + self.config.spectral_weight * spectral
        total = total + made.commitment
        numbers |= {"l1": float(absolute.detach()), "commitment": float(made.commitment.detach())}
        weights = _weights(self.config, step)
        if self.judge is None or weights.adversarial == 0:
            return total, numbers
        extra, found = generator_loss(self.judge, images, made.images, weights)
        return total + extra, numbers | found

    def judge_loss(self, batch: Batch, generator: torch.Generator, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the discriminator's loss."""
        assert self.judge is not None  # this player exists only with a discriminator
        images = batch["images"]
        with torch.no_grad():
            drawn = torch.rand(len(images), generator=generator, device=images.device)
            made = self.network(images, (drawn < self.config.quantized_fraction).float(), learn_codes=False)
        return discriminator_loss(self.judge, images, made.images, _weights(self.config, step))

    def validate(self) -> dict[str, float]:
        """Measure the error of continuous and of quantized latents on validation patches."""
        device = next(self.network.parameters()).device
        errors = np.zeros(2)
        codes = []
        for index in range(VALIDATION_ITEMS):
            images = as_batch(self._item(self.validation, index, VALIDATION_STREAM), device)["images"]
            for kind in (0, 1):
                made = self.network(images, images.new_full((len(images),), kind), learn_codes=False)
                errors[kind] += float((made.images - images).abs().mean()) / VALIDATION_ITEMS
            codes.append(made.codes.flatten())
        continuous, quantized = (float(value) for value in errors * _hu_per_unit(self.config.window_hu))
        health = codebook_health(torch.cat(codes), self.config.network.codes)
        return {"score": -continuous, "mae_hu": continuous, "quantized_mae_hu": quantized, **health}

    def _item(self, studies: Sequence[WorkingStudy], index: int, stream: int) -> Item:
        config = self.config
        rng = np.random.default_rng([config.loop.seed, stream, index])
        study = studies[int(rng.integers(len(studies)))]
        fraction = config.tumor_fraction
        center = random_center(study, rng, tumor_fraction=fraction, liver_fraction=(1 - fraction) * 0.8)
        patch = crop_patch(study, center, config.patch)
        phase = int(rng.choice(np.flatnonzero(patch.presence)))
        varied = vary_contrast(patch.phases, rng, gain=config.gain, offset_hu=config.offset_hu)
        return {"images": Window(*config.window_hu).normalize(varied[phase : phase + 1])}


def inpainter_item(study: WorkingStudy, config: InpainterTrainConfig, rng: np.random.Generator) -> Item:
    """Return one training item of the inpainter.

    Returns:
        ``images``, ``base`` (P, Z, Y, X) in [-1, 1]; ``presence`` (P,); ``hole``, ``liver`` and ``learned``
        (1, Z, Y, X): what is hidden, and the part of it whose truth is known (no real tumor), 0 or 1, float32.
    """
    center = random_center(study, rng, tumor_fraction=0.0, liver_fraction=1.0)
    patch = _withhold(crop_patch(study, center, config.patch), config.phase_dropout, rng)
    grid = study.grid.cropped((0, 0, 0), (config.patch[2], config.patch[1], config.patch[0]))
    hidden = dilate_mm(patch.tumor, grid, config.margin_mm)
    drawn = _random_hole(patch.liver & ~hidden, grid, config, rng) & ~hidden
    hole = drawn | hidden
    phases = vary_contrast(patch.phases, rng, gain=config.gain, offset_hu=config.offset_hu)
    base = parenchyma_levels(phases, patch.presence, patch.liver & ~hole, grid)
    window = Window(*config.window_hu)
    masks = {"hole": hole, "liver": patch.liver, "learned": drawn}
    return {
        "images": window.normalize(phases),
        "base": window.normalize(base),
        "presence": patch.presence,
        **{name: mask[None].astype(np.float32) for name, mask in masks.items()},
    }


def parenchyma_levels(phases: FloatArray, presence: FloatArray, known: BoolArray, grid: Grid) -> FloatArray:
    """Return the smooth level of the parenchyma in each phase that is there, (P, Z, Y, X), HU; 0 elsewhere."""
    levels = np.zeros_like(phases)
    for index in np.flatnonzero(presence):
        levels[index] = parenchyma_level(phases[index], known, grid.spacing_zyx_mm)
    return levels


def vary_contrast(phases: FloatArray, rng: np.random.Generator, *, gain: float, offset_hu: float) -> FloatArray:
    """Return the phases (P, Z, Y, X) with contrast about 0 HU and brightness changed, each phase by its own."""
    shape = (len(phases), 1, 1, 1)
    factor = 1.0 + rng.uniform(-gain, gain, shape)
    offset = rng.normal(0.0, offset_hu, shape)
    return np.asarray(phases * factor + offset, dtype=np.float32)


def as_batch(item: Item, device: torch.device) -> Batch:
    """Return an item as a batch of one."""
    return {key: torch.from_numpy(np.asarray(value)[None]).to(device) for key, value in item.items()}


def _withhold(patch: Patch, dropout: float, rng: np.random.Generator) -> Patch:
    """Return a patch without some of its phases; one always stays."""
    kept = patch.presence * (rng.random(len(patch.presence)) >= dropout)
    if not kept.any():
        kept = np.zeros_like(patch.presence)
        kept[rng.choice(np.flatnonzero(patch.presence))] = 1.0
    return replace(patch, presence=kept.astype(np.float32))


def _random_hole(liver: BoolArray, grid: Grid, config: InpainterTrainConfig, rng: np.random.Generator) -> BoolArray:
    """Return a hole as a tumor would make it: its dilated mask; a ball where there is no room for a random shape."""
    try:
        tumor = draw_tumors(liver, grid, config=config.holes, rng=rng).mask
    except InputError:
        tumor = np.zeros_like(liver)
        places = np.flatnonzero(liver) if liver.any() else np.array([liver.size // 2])
        tumor.flat[rng.choice(places)] = True
        return dilate_mm(tumor, grid, SMALLEST_HOLE_MM)
    return inpainting_mask(tumor, liver, grid, margin_mm=config.margin_mm, rim_mm=0.0)


def _discriminator(config: InpainterTrainConfig | AutoencoderTrainConfig, channels: int) -> Discriminator | None:
    if config.adversarial_weight == 0:
        return None
    return seeded(lambda: Discriminator(config.discriminator, channels), config.loop.seed + 1)


def _weights(config: InpainterTrainConfig | AutoencoderTrainConfig, step: int) -> AdversarialWeights:
    begun = step >= config.adversarial_start * config.loop.steps
    return AdversarialWeights(config.adversarial_weight if begun else 0.0, config.feature_weight, config.r1_weight)


def _inputs(batch: Batch) -> dict[str, torch.Tensor]:
    """Return what the inpainter is given, by its argument names."""
    return {name: batch[name] for name in ("images", "base", "presence", "hole", "liver")}


def _flags(batch: Batch) -> torch.Tensor:
    return batch["presence"][:, :, None, None, None]


def _counted(batch: Batch) -> torch.Tensor:
    """Return the voxels of each phase whose truth is known, (B, P, Z, Y, X)."""
    return batch["learned"] * _scanned(batch)


def _scanned(batch: Batch) -> torch.Tensor:
    """Return where each phase that is there has data: no liver lies at the window's lower end, only padding."""
    return _flags(batch) * (batch["images"] > LOWEST)


def _mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1)


def _gradient_difference(fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute difference of the slopes along each axis."""
    parts = [functional.l1_loss(fake.diff(dim=axis), real.diff(dim=axis)) for axis in (2, 3, 4)]
    return torch.stack(parts).mean()


def _hu_per_unit(window_hu: tuple[float, float]) -> float:
    return (window_hu[1] - window_hu[0]) / 2
