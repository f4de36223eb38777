"""Texture of a patient's own healthy liver, lent to places that were filled: all phases from one place.

Drawn noise has the right spectrum in each phase, but neither the fine vessels that phases share nor the unevenness of
a real scan. Healthy liver of the same patient has both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from .parenchyma import SHELL_VOXELS, UNSCANNED_HU, VESSEL_HU, parenchyma_level, without_noise

FARTHEST_HU = 60.0
"""Healthy liver is nearer to its level: fine vessels are, large ones and lesions that nobody has marked are not."""
PIECES = 3
"""Places that one hole may borrow from: few livers hold a large hole whole."""
PLACES = 200
"""Places that are compared with each other."""
COVERED = 0.97
"""Places that hold this part of the most that any place holds are taken as equally large."""
GRAIN_SIGMA_MM = 8.0
"""Neighborhood in which the grain of the noise is measured: it changes across a CT, more so where one was resampled."""
GRAIN_WEIGHT = 100.0
"""Of differences in grain (squared logarithms) beside those of the surroundings (squares, in variances)."""
FEWEST_BORROWED = 20
"""Voxels; less is not worth another piece."""

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class HealthyLiver:
    """A patient's liver where nothing is filled, as it deviates from its smooth level.

    Args:
        deviation: (P, Z, Y, X), HU.
        smooth: The same without noise, (P, Z, Y, X), HU.
        grain: Logarithms of the local mean square of the noise and of its steps along x, (P, 2, Z, Y, X).
        usable: Healthy liver that every phase has scanned, (Z, Y, X).
    """

    deviation: FloatArray
    smooth: FloatArray
    grain: FloatArray
    usable: BoolArray


def healthy_liver(
    values: FloatArray, liver: BoolArray, region: BoolArray, spacing_zyx_mm: tuple[float, float, float]
) -> HealthyLiver:
    """Return the healthy liver of a patient.

    Args:
        values: All phases, (P, Z, Y, X), HU.
        liver: The whole liver, (Z, Y, X); its surface lends nothing.
        region: What is or was filled, (Z, Y, X).
        spacing_zyx_mm: Voxel size.
    """
    known = liver & ~region
    deviation = np.stack([phase - parenchyma_level(phase, known, spacing_zyx_mm) for phase in values])
    smooth = np.stack([without_noise(phase, spacing_zyx_mm) for phase in deviation])
    usable = ndimage.binary_erosion(liver) & ~region & (values > UNSCANNED_HU).all(axis=0)
    usable &= (np.abs(smooth) <= FARTHEST_HU).all(axis=0)
    sigmas = [GRAIN_SIGMA_MM / spacing for spacing in spacing_zyx_mm]
    quiet = usable & (np.abs(smooth) <= VESSEL_HU).all(axis=0)
    grain = np.stack([_grain(phase, quiet, sigmas) for phase in deviation])
    return HealthyLiver(deviation, smooth, grain, usable)


def borrowed_texture(healthy: HealthyLiver, box: Box, hole: BoolArray, rng: np.random.Generator) -> FloatArray:
    """Return healthy liver of the shape of a hole, and of the shell of known liver around it.

    Of the places that hold most of this shape, the one whose surroundings and grain are most like those around the hole
    lends its texture; other places lend what is left.

    Args:
        healthy: Where to borrow from.
        box: Where the hole lies in it.
        hole: (Z, Y, X) of the box, not empty.
        rng: Chooses the places that are compared.

    Returns:
        (P, Z, Y, X) of the box, HU beside the level; NaN where nothing is lent.
    """
    shell = ndimage.binary_dilation(hole, iterations=SHELL_VOXELS) & ~hole & healthy.usable[box]
    borrowed = np.full((len(healthy.deviation), *hole.shape), np.nan, dtype=np.float32)
    part = ndimage.find_objects((hole | shell).astype(np.uint8))[0]
    left, around = (hole | shell)[part], np.argwhere(shell[part])
    start = [outer.start + inner.start for outer, inner in zip(box, part, strict=True)]
    for _ in range(PIECES):
        places = _places(left, healthy.usable, rng)
        if not len(places):
            break
        corner = min(places, key=lambda place: _unlikeness(healthy, around + start, around + place))
        donor = tuple(slice(start, start + size) for start, size in zip(corner, left.shape, strict=True))
        lent = left & healthy.usable[donor]
        borrowed[(slice(None), *part)][:, lent] = healthy.deviation[(slice(None), *donor)][:, lent]
        left = left & ~lent
    return borrowed


def _places(shape: BoolArray, usable: BoolArray, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return corners (N, 3) of places that hold about as much of a shape as any does."""
    size = [fft.next_fast_len(whole, real=True) for whole in usable.shape]
    spectra = [fft.rfftn(mask.astype(np.float32), size) for mask in (usable, shape)]
    held = fft.irfftn(spectra[0] * np.conj(spectra[1]), size)
    held = held[tuple(slice(whole - part + 1) for whole, part in zip(usable.shape, shape.shape, strict=True))]
    most = held.max()
    if most < FEWEST_BORROWED:
        return np.zeros((0, 3), dtype=np.int64)
    places = np.flatnonzero(held >= COVERED * most - 0.5)
    chosen = rng.choice(places, min(PLACES, len(places)), replace=False)
    return np.stack(np.unravel_index(chosen, held.shape), axis=-1)


def _unlikeness(healthy: HealthyLiver, around: NDArray[np.int64], there: NDArray[np.int64]) -> float:
    """Return how the liver at voxels (N, 3) of another place differs from that at voxels (N, 3) around the hole."""
    here, other = tuple(around.T), tuple(there.T)
    compared = healthy.usable[other]
    if not compared.any():
        return np.inf
    known = healthy.smooth[(slice(None), *here)]
    squares = np.square(healthy.smooth[(slice(None), *other)] - known)[:, compared].mean(axis=1)
    grains = [healthy.grain[(slice(None), slice(None), *at)].mean(axis=-1) for at in (here, other)]
    surroundings = squares / np.maximum(known.var(axis=1), 1.0)
    return float(surroundings.sum() + GRAIN_WEIGHT * np.square(grains[0] - grains[1]).sum())


def _grain(deviation: FloatArray, quiet: BoolArray, sigmas: list[float]) -> FloatArray:
    """Return the logarithms of the local mean square of quiet values and of their steps along x, (2, Z, Y, X)."""
    pairs = quiet[..., 1:] & quiet[..., :-1]
    steps = np.where(pairs, np.diff(deviation, axis=-1), 0)
    measured = []
    for values, known in ((np.where(quiet, deviation, 0), quiet), (steps, pairs)):
        weight, total = (ndimage.gaussian_filter(part.astype(np.float32), sigmas) for part in (known, values**2))
        mean = np.pad(total / np.maximum(weight, 1e-3), [(0, 0), (0, 0), (0, quiet.shape[-1] - values.shape[-1])])
        measured.append(np.log(np.maximum(mean, 1.0)))
    return np.stack(measured)
