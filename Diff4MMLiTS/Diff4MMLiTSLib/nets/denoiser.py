"""The denoiser of stage 3: sees all phases of a latent at once, so that a synthetic tumor agrees between them.

It begins from a *base*: the normal CT with a flat tumor of a given contrast in each phase. What is diffused is the
change that a true tumor makes to the base's latents: rim, necrosis, capsule, border. The base is the condition, so
neither anatomy nor enhancement need be learned again; far from the tumor the change is zero, and what the autoencoder
cannot render (noise) is kept from the patient's own image.
"""

from __future__ import annotations

import torch
from monai.networks.nets import DiffusionModelUNet
from torch import nn
from torch.nn import functional

from ..core.config import DenoiserNetwork
from .autoencoder import Autoencoder, gather_cells

PHASE_COUNT = 4
FAMILY_COUNT = 4
"""Tumor families that a user can ask for, in the order of ``TumorFamily``."""
SMALLEST_SCALE = 1e-4
"""Keeps a latent channel that never changes from being divided by zero."""


class Denoiser(nn.Module):
    """Predicts noise or velocity of noisy latents under a condition; see ``denoiser_condition``."""

    def __init__(self, config: DenoiserNetwork, autoencoder: Autoencoder) -> None:
        super().__init__()
        latent_channels = autoencoder.latent_channels
        latent = PHASE_COUNT * latent_channels
        self.factor = 2 ** (len(config.channels) - 1)
        self.network = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=2 * latent + (1 + FAMILY_COUNT) * autoencoder.coarse**3 + PHASE_COUNT,
            out_channels=latent,
            num_res_blocks=config.residual_blocks,
            channels=config.channels,
            attention_levels=config.attention,
            norm_num_groups=config.groups,
            num_head_channels=config.groups,
        )
        self.latent_mean = nn.Buffer(torch.zeros(latent_channels))
        self.latent_std = nn.Buffer(torch.ones(latent_channels))
        self.change_scale = nn.Buffer(torch.ones(latent_channels))

    def forward(self, noisy: torch.Tensor, timestep: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Return the prediction (B, P C, Z', Y', X'), float32.

        Args:
            noisy: Noisy standardized change, (B, P C, Z', Y', X').
            timestep: (B,), int64.
            condition: See ``denoiser_condition``.
        """
        size = noisy.shape[2:]
        missing = [-length % self.factor for length in size]
        padding = [value for length in reversed(missing) for value in (0, length)]
        inputs = functional.pad(torch.cat((noisy, condition), dim=1), padding)
        result: torch.Tensor = self.network(inputs, timestep).float()
        return result[:, :, : size[0], : size[1], : size[2]]

    def set_latent_scale(self, mean: torch.Tensor, std: torch.Tensor, change_scale: torch.Tensor) -> None:
        """Store the scales that make latents standard normal; they are saved and loaded with the weights.

        Args:
            mean: Of the base's latents, (C,).
            std: Their standard deviation, (C,).
            change_scale: Root mean square of the change inside tumors, (C,).
        """
        for buffer, values in ((self.latent_mean, mean), (self.latent_std, std), (self.change_scale, change_scale)):
            buffer.copy_(values.clamp(min=SMALLEST_SCALE) if buffer is not self.latent_mean else values)

    def standardize_base(self, latents: torch.Tensor) -> torch.Tensor:
        """Return latents of the base (B, P C, Z', Y', X') with mean 0 and deviation 1."""
        return (latents - self._per_phase(self.latent_mean)) / self._per_phase(self.latent_std)

    def standardize_change(self, change: torch.Tensor) -> torch.Tensor:
        """Return what tumors add to latents (B, P C, Z', Y', X') with a root mean square of 1 inside tumors."""
        return change / self._per_phase(self.change_scale)

    def restore_change(self, standardized: torch.Tensor) -> torch.Tensor:
        """Undo ``standardize_change``."""
        return standardized * self._per_phase(self.change_scale)

    @staticmethod
    def _per_phase(values: torch.Tensor) -> torch.Tensor:
        return values.repeat(PHASE_COUNT)[:, None, None, None]


def denoiser_condition(
    base: torch.Tensor, occupancy: torch.Tensor, *, presence: torch.Tensor, family: torch.Tensor
) -> torch.Tensor:
    """Return the denoiser's condition.

    The family is told where the tumor is, as one mask per family, not as a constant of the whole patch: normalization
    takes constants away, and a network that was told so drew all families alike.

    Args:
        base: Its standardized latents, (B, P C, Z', Y', X'); those of missing phases are ignored.
        occupancy: See ``soft_occupancy``, (B, e^3, Z', Y', X').
        presence: (B, P), 0 or 1.
        family: One-hot, (B, F); all zero when the family is left open.

    Returns:
        (B, P C + e^3 + F e^3 + P, Z', Y', X').
    """
    channels = base.shape[1] // PHASE_COUNT
    flags = presence.to(base.dtype)
    kept = base * flags.repeat_interleave(channels, dim=1)[:, :, None, None, None]
    cells = occupancy.to(base.dtype)
    kinds = torch.einsum("bf,bezyx->bfezyx", family.to(base.dtype), cells).flatten(1, 2)
    planes = flags[:, :, None, None, None].expand(-1, -1, *base.shape[2:])
    return torch.cat((kept, cells * 2 - 1, kinds * 2, planes), dim=1)


def soft_occupancy(mask: torch.Tensor, autoencoder: Autoencoder) -> torch.Tensor:
    """Return how much of each latent cell a mask fills, in the e^3 parts in which the cell tells the coarse image.

    So mask and image are told at the same resolution, and a tumor's border can be as sharp as the latents allow.

    Args:
        mask: (B, 1, Z, Y, X), 0 to 1.
        autoencoder: Whose cells.

    Returns:
        (B, e^3, Z', Y', X'), 0 to 1.
    """
    parts = functional.avg_pool3d(mask.float(), autoencoder.factor // autoencoder.coarse)  # (B, 1, e Z', e Y', e X')
    return gather_cells(parts, autoencoder.coarse)
