"""How far a small lesion reaches, by what sets it off from the patient's own liver in all phases together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .grid import Grid
from .parenchyma import UNSCANNED_HU

SMOOTHING_MM = 2.0
"""Standard deviation of a Gaussian that takes noise away and leaves lesions of 5 mm."""
LEAST_LIKE_CORE = 0.4
"""A voxel belongs to the lesion from this part of the way from the liver's mean to its core's; partial volumes too."""
LEAST_DISTANCE = 1.0
"""Mahalanobis distance of core and liver, per phase, that noise alone reaches: below it nothing sets the lesion off."""
LEAST_SCANNED = 0.95
"""Part of the region that a phase must show to be asked: its field of view may end there."""
APART_MM = 3.0
"""The liver is looked at from this distance on: what is nearer may be lesion."""
FEWEST_VOXELS = 50
"""Fewer of healthy liver do not tell how its values vary."""
OUTLIER = 4.0
"""Deviations (robust) from the median beyond which a voxel is no parenchyma: vessels, other lesions, air."""
FLOOR_HU = 2.0
"""Deviation that every phase has at least: noise-free images exist."""
TISSUE_HU = (-200.0, 400.0)

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]


def like_the_core(region: BoolArray, core: BoolArray, *, phases: FloatArray, liver: BoolArray, grid: Grid) -> BoolArray:
    """Return the voxels of a region that look like a lesion's core rather than like the liver around it.

    All phases are weighed together by Fisher's linear discriminant (The use of multiple measurements in taxonomic
    problems, 1936) between the core's mean and the parenchyma's distribution.

    Args:
        region: Where the lesion may be, (Z, Y, X).
        core: Voxels that surely are the lesion's.
        phases: (P, Z, Y, X), HU; only phases that are there. Where one ends near the region, it is not asked.
        liver: Liver without known tumors.
        grid: Its lattice.

    Returns:
        Part of the region, with the core; the whole region where nothing sets the core off, or no liver is near.
    """
    whole = region | core
    scanned = phases > UNSCANNED_HU
    shown = scanned[:, whole].mean(axis=1) >= LEAST_SCANNED
    phases, liver = phases[shown], liver & scanned[shown].all(axis=0)
    apart = ndimage.distance_transform_edt(~whole, sampling=grid.spacing_zyx_mm) > APART_MM
    if not shown.any() or int((liver & apart).sum()) < FEWEST_VOXELS:
        return whole
    sigmas = [SMOOTHING_MM / spacing for spacing in grid.spacing_zyx_mm]
    smooth = np.stack([ndimage.gaussian_filter(np.clip(phase, *TISSUE_HU), sigmas) for phase in phases])
    healthy = _without_outliers(smooth[:, liver & apart])
    if healthy.shape[1] < FEWEST_VOXELS:
        return whole
    mean = healthy.mean(axis=1)
    covariance = np.atleast_2d(np.cov(healthy)) + FLOOR_HU**2 * np.eye(len(phases))
    difference = smooth[:, core].mean(axis=1) - mean
    weights = np.linalg.solve(covariance, difference)
    squared = float(weights @ difference)
    if squared < LEAST_DISTANCE**2 * len(phases):
        return whole
    part_of_way = np.tensordot(weights, smooth - mean[:, None, None, None], axes=1) / squared
    return np.asarray((region & (part_of_way > LEAST_LIKE_CORE)) | core)


def _without_outliers(values: FloatArray) -> FloatArray:
    """Return the voxels of values (P, N), HU, that no phase shows far from its median."""
    away = np.abs(values - np.median(values, axis=1, keepdims=True))
    deviation = 1.4826 * np.median(away, axis=1, keepdims=True) + FLOOR_HU
    return np.asarray(values[:, (away < OUTLIER * deviation).all(axis=0)])
