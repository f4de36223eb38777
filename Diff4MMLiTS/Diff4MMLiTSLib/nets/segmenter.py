"""The network of stage 4: phases, presence flags and clicks in; background, liver and tumor out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.networks.nets import AttentionUnet, DynUNet, SegResNet, SwinUNETR, UNet
from torch import nn

from ..core.config import SegmenterArchitecture, SegmenterNetwork

PHASE_COUNT = 4
GUIDANCE_CHANNELS = 2
"""Positive and negative clicks; zero in automatic use."""
INPUT_CHANNELS = 2 * PHASE_COUNT + GUIDANCE_CHANNELS
CLASS_COUNT = 3
BACKGROUND, LIVER, TUMOR = range(CLASS_COUNT)


def build_segmenter(config: SegmenterNetwork) -> nn.Module:
    """Return the network with fresh weights.

    In evaluation it maps (B, 10, Z, Y, X) to logits (B, 3, Z, Y, X); see ``segmenter_input``. A DynUNet in training
    returns (B, D, 3, Z, Y, X) with the D resolutions of deep supervision.
    """
    # This layout makes convolutions faster, on CPU and GPU; it changes no value.
    network: nn.Module = _BUILDERS[config.architecture](config).to(  # type: ignore[call-overload]  # not in its types
        memory_format=torch.channels_last_3d
    )
    return network


def segmenter_input(images: torch.Tensor, presence: torch.Tensor, guidance: torch.Tensor | None = None) -> torch.Tensor:
    """Return the network's input: images, presence flags as constant channels, clicks.

    Args:
        images: Normalized phases (B, P, Z, Y, X), in [-1, 1].
        presence: (B, P), 0 or 1; the images of missing phases become 0.
        guidance: Clicks (B, 2, Z, Y, X), or None for automatic use.

    Returns:
        (B, 2 P + 2, Z, Y, X).
    """
    flags = presence[:, :, None, None, None].to(images.dtype)
    planes = flags.expand_as(images)
    if guidance is None:
        guidance = images.new_zeros((images.shape[0], GUIDANCE_CHANNELS, *images.shape[2:]))
    return torch.cat((images * flags, planes, guidance), dim=1)


def resolutions(output: torch.Tensor) -> list[torch.Tensor]:
    """Return the logits (B, 3, Z, Y, X) of each supervised resolution, finest first, of a network's output."""
    return list(output.unbind(dim=1)) if output.ndim == 6 else [output]


def _dynunet(config: SegmenterNetwork) -> nn.Module:
    levels = len(config.channels)
    supervised = min(config.deep_supervision, levels - 2)
    network: nn.Module = DynUNet(
        spatial_dims=3,
        in_channels=INPUT_CHANNELS,
        out_channels=CLASS_COUNT,
        kernel_size=[3] * levels,
        strides=[1] + [2] * (levels - 1),
        upsample_kernel_size=[2] * (levels - 1),
        filters=config.channels,
        deep_supervision=supervised > 0,
        deep_supr_num=max(1, supervised),
    )
    return network


def _unet(config: SegmenterNetwork) -> nn.Module:
    strides = [2] * (len(config.channels) - 1)
    network: nn.Module = UNet(3, INPUT_CHANNELS, CLASS_COUNT, config.channels, strides, num_res_units=2)
    return network


def _attention_unet(config: SegmenterNetwork) -> nn.Module:
    strides = [2] * (len(config.channels) - 1)
    network: nn.Module = AttentionUnet(3, INPUT_CHANNELS, CLASS_COUNT, config.channels, strides)
    return network


def _segresnet(config: SegmenterNetwork) -> nn.Module:
    network: nn.Module = SegResNet(
        init_filters=config.channels[0],
        in_channels=INPUT_CHANNELS,
        out_channels=CLASS_COUNT,
        blocks_down=(1,) + (2,) * (len(config.channels) - 1),
        blocks_up=(1,) * (len(config.channels) - 1),
    )
    return network


def _swin_unetr(config: SegmenterNetwork) -> nn.Module:
    network: nn.Module = SwinUNETR(
        in_channels=INPUT_CHANNELS, out_channels=CLASS_COUNT, feature_size=config.channels[0]
    )
    return network


_BUILDERS: dict[SegmenterArchitecture, Callable[[SegmenterNetwork], nn.Module]] = {
    SegmenterArchitecture.DYNUNET: _dynunet,
    SegmenterArchitecture.UNET: _unet,
    SegmenterArchitecture.ATTENTION_UNET: _attention_unet,
    SegmenterArchitecture.SEGRESNET: _segresnet,
    SegmenterArchitecture.SWIN_UNETR: _swin_unetr,
}
