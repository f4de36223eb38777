"""Where the network looks: the liver is found at low resolution, and only its surroundings at full resolution.

Phases come from a callable that samples them on any grid, so that nothing is held in memory but what is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import ndimage
from torch import nn

from ..core.config import SegmentConfig
from ..core.grid import Grid, Volume, resample
from ..core.intensity import Window
from ..core.progress import Progress
from .datasets import working_grid
from .inference import PROBABLE, BoolArray, FloatArray, largest_component, probabilities, without_neighbors
from .windows import run_windows

NECK_MM = 6.0
"""What hangs on the liver by less than twice that is a neighbor: a kidney, the heart."""
SEARCH_OVERLAP = 0.25
"""The liver is large, and its place is all that the search must tell."""

Stack = Callable[[Grid], tuple[FloatArray, FloatArray]]
"""Phases (P, Z, Y, X), HU, and presence (P,), on a grid."""


@dataclass(frozen=True)
class Sight:
    """What a network has learned to look at.

    Args:
        spacing_mm: Of its isotropic voxels.
        window: Values that it tells apart.
        patch: Size (Z, Y, X) of what it sees at once, in voxels.
        coarse_factor: How much larger voxels it can search the liver in; 0 where it has not learned to.
    """

    spacing_mm: float
    window: Window
    patch: tuple[int, int, int]
    coarse_factor: float = 0.0


@dataclass(frozen=True, eq=False)
class Found:
    """What a network says about the surroundings of a liver.

    Args:
        organ: Probability of liver or tumor, (Z, Y, X), float32.
        tumor: Probability of tumor, (Z, Y, X), float32.
        grid: Upright and isotropic; beyond it both are 0.
        neighbors: What it takes for liver, but hangs on it by a neck only, (Z, Y, X); None for nothing.
    """

    organ: FloatArray
    tumor: FloatArray
    grid: Grid
    neighbors: BoolArray | None = None

    def on(self, grid: Grid, *, with_neighbors: bool = False) -> tuple[FloatArray, FloatArray]:
        """Return both probabilities on another grid, 0 in the liver's neighbors unless they are asked for."""
        cut = None if with_neighbors else self.neighbors
        organ, tumor = (
            np.asarray(resample(Volume(values, self.grid), grid).array, dtype=np.float32)
            for values in (part if cut is None else part * ~cut for part in (self.organ, self.tumor))
        )
        return organ, tumor


def look(
    network: nn.Module,
    stack: Stack,
    grid: Grid,
    *,
    sight: Sight,
    config: SegmentConfig,
    progress: Progress,
    first: Stack | None = None,
) -> Found | None:
    """Let a network look for liver and tumor.

    Args:
        network: In evaluation mode.
        stack: Samples the phases.
        grid: What they cover.
        sight: What the network has learned to look at.
        config: Windows and margin.
        progress: Reports per window.
        first: Samples what the liver is searched in, cheaper than all phases; these are searched if it is not found.

    Returns:
        None when the search finds no liver.

    Raises:
        OutOfMemoryError: The device's memory is too small.
        CanceledError: The user asked to stop.
    """
    box, near = working_grid(grid, sight.spacing_mm), None
    if sight.coarse_factor:
        search = partial(_search, network, grid=grid, sight=sight, config=config)
        region = search(first, progress=progress.part(0.0, 0.1)) if first else None
        region = region or search(stack, progress=progress.part(0.1, 0.2))
        if region is None:
            return None
        box = _surroundings(region, box)
        near = np.asarray(resample(region, box, linear=False).array) > 0
        progress = progress.part(0.2, 1.0)
    images, presence = _seen(stack, box, sight)
    forward = partial(probabilities, network, presence=presence, flips=config.flips)
    organ, tumor = run_windows(forward, images, sight.patch, config=config, progress=progress, where=near)
    if near is not None:
        organ = organ * near
    probable = organ > PROBABLE
    kept = without_neighbors(probable, neck_mm=NECK_MM, spacing_mm=sight.spacing_mm)
    return Found(organ, tumor, box, probable & ~kept)  # voxels that are no liver tell where it ends between two voxels


def _search(
    network: nn.Module, stack: Stack, grid: Grid, *, sight: Sight, config: SegmentConfig, progress: Progress
) -> Volume | None:
    """Return the liver and its margin, found at low resolution: 0 and 1 on a coarse grid; None when there is none."""
    spacing_mm = sight.spacing_mm * sight.coarse_factor
    coarse = working_grid(grid, spacing_mm)
    images, presence = _seen(stack, coarse, sight)
    work = config.model_copy(update={"overlap": min(config.overlap, SEARCH_OVERLAP)})
    forward = partial(probabilities, network, presence=presence)
    organ, _ = run_windows(forward, images, sight.patch, config=work, progress=progress)
    liver = largest_component(organ > PROBABLE)
    if not liver.any():
        return None
    distance_mm = spacing_mm * ndimage.distance_transform_edt(~liver)
    return Volume((distance_mm <= config.margin_mm).astype(np.uint8), coarse)


def _seen(stack: Stack, grid: Grid, sight: Sight) -> tuple[FloatArray, FloatArray]:
    phases, presence = stack(grid)
    return sight.window.normalize(phases), presence


def _surroundings(region: Volume, whole: Grid) -> Grid:
    """Return the part of an upright grid that covers a region (of an upright grid too)."""
    occupied = np.argwhere(np.asarray(region.array) > 0)[:, ::-1]
    corners = np.array([occupied.min(axis=0) - 0.5, occupied.max(axis=0) + 0.5])
    index = whole.to_index(region.grid.to_world(corners))
    low = np.clip(np.floor(index[0] + 0.5), 0, np.array(whole.size) - 1).astype(int)
    high = np.clip(np.ceil(index[1] + 0.5), low + 1, whole.size).astype(int)
    x, y, z = (int(value) for value in low)
    width, height, depth = (int(value) for value in high - low)
    return whole.cropped((x, y, z), (width, height, depth))
