"""A segmenter at work on arrays: overlapping windows to probabilities, probabilities to masks."""

from __future__ import annotations

from math import ceil, prod

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from ..core.config import SegmentConfig
from ..core.errors import OutOfMemoryError
from ..core.progress import Progress
from ..nets.segmenter import LIVER, TUMOR, segmenter_input

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

AIR = -1.0
"""Normalized value of air; windows that leave the volume see it."""
PROBABLE = 0.5


def predict(
    network: nn.Module,
    images: FloatArray,
    presence: FloatArray,
    *,
    patch: tuple[int, int, int],
    config: SegmentConfig,
    progress: Progress,
) -> tuple[FloatArray, FloatArray]:
    """Run the network over a volume in overlapping windows, weighted by a Gaussian.

    Args:
        network: In evaluation mode; the computation runs on its device.
        images: Normalized phases (P, Z, Y, X).
        presence: (P,), 0 or 1.
        patch: Size of the windows (Z, Y, X).
        config: Overlap and windows per forward pass.
        progress: Reports per forward pass.

    Returns:
        Probability of liver or tumor, and of tumor: each (Z, Y, X), float32.

    Raises:
        OutOfMemoryError: The device's memory is too small.
        CanceledError: The user asked to stop.
    """
    device = next(network.parameters()).device
    flags = torch.from_numpy(presence).to(device)
    passes = _forward_passes(images.shape[1:], patch, config)
    done = 0

    def forward(windows: torch.Tensor) -> torch.Tensor:
        nonlocal done
        progress.update(min(1.0, done / passes), "segmenting")
        done += 1
        logits = network(segmenter_input(windows, flags.expand(windows.shape[0], -1)))
        probabilities = logits.float().softmax(dim=1)
        return torch.stack((probabilities[:, LIVER] + probabilities[:, TUMOR], probabilities[:, TUMOR]), dim=1)

    try:
        with torch.no_grad():
            result = sliding_window_inference(
                torch.from_numpy(images)[None].to(device),
                roi_size=patch,
                sw_batch_size=config.windows_at_once,
                predictor=forward,
                overlap=config.overlap,
                mode="gaussian",
                cval=AIR,
            )
    except torch.OutOfMemoryError:
        raise OutOfMemoryError(
            "The device ran out of memory while segmenting", remedy="Set windows_at_once=1, or --device cpu"
        ) from None
    organ, tumor = result[0].cpu().numpy()
    return organ, tumor


def masks_of(
    organ: FloatArray, tumor: FloatArray, *, voxel_ml: float, minimum_tumor_ml: float
) -> tuple[BoolArray, BoolArray]:
    """Return liver and tumor masks of probabilities (of any grid).

    The liver is the largest connected piece without holes; tumor is where it is more probable than healthy liver,
    inside that piece, in components that are not too small.

    Args:
        organ: Probability of liver or tumor, (Z, Y, X).
        tumor: Probability of tumor, (Z, Y, X).
        voxel_ml: Volume of a voxel.
        minimum_tumor_ml: Smaller tumor components are removed.
    """
    liver = ndimage.binary_fill_holes(largest_component(organ > PROBABLE))
    lesions = (tumor > organ - tumor) & liver
    return liver, without_small_components(lesions, minimum_voxels=minimum_tumor_ml / voxel_ml)


def largest_component(mask: BoolArray) -> BoolArray:
    """Return the largest face-connected piece of a mask (Z, Y, X); an empty mask stays empty."""
    labels, count = ndimage.label(mask)
    if count <= 1:
        return mask
    return np.asarray(labels == np.bincount(labels.ravel())[1:].argmax() + 1)


def without_small_components(mask: BoolArray, *, minimum_voxels: float) -> BoolArray:
    """Return a mask (Z, Y, X) without its components (26-connected) of fewer voxels."""
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    large = np.bincount(labels.ravel()) >= minimum_voxels
    large[0] = False
    return np.asarray(large[labels])


def _forward_passes(shape: tuple[int, ...], patch: tuple[int, int, int], config: SegmentConfig) -> int:
    steps = [max(1, int(size * (1 - config.overlap))) for size in patch]
    windows = prod(ceil(max(0, n - size) / step) + 1 for n, size, step in zip(shape, patch, steps, strict=True))
    return ceil(windows / config.windows_at_once)
