"""Clicks as the network sees them: two maps, of what is tumor and of what is none; and clicks made up for training."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..core.lesions import TOUCHING
from .patches import Patch

CLICK_SIGMA_MM = 6.0
"""Standard deviation of the ball around a click; it belongs to the weights that have learned it. Two voxels of 3 mm."""
CORE = 0.5
"""Users click well inside a lesion: at least at this part of its largest depth."""

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Random = np.random.Generator


@dataclass(frozen=True)
class VoxelClick:
    """A click on a voxel.

    Args:
        index: Voxel (z, y, x).
        positive: Whether it says "this is tumor".
    """

    index: tuple[int, int, int]
    positive: bool


def guidance_maps(clicks: tuple[VoxelClick, ...], shape: tuple[int, int, int], sigma: float) -> FloatArray:
    """Return the positive and the negative map: a Gaussian ball of height 1 around every click.

    Args:
        clicks: May lie outside the maps.
        shape: Of one map (Z, Y, X).
        sigma: Standard deviation of the balls in voxels.

    Returns:
        (2, Z, Y, X), float32, 0 to 1; the larger value where balls meet.
    """
    maps = np.zeros((2, *shape), dtype=np.float32)
    for click in clicks:
        axes = [
            np.exp(-0.5 * ((np.arange(n, dtype=np.float32) - at) / sigma) ** 2)
            for n, at in zip(shape, click.index, strict=True)
        ]
        ball = axes[0][:, None, None] * axes[1][:, None] * axes[2]
        channel = 0 if click.positive else 1
        np.maximum(maps[channel], ball, out=maps[channel])
    return maps


def simulate_clicks(patch: Patch, rng: Random) -> tuple[Patch, tuple[VoxelClick, ...]]:
    """Make up what a user could have clicked, and what the labels would be then.

    One of three, equally often where there is a tumor: a positive click in a lesion, whose contrast fades at random
    (users click on what was missed, which is what is hard to see); a negative click in a lesion, which from then on is
    no tumor (users know more than the image shows); a negative click on what is none anyway.
    """
    labels, count = ndimage.label(patch.tumor, structure=TOUCHING)
    kind = int(rng.integers(3)) if count else 2
    if kind == 2:
        return patch, _click_on(~patch.tumor & patch.liver, rng, positive=False)
    lesion = np.asarray(labels == 1 + int(rng.integers(count)))
    clicks = _click_on(_core(lesion), rng, positive=kind == 0)
    if kind == 0:
        return _faded(patch, lesion, float(rng.uniform(0.3, 1.0))), clicks
    return replace(patch, tumor=patch.tumor & ~lesion), clicks


def _click_on(region: NDArray[np.bool_], rng: Random, *, positive: bool) -> tuple[VoxelClick, ...]:
    voxels = np.argwhere(region)
    if not len(voxels):
        return ()
    z, y, x = (int(value) for value in voxels[rng.integers(len(voxels))])
    return (VoxelClick((z, y, x), positive),)


def _core(lesion: NDArray[np.bool_]) -> NDArray[np.bool_]:
    depth = ndimage.distance_transform_edt(np.pad(lesion, 1))[1:-1, 1:-1, 1:-1]
    return np.asarray(depth >= CORE * depth.max())


def _faded(patch: Patch, lesion: NDArray[np.bool_], contrast: float) -> Patch:
    """Return a patch in which a lesion keeps only a part of its contrast to the parenchyma."""
    parenchyma = patch.liver & ~patch.tumor
    if not parenchyma.any():
        return patch
    level = np.median(patch.phases[:, parenchyma], axis=1)[:, None]
    phases = patch.phases.copy()
    phases[:, lesion] = level + contrast * (phases[:, lesion] - level)
    return replace(patch, phases=phases)
