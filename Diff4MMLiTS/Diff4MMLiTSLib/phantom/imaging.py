"""Sampling a rendered patient the way a CT does: breathing, point spread, slice thickness, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from ..core.grid import Grid, Volume, resample
from ..core.phases import Phase
from .enhancement import Enhancement
from .fields import Field, FloatArray
from .motion import transform_of
from .scanner import Acquisition, Kernel, draw_noise
from .specimen import Box, Lesion, Specimen, lesion_change_hu, organs_hu, wall_hu

AIR_HU = -1000.0
HU_RANGE = (-1024, 3071)
TUMOR_COVERAGE = 0.5
"""A voxel is labeled tumor when at least this share of it is."""


@dataclass(frozen=True, eq=False)
class PhaseImages:
    """One phase and the truth about it, on the phase's own grid.

    Args:
        ct: What the scanner shows, int16, HU.
        normal: The same without noise and without tumors, int16, HU.
        tumor: Tumors, uint8.
    """

    ct: Volume
    normal: Volume
    tumor: Volume


@dataclass(frozen=True, eq=False)
class Exposure:
    """How one phase is taken.

    Args:
        acquisition: Where it is sampled.
        motion: Backward motion of the organs, or None in the reference phase.
        kernel: Point spread and noise.
    """

    acquisition: Acquisition
    motion: Field | None
    kernel: Kernel


def scan(
    specimen: Specimen, enhancement: Enhancement, phase: Phase, *, exposure: Exposure, rng: np.random.Generator
) -> PhaseImages:
    """Scan a patient in one phase.

    Args:
        specimen: The rendered patient.
        enhancement: HU of the tissues.
        phase: Which phase.
        exposure: How it is taken.
        rng: Randomness of the noise.
    """
    view, motion, kernel = exposure.acquisition, exposure.motion, exposure.kernel
    transform = transform_of(motion) if motion is not None else None
    organs = organs_hu(specimen, enhancement, phase)
    grid = specimen.tissues.grid
    inside = _sample(organs, grid, view, kernel=kernel, transform=transform)
    normal = _sample(wall_hu(specimen, enhancement, phase), grid, view, kernel=kernel)
    window = np.clip(_sample(specimen.tissues.cavity.astype(np.float32), grid, view, kernel=kernel, outside=0.0), 0, 1)
    normal += window * (inside - normal)  # the organs slide behind the static wall
    ct = normal + draw_noise(rng, view.grid, kernel, specimen.patient)
    tumor = np.zeros(view.grid.shape, dtype=np.uint8)
    for lesion in specimen.lesions:
        region = _region(view.grid, lesion, motion)
        if region is None:
            continue
        box, block = region
        part = Acquisition(block, view.slice_mm)
        change = lesion_change_hu(specimen, lesion, organs, phase)
        ct[box] += window[box] * _sample(change, lesion.grid, part, kernel=kernel, transform=transform, outside=0.0)
        share = window[box] * _sample(lesion.alpha, lesion.grid, part, kernel=None, transform=transform, outside=0.0)
        tumor[box] |= (share >= min(TUMOR_COVERAGE, max(0.99 * float(share.max()), 0.02))).astype(np.uint8)
    return PhaseImages(Volume(_to_hu(ct), view.grid), Volume(_to_hu(normal), view.grid), Volume(tumor, view.grid))


def _region(grid: Grid, lesion: Lesion, motion: Field | None) -> tuple[Box, Grid] | None:
    """Return the block of a phase's grid in which a tumor can lie after the motion, or None when it lies outside."""
    reach = float(np.abs(motion.values).max()) if motion is not None else 0.0
    low_mm, high_mm = np.array(lesion.grid.origin_mm), lesion.grid.to_world(np.array(lesion.grid.size) - 1.0)
    low = np.clip(np.floor(grid.to_index(low_mm - reach)) - 1, 0, grid.size).astype(int)
    high = np.clip(np.ceil(grid.to_index(high_mm + reach)) + 2, 0, grid.size).astype(int)
    if (high <= low).any():
        return None
    box = (slice(int(low[2]), int(high[2])), slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])))
    size = high - low
    return box, grid.cropped((int(low[0]), int(low[1]), int(low[2])), (int(size[0]), int(size[1]), int(size[2])))


def _sample(
    values: FloatArray,
    grid: Grid,
    scan: Acquisition,
    *,
    kernel: Kernel | None,
    transform: sitk.Transform | None = None,
    outside: float = AIR_HU,
) -> FloatArray:
    """Average over point spread and slice thickness, then sample on the phase's grid."""
    spacing = grid.spacing_mm
    blurred = values
    if kernel is not None:
        sigma = max(kernel.blur_mm, 0.42 * scan.grid.spacing_mm[0]) / spacing[0]
        blurred = ndimage.gaussian_filter1d(blurred, sigma, axis=2, truncate=2.5)
        blurred = ndimage.gaussian_filter1d(blurred, sigma, axis=1, truncate=2.5)
    width = scan.slice_mm / spacing[2]
    reach = int(np.ceil(width / 2))
    slab = np.clip(width / 2 + 0.5 - np.abs(np.arange(-reach, reach + 1)), 0, 1)
    blurred = ndimage.correlate1d(blurred, slab / slab.sum(), axis=0, mode="nearest")
    return np.array(resample(Volume(blurred, grid), scan.grid, transform=transform, outside=outside).array)


def _to_hu(values: FloatArray) -> NDArray[np.int16]:
    return np.clip(np.rint(values), *HU_RANGE).astype(np.int16)
