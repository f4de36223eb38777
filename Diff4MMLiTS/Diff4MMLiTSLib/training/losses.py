"""Losses of the segmenter."""

from __future__ import annotations

import torch
from torch.nn import functional

DICE_SMOOTH = 1.0
"""Added to numerator and denominator, in voxels: a class that is absent and not predicted costs nothing."""


def dice_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return soft Dice (of the classes but background, over the whole batch) plus cross entropy.

    Dice is computed over the batch because single patches often hold no tumor at all.

    Args:
        logits: (B, C, Z, Y, X).
        labels: Class of each voxel, (B, Z, Y, X), int64.

    Returns:
        Scalar; each part lies in [0, 1] or is a mean in nats.

    Source:
        Milletari et al., V-Net (2016), without the squares; Isensee et al., nnU-Net (2021), for sum and batch.
    """
    logits = logits.float()
    probabilities = logits.softmax(dim=1)[:, 1:]
    truth = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1)[:, 1:].to(logits.dtype)
    axes = (0, 2, 3, 4)
    overlap = (probabilities * truth).sum(dim=axes)
    total = probabilities.sum(dim=axes) + truth.sum(dim=axes)
    dice = (2 * overlap + DICE_SMOOTH) / (total + DICE_SMOOTH)
    return (1 - dice.mean()) + functional.cross_entropy(logits, labels)


def deep_supervision_loss(outputs: list[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Return the mean of ``dice_cross_entropy`` over the resolutions, each coarser one with half the weight.

    Args:
        outputs: Logits (B, C, Z, Y, X), finest first; those of coarser levels brought to full size.
        labels: Class of each voxel, (B, Z, Y, X), int64.
    """
    weights = [0.5**level for level in range(len(outputs))]
    parts = [weight * dice_cross_entropy(logits, labels) for weight, logits in zip(weights, outputs, strict=True)]
    return torch.stack(parts).sum() / sum(weights)
