"""The network of stage 2: a 3D residual network of fast Fourier convolutions that fills holes in all phases at once.

A fast Fourier convolution has a local branch (3 x 3 x 3) and a global branch whose kernel works on the spectrum of the
feature map, so every voxel sees the whole patch from the first layer on.

Source: Suvorov et al., "Resolution-robust large mask inpainting with Fourier convolutions" (2022), section 2.1 and
figure 2, for the block; Chi et al., "Fast Fourier Convolution" (2020). Differences: three dimensions; group
normalization, which works for one patch a batch; the input is centered on a smooth estimate of the patient's own
parenchyma, so the network learns what deviates from it (vessels, texture) and neither scanner nor contrast dose.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ..core.config import InpainterNetwork

PHASE_COUNT = 4
RESIDUAL_GAIN = 8.0
"""Makes deviations from the parenchyma (about 30 HU, 0.1 of the [-175, 400] window's half) of order one."""
LARGEST_DEVIATION = 6.0
"""Bone and air are no more than this far from parenchyma for the network."""


class Inpainter(nn.Module):
    """Fills the hole of a patch in every phase that is there; everything else comes out as it went in."""

    def __init__(self, config: InpainterNetwork) -> None:
        super().__init__()
        width = config.channels
        self.factor = 2**config.downsamplings
        self.stem = nn.Sequential(nn.Conv3d(2 * PHASE_COUNT + 2, width, 3, padding=1), _norm(width), nn.SiLU())
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for level in range(config.downsamplings):
            fine, coarse = width * 2**level, width * 2 ** (level + 1)
            down += [nn.Conv3d(fine, coarse, 3, stride=2, padding=1), _norm(coarse), nn.SiLU()]
            rise = nn.Sequential(
                nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv3d(coarse, fine, 3, padding=1), _norm(fine)
            )
            up = [rise, nn.SiLU(), *up]
        deepest = width * self.factor
        self.down = nn.Sequential(*down)
        self.blocks = nn.Sequential(*(_FourierBlock(deepest, config.global_ratio) for _ in range(config.blocks)))
        self.up = nn.Sequential(*up)
        self.head = nn.Conv3d(2 * width, PHASE_COUNT, 3, padding=1)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]  # a convolution has a bias unless told otherwise
        nn.init.normal_(self.head.weight, std=1e-3)  # begins by answering "parenchyma"

    def forward(
        self,
        images: torch.Tensor,
        base: torch.Tensor,
        *,
        presence: torch.Tensor,
        hole: torch.Tensor,
        liver: torch.Tensor,
        composited: bool = True,
    ) -> torch.Tensor:
        """Return the phases with their hole filled.

        Args:
            images: Normalized phases (B, P, Z, Y, X), in [-1, 1]; values in the hole are not looked at.
            base: Smooth estimate of the parenchyma, same shape and scale.
            presence: (B, P), 0 or 1.
            hole: What to fill, (B, 1, Z, Y, X), 0 or 1.
            liver: (B, 1, Z, Y, X), 0 or 1.
            composited: Whether the known voxels come back; otherwise training sees what the network makes of them.

        Returns:
            (B, P, Z, Y, X): voxels outside the hole are those of ``images``, bit for bit; missing phases are 0.
        """
        flags = presence[:, :, None, None, None].to(images.dtype)
        known = (images - base) * RESIDUAL_GAIN
        known = known.clamp(-LARGEST_DEVIATION, LARGEST_DEVIATION) * (1 - hole) * flags
        inputs = torch.cat((known, flags.expand_as(images), hole, liver), dim=1)
        answer = (base + self._deviation(inputs) / RESIDUAL_GAIN) * flags
        return torch.where(hole > 0, answer, images * flags) if composited else answer

    def _deviation(self, inputs: torch.Tensor) -> torch.Tensor:
        size = inputs.shape[2:]
        missing = [-length % self.factor for length in size]
        padding = [value for length in reversed(missing) for value in (0, length)]
        fine = self.stem(functional.pad(inputs, padding, mode="replicate"))
        coarse = self.up(self.blocks(self.down(fine)))
        result: torch.Tensor = self.head(torch.cat((fine, coarse), dim=1)).float()
        return result[:, :, : size[0], : size[1], : size[2]]


class _FourierBlock(nn.Module):
    """Two fast Fourier convolutions with a residual connection."""

    def __init__(self, channels: int, global_ratio: float) -> None:
        super().__init__()
        self.first = _FastFourierConvolution(channels, global_ratio)
        self.second = _FastFourierConvolution(channels, global_ratio)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (B, C, Z, Y, X)."""
        result: torch.Tensor = features + self.second(self.first(features))
        return result


class _FastFourierConvolution(nn.Module):
    """Local and global branch that exchange information, then normalization and activation."""

    def __init__(self, channels: int, global_ratio: float) -> None:
        super().__init__()
        self.wide = max(1, min(channels - 1, round(channels * global_ratio)))
        self.local = channels - self.wide
        self.from_local = nn.Conv3d(self.local, channels, 3, padding=1)
        self.wide_to_local = nn.Conv3d(self.wide, self.local, 3, padding=1)
        self.wide_to_wide = _SpectralTransform(self.wide)
        self.finish = nn.Sequential(_norm(channels), nn.SiLU())

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (B, C, Z, Y, X)."""
        local, wide = features[:, : self.local], features[:, self.local :]
        changes = torch.cat((self.wide_to_local(wide), self.wide_to_wide(wide)), dim=1)
        result: torch.Tensor = self.finish(self.from_local(local) + changes)
        return result


class _SpectralTransform(nn.Module):
    """A 1 x 1 x 1 convolution of the real Fourier transform, between two in space: a kernel as large as the patch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // 2)
        self.enter = nn.Sequential(nn.Conv3d(channels, hidden, 1), _norm(hidden), nn.SiLU())
        self.spectral = nn.Sequential(nn.Conv3d(2 * hidden, 2 * hidden, 1), _norm(2 * hidden), nn.SiLU())
        self.leave = nn.Conv3d(hidden, channels, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (B, C, Z, Y, X)."""
        hidden = self.enter(features)
        with torch.autocast(features.device.type, enabled=False):  # half precision overflows at zero frequency
            signal = hidden.float()
            spectrum = torch.fft.rfftn(signal, dim=(2, 3, 4), norm="ortho")  # (B, C', Z, Y, X // 2 + 1)
            mixed = self.spectral(torch.cat((spectrum.real, spectrum.imag), dim=1))
            real, imaginary = mixed.chunk(2, dim=1)
            size = signal.shape[2:]
            back = torch.fft.irfftn(torch.complex(real, imaginary), s=size, dim=(2, 3, 4), norm="ortho")
        result: torch.Tensor = self.leave(hidden + back.to(hidden.dtype))
        return result


def _norm(channels: int) -> nn.GroupNorm:
    groups = next(groups for groups in (8, 4, 2, 1) if channels % groups == 0)
    return nn.GroupNorm(groups, channels)
