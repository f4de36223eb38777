"""The organ that is aligned and the region around it, with or without a liver mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..core.grid import Grid, Volume, resample
from ..core.study import Mask, MaskSource

GUESS_SPACING_MM = 4.0
SOFT_TISSUE_HU = (20.0, 200.0)
"""Livers from steatotic without contrast to healthy in the portal venous phase; fat, lung and bone lie outside."""
CORE_DEPTH_MM = 12.0
"""A liver is thicker than twice this; muscles, bowel walls and vessels are not."""
LUNG_HU = -400.0
BORDER_MM = 4.0
"""A drawn border is off by about this, and breathing blurs it."""


def around(organ: Mask, distance_mm: float) -> Volume:
    """Return the organ and everything within a distance of it, 0/1, on the organ's grid."""
    grid = organ.volume.grid
    margin = [int(np.ceil(distance_mm / step)) + 1 for step in grid.spacing_zyx_mm]
    found = np.argwhere(organ.array)
    low = np.maximum(found.min(axis=0) - margin, 0)
    high = found.max(axis=0) + np.array(margin) + 1
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    distance = ndimage.distance_transform_edt(~organ.array[box], sampling=grid.spacing_zyx_mm)
    result = np.zeros(grid.shape, dtype=np.uint8)
    result[box] = distance <= distance_mm
    return Volume(result, grid)


def without_border(organ: NDArray[np.bool_], grid: Grid) -> NDArray[np.bool_]:
    """Return the organ (Z, Y, X) farther than ``BORDER_MM`` from everything that is not organ."""
    padded = np.pad(organ, 1)  # the grid's end is no organ either
    distance = ndimage.distance_transform_edt(padded, sampling=grid.spacing_zyx_mm)[1:-1, 1:-1, 1:-1]
    return np.asarray(distance > BORDER_MM)


def sample_mask(mask: Volume, grid: Grid) -> NDArray[np.float32]:
    """Return a 0/1 mask on another grid, (Z, Y, X), 0 to 1, linearly interpolated."""
    values = Volume(np.asarray(mask.array, dtype=np.float32), mask.grid)
    return np.asarray(resample(values, grid).array, dtype=np.float32)


def guess_organ(volume: Volume) -> Mask:
    """Return a rough liver without any model: the largest thick piece of soft tissue on the patient's right side.

    Smoothed soft tissue is eroded so far that only thick organs survive; of these the largest whose center lies right
    of the body's middle is grown back. Where nothing survives, all soft tissue is returned. It serves as the region of
    a registration only; it is no segmentation.
    """
    grid = volume.grid.with_spacing((GUESS_SPACING_MM,) * 3)
    values = ndimage.gaussian_filter(np.asarray(resample(volume, grid).array, dtype=np.float32), 0.8)
    soft = (values > SOFT_TISSUE_HU[0]) & (values < SOFT_TISSUE_HU[1])
    steps = round(CORE_DEPTH_MM / GUESS_SPACING_MM)
    core = ndimage.binary_erosion(soft, iterations=steps, border_value=1)
    labels, count = ndimage.label(core)
    organ = (
        soft
        if count == 0
        else _grown(np.equal(labels, _largest_on_the_right(labels, count, values, grid)), soft, steps)
    )
    guess = Volume((organ if organ.any() else np.ones_like(organ)).astype(np.uint8), grid)
    return Mask(resample(guess, volume.grid, linear=False), MaskSource.MODEL)


def _largest_on_the_right(labels: NDArray[np.integer], count: int, values: NDArray[np.float32], grid: Grid) -> int:
    body = np.argwhere(values > LUNG_HU)
    middle = float(grid.to_world(body.mean(axis=0)[::-1])[0]) if len(body) else float(grid.center_mm[0])
    sizes = ndimage.sum_labels(labels > 0, labels, range(1, count + 1))
    centers = np.array(ndimage.center_of_mass(labels > 0, labels, range(1, count + 1)))[:, ::-1]
    right = grid.to_world(centers)[:, 0] < middle  # LPS: x grows towards the patient's left
    return int(np.argmax(np.where(right, sizes, sizes * 1e-3))) + 1


def _grown(core: NDArray[np.bool_], soft: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    return np.asarray(ndimage.binary_dilation(core, iterations=steps, mask=soft))
