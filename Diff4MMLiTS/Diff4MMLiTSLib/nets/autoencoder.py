"""The VQGAN of stage 3: one phase at a time becomes a small latent, and a latent becomes a phase again.

Diffusion works on the continuous latents (before quantization) and decodes them as they are; the decoder is trained on
continuous and quantized latents alike. The codebook thus keeps the latents compact without limiting how fine a
difference between two images can be, which is what stage 3 decodes.

The first latent channels carry the coarse image itself, and the network what it lacks; so mean values are right from
the first training step on, and a change of these channels is a change of brightness.

Source: Esser et al., "Taming transformers" (2021), section 3.1; van den Oord et al. (2017), appendix A.1, for the
moving averages of the codebook; Rombach et al. (2022), section 3.1, for diffusion before the quantizer; Chen et al.,
"Deep compression autoencoder" (2024), section 3.2, for a shortcut past the network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.networks.nets import VQVAE, PatchDiscriminator
from torch import nn
from torch.nn import functional

from ..core.config import AutoencoderNetwork, DiscriminatorNetwork

COARSE_GAIN = 4.0
"""Brings the coarse image (0.1 between tissues) to the scale of learned latents."""
INITIAL_SHARE = 0.1
"""Scale of the fresh weights of the last layers."""
DEAD_USAGE = 0.01
"""Codes used less than this part of an even share are dead; an unused code falls below it after some hundred steps."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What one pass through the autoencoder gives.

    Args:
        images: (B, 1, Z, Y, X).
        commitment: Loss that keeps latents near their codes, scalar.
        codes: Index of the code of each latent cell, (B, Z', Y', X').
        latents: Continuous latents, (B, C, Z', Y', X').
    """

    images: torch.Tensor
    commitment: torch.Tensor
    codes: torch.Tensor
    latents: torch.Tensor


class Autoencoder(nn.Module):
    """Compresses one phase by ``factor`` per axis; sizes are multiples of ``factor``."""

    def __init__(self, config: AutoencoderNetwork) -> None:
        super().__init__()
        levels = len(config.channels)
        self.factor = 2**levels
        self.latent_channels = config.latent_channels
        self.coarse = _coarse_cells(self.factor, config.latent_channels)
        self.vqvae = VQVAE(
            spatial_dims=3,
            in_channels=1,
            out_channels=1,
            channels=config.channels,
            num_res_layers=config.residual_layers,
            num_res_channels=config.channels,
            downsample_parameters=((2, 4, 1, 1),) * levels,
            upsample_parameters=((2, 4, 1, 1, 0),) * levels,
            num_embeddings=config.codes,
            embedding_dim=config.latent_channels,
            decay=config.decay,
        )
        with torch.no_grad():  # begins as little more than the coarse image
            for last in (self.vqvae.encoder.blocks[-1], self.vqvae.decoder.blocks[-1]):
                last.conv.weight.mul_(INITIAL_SHARE)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Return continuous latents (B, C, Z', Y', X'), float32, of one normalized phase (B, 1, Z, Y, X)."""
        latents: torch.Tensor = self.vqvae.encode(images)
        block = self.coarse
        coarse = functional.avg_pool3d(images.float(), self.factor // block)  # (B, 1, b Z', b Y', b X')
        cells = gather_cells(coarse, block)
        rest = latents.new_zeros((len(images), self.latent_channels - block**3, *cells.shape[2:]))
        return latents.float() + torch.cat((COARSE_GAIN * cells, rest), dim=1)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Return one normalized phase (B, 1, Z, Y, X) of latents (B, C, Z', Y', X')."""
        images: torch.Tensor = self.vqvae.decode(latents)
        block = self.coarse
        size = [length * block for length in latents.shape[2:]]
        cells = latents[:, : block**3].reshape(
            -1, 1, block, block, block, *latents.shape[2:]
        )  # (B, 1, b, b, b, Z', Y', X')
        coarse = cells.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(len(latents), 1, *size) / COARSE_GAIN
        smooth = functional.interpolate(coarse, scale_factor=self.factor // block, mode="trilinear")
        return images.float() + smooth

    def forward(self, images: torch.Tensor, quantized: torch.Tensor, *, learn_codes: bool) -> Reconstruction:
        """Encode and decode.

        Args:
            images: One normalized phase (B, 1, Z, Y, X).
            quantized: Whether each item is decoded from its codes, (B,), 0 or 1.
            learn_codes: Move the codebook towards these latents.
        """
        latents = self.encode(images)
        quantizer = self.vqvae.quantizer.quantizer
        quantizer.train(learn_codes)
        with torch.autocast(images.device.type, enabled=False):  # distances and averages need float32
            snapped, commitment, codes = quantizer(latents)
        chosen = torch.where(quantized[:, None, None, None, None] > 0, snapped, latents)
        return Reconstruction(self.decode(chosen), commitment, codes, latents)

    @torch.no_grad()
    def restart_dead_codes(self, latents: torch.Tensor, generator: torch.Generator) -> int:
        """Move codes that are never used onto random latents of this batch, so that the whole codebook works.

        Args:
            latents: (B, C, Z', Y', X').
            generator: Chooses the latents.

        Returns:
            How many codes were moved.
        """
        quantizer = self.vqvae.quantizer.quantizer
        usage = quantizer.ema_cluster_size
        dead = usage < DEAD_USAGE * usage.sum() / len(usage)
        count = int(dead.sum())
        cells = latents.detach().movedim(1, -1).reshape(-1, self.latent_channels)  # (cells, C)
        chosen = cells[torch.randint(len(cells), (count,), generator=generator, device=cells.device)]
        share = usage.sum() / len(usage)
        quantizer.embedding.weight.data[dead] = chosen
        quantizer.ema_w[dead] = chosen * share
        quantizer.ema_cluster_size[dead] = share
        return count


def gather_cells(images: torch.Tensor, edge: int) -> torch.Tensor:
    """Return the voxels of each cube of ``edge`` voxels as channels: (B, 1, Z, Y, X) -> (B, edge^3, Z', Y', X')."""
    cubes = images.unfold(2, edge, edge).unfold(3, edge, edge).unfold(4, edge, edge)  # (B, 1, Z', Y', X', e, e, e)
    return cubes.flatten(5).movedim(-1, 1).flatten(1, 2)


def _coarse_cells(factor: int, channels: int) -> int:
    """Return the edge of the largest cube of coarse voxels per latent cell that fits into the channels."""
    return max(edge for edge in range(1, factor + 1) if factor % edge == 0 and edge**3 <= channels)


def codebook_health(codes: torch.Tensor, count: int) -> dict[str, float]:
    """Return the part of the codebook that a batch uses, and the perplexity of its codes (at most ``count``).

    Args:
        codes: Indices, any shape.
        count: Entries of the codebook.
    """
    share = torch.bincount(codes.flatten(), minlength=count).float() / codes.numel()
    entropy = -(share * (share + 1e-10).log()).sum()
    return {"code_usage": float((share > 0).float().mean()), "perplexity": float(entropy.exp())}


class Discriminator(nn.Module):
    """Judges patches: real or made by a network."""

    def __init__(self, config: DiscriminatorNetwork, in_channels: int) -> None:
        super().__init__()
        self.network = PatchDiscriminator(
            spatial_dims=3,
            channels=config.channels,
            in_channels=in_channels,
            num_layers_d=config.layers,
            norm="INSTANCE",
        )

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of every layer; the last are the logits of the patches, high for real ones."""
        features: list[torch.Tensor] = self.network(images)
        return features
