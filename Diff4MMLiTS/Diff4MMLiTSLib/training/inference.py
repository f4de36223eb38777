"""A segmenter at work on arrays: normalized phases to probabilities, probabilities to masks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from ..core.config import SegmentConfig
from ..core.lesions import TOUCHING
from ..core.metrics import bounding_box
from ..nets.segmenter import LIVER, TUMOR, segmenter_input

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
Axis = Literal["x", "y", "z"]

PROBABLE = 0.5
TENSOR_AXIS: dict[Axis, int] = {"z": 2, "y": 3, "x": 4}


def probabilities(
    network: nn.Module,
    windows: FloatArray,
    presence: FloatArray,
    *,
    guidance: FloatArray | None = None,
    flips: Sequence[Axis] = (),
) -> FloatArray:
    """Run the network once over windows, and once more for each axis along which they are flipped.

    Args:
        network: In evaluation mode; the computation runs on its device, on a GPU in half precision.
        windows: Normalized phases (N, P, Z, Y, X).
        presence: (P,), 0 or 1.
        guidance: Clicks (N, 2, Z, Y, X); None means none.
        flips: The result is the mean over these flips and none.

    Returns:
        Probability of liver or tumor, and of tumor: (N, 2, Z, Y, X), float32.
    """
    device = next(network.parameters()).device
    flags = torch.from_numpy(presence).to(device).expand(len(windows), -1)
    clicks = None if guidance is None else torch.from_numpy(guidance).to(device)
    x = segmenter_input(torch.from_numpy(windows).to(device), flags, clicks)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    half = torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float16
    total: torch.Tensor | None = None
    with torch.no_grad(), torch.autocast(device.type, dtype=half, enabled=device.type == "cuda"):
        for axes in chain([()], ((TENSOR_AXIS[axis],) for axis in flips)):
            found = torch.flip(network(torch.flip(x, axes)).float().softmax(dim=1), axes)
            total = found if total is None else total + found
    assert total is not None  # none is always among the flips
    total = total / (1 + len(flips))
    return np.asarray(torch.stack((total[:, LIVER] + total[:, TUMOR], total[:, TUMOR]), dim=1).cpu().numpy())


def masks_of(
    organ: FloatArray, tumor: FloatArray, *, voxel_ml: float, config: SegmentConfig
) -> tuple[BoolArray, BoolArray]:
    """Return liver and tumor masks of probabilities (of any grid).

    The liver is the largest connected piece without holes; tumor is where it is more probable than healthy liver,
    inside that piece, in components that are not too small and of which some voxel is sure.

    Args:
        organ: Probability of liver or tumor, (Z, Y, X).
        tumor: Probability of tumor, (Z, Y, X).
        voxel_ml: Volume of a voxel.
        config: Which tumor components are too small, or not sure enough.
    """
    liver, lesions = np.zeros(organ.shape, dtype=bool), np.zeros(organ.shape, dtype=bool)
    box = bounding_box(organ > PROBABLE)
    if box is not None:
        piece = _filled(largest_component(organ[box] > PROBABLE))
        doubtful = (tumor[box] > organ[box] - tumor[box]) & piece
        large = without_small_components(doubtful, minimum_voxels=config.minimum_tumor_ml / voxel_ml)
        liver[box], lesions[box] = piece, with_a_voxel_of(large, tumor[box] >= config.sure_tumor)
    return liver, lesions


def entropy(organ: FloatArray, tumor: FloatArray) -> FloatArray:
    """Return how unsure the network is between background, liver and tumor: 0 to 1, (Z, Y, X), float32.

    Args:
        organ: Probability of liver or tumor, (Z, Y, X).
        tumor: Probability of tumor, (Z, Y, X).
    """
    total = np.zeros_like(organ)
    for part in (1.0 - organ, organ - tumor, tumor):
        kept = np.clip(part, 1e-7, 1.0)
        total -= kept * np.log(kept)
    return np.asarray(np.clip(total / np.float32(np.log(3.0)), 0.0, 1.0))


def as_bytes(values: FloatArray) -> NDArray[np.uint8]:
    """Return values of 0 to 1 as 0 to 255."""
    return np.rint(values * 255).astype(np.uint8)


def _filled(mask: BoolArray) -> BoolArray:
    """Return a mask with its holes filled; unlike scipy's, in a time that does not depend on their shape."""
    labels, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
    return np.asarray(labels != labels[0, 0, 0])[1:-1, 1:-1, 1:-1]


def largest_component(mask: BoolArray) -> BoolArray:
    """Return the largest face-connected piece of a mask (Z, Y, X); an empty mask stays empty."""
    labels, count = ndimage.label(mask)
    if count <= 1:
        return mask
    return np.asarray(labels == np.bincount(labels.ravel())[1:].argmax() + 1)


def without_neighbors(mask: BoolArray, *, neck_mm: float, spacing_mm: float) -> BoolArray:
    """Return a mask (Z, Y, X) without what hangs on its main part by a neck.

    Cores are what lies deeper than a neck is wide. What is nearer to another core than to the largest is a neighbor;
    thin parts, which have no core of their own, stay.

    Args:
        mask: On isotropic voxels; its holes count as filled.
        neck_mm: Radius of a ball that does not pass through a neck.
        spacing_mm: Of the voxels.
    """
    cores = spacing_mm * ndimage.distance_transform_edt(_filled(mask)) > neck_mm
    core = largest_component(cores)
    others = cores & ~core
    if not others.any():
        return mask
    to_core, to_others = (ndimage.distance_transform_edt(~part) for part in (core, others))
    return np.asarray(mask & (to_core <= to_others))


def with_a_voxel_of(mask: BoolArray, seeds: BoolArray) -> BoolArray:
    """Return the components (26-connected) of a mask (Z, Y, X) that hold a seed."""
    labels, count = ndimage.label(mask, structure=TOUCHING)
    kept = np.zeros(count + 1, dtype=bool)
    kept[labels[seeds & mask]] = True
    return np.asarray(kept[labels])


def without_small_components(mask: BoolArray, *, minimum_voxels: float) -> BoolArray:
    """Return a mask (Z, Y, X) without its components (26-connected) of fewer voxels."""
    labels, _ = ndimage.label(mask, structure=TOUCHING)
    large = np.bincount(labels.ravel()) >= minimum_voxels
    large[0] = False
    return np.asarray(large[labels])
