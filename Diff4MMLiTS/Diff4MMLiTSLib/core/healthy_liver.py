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
"""Smooth liver farther than this from its level is a large vessel, or a lesion that nobody has marked."""
FARTHEST_WIDE_HU = 20.0
"""The same of its mean over ``WIDE_MM``: fine vessels stay below, a faint lesion of some 15 mm does not."""
WIDE_MM = 10.0
BESIDE_MM = 3.0
"""What lies so near to such a place is not lent either: flanks of vessels, rims of lesions."""
SHOWN_HU = 15.0
"""Where a fill is farther than this from the level, it shows a vessel."""
PIECES = 3
"""Places that one hole may borrow from: few livers hold a large hole whole."""
PLACES = 200
"""Places that are compared with each other."""
COVERED = 0.97
"""Places that hold this part of the most that any place holds are taken as equally large."""
GRAIN_MM = 20.0
"""Neighborhood in which the grain of the noise is measured: it changes across a CT, more so where one was resampled."""
LEAST_SQUARE = 1.0
"""HU squared: whole numbers are no finer."""
GRAIN_WEIGHT = 100.0
"""Of differences in grain (squared logarithms) beside those of the surroundings (squares, in variances)."""
COMPARED = 2000
"""Voxels of a hole's surroundings that are compared at most."""
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
        values: All phases, the region filled, (P, Z, Y, X), HU.
        liver: The whole liver, (Z, Y, X); its surface lends nothing.
        region: What was filled, (Z, Y, X).
        spacing_zyx_mm: Voxel size.
    """
    known = liver & ~region
    deviation = np.stack([phase - parenchyma_level(phase, known, spacing_zyx_mm) for phase in values])
    smooth = np.stack([without_noise(phase, spacing_zyx_mm) for phase in deviation])
    inside = ndimage.binary_erosion(liver) & (values > UNSCANNED_HU).all(axis=0)
    unusual = np.zeros_like(inside)
    for phase, smooth_phase in zip(deviation, smooth, strict=True):
        wide = _local_mean(phase, inside & ~region, WIDE_MM, spacing_zyx_mm)
        unusual |= (np.abs(smooth_phase) > FARTHEST_HU) | (np.abs(wide) > FARTHEST_WIDE_HU)
    unusual &= inside & ~region
    if unusual.any():
        unusual = np.asarray(ndimage.distance_transform_edt(~unusual, sampling=spacing_zyx_mm)) <= BESIDE_MM
    usable = inside & ~region & ~unusual
    quiet = usable & (np.abs(smooth) <= VESSEL_HU).all(axis=0)
    grain = np.empty((len(values), 2, *inside.shape), dtype=np.float32)
    for measured, phase in zip(grain, deviation, strict=True):
        measured[:] = _grain(phase, quiet, spacing_zyx_mm)
    return HealthyLiver(deviation, smooth, grain, usable)


def borrowed_texture(healthy: HealthyLiver, box: Box, hole: BoolArray, rng: np.random.Generator) -> FloatArray:
    """Return healthy liver of the shape of a hole, and of the shell of known liver around it.

    Of the places that hold most of the hole's shape, ``PLACES`` are drawn, and the one whose surroundings and grain are
    most like those around the hole lends its texture; other places lend what is left. A vessel that the fill shows
    already and that is lent as well counts once.

    Args:
        healthy: Where to borrow from.
        box: Where the hole lies in it.
        hole: (Z, Y, X) of the box, not empty.
        rng: Chooses the places that are compared.

    Returns:
        (P, Z, Y, X) of the box, HU beside the level; NaN where nothing is lent.
    """
    shell = ndimage.binary_dilation(hole, iterations=SHELL_VOXELS) & ~hole & healthy.usable[box]
    around = np.argwhere(shell) + [part.start for part in box]
    around = around[rng.permutation(len(around))[:COMPARED]]
    own = healthy.smooth[(slice(None), *box)]
    own = np.where(hole & (np.abs(own) > SHOWN_HU), own, 0)
    borrowed = np.full(own.shape, np.nan, dtype=np.float32)
    left = hole | shell
    for _ in range(PIECES):
        if (left & hole).sum() < FEWEST_BORROWED:
            break
        part = ndimage.find_objects(left.astype(np.uint8))[0]
        places = _places((left & hole)[part], healthy.usable, rng)
        if not len(places):
            break
        start = [outer.start + inner.start for outer, inner in zip(box, part, strict=True)]
        place = places[np.argmin([_unlikeness(healthy, around, place - start) for place in places])]
        donor = tuple(slice(begin, begin + size) for begin, size in zip(place, left[part].shape, strict=True))
        lent = left[part] & healthy.usable[donor]
        there, here = (slice(None), *donor), (slice(None), *part)
        texture = healthy.deviation[there] - _common(own[here], healthy.smooth[there])
        borrowed[here][:, lent] = texture[:, lent]
        left[part] &= ~lent
    return borrowed


def _places(shape: BoolArray, usable: BoolArray, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return corners (N, 3) of places that hold about as much of a shape as any does."""
    size = [fft.next_fast_len(whole, real=True) for whole in usable.shape]
    spectra = [fft.rfftn(mask.astype(np.float32), size) for mask in (usable, shape)]
    held = fft.irfftn(spectra[0] * np.conj(spectra[1]), size)
    held = held[tuple(slice(whole - part + 1) for whole, part in zip(usable.shape, shape.shape, strict=True))]
    held = np.rint(held)
    most = held.max()
    if most < FEWEST_BORROWED:
        return np.zeros((0, 3), dtype=np.int64)
    places = np.flatnonzero(held >= COVERED * most)
    chosen = rng.choice(places, min(PLACES, len(places)), replace=False)
    return np.stack(np.unravel_index(chosen, held.shape), axis=-1)


def _unlikeness(healthy: HealthyLiver, around: NDArray[np.int64], move: NDArray[np.int64]) -> float:
    """Return how the liver around a hole, voxels (N, 3), differs from that around the place it is moved to.

    Voxels that cannot be compared count as much as liver that has nothing in common.
    """
    there = around + move
    inside = np.asarray(((there >= 0) & (there < healthy.usable.shape)).all(axis=1))
    there = np.where(inside[:, None], there, 0)
    here, other = (slice(None), *around.T), (slice(None), *there.T)
    compared = inside & healthy.usable[tuple(there.T)]
    if not compared.any():
        return np.inf
    known = healthy.smooth[here]
    variance = np.maximum(known.var(axis=1), 1.0)
    squares = np.square(healthy.smooth[other] - known)[:, compared].sum(axis=1) / variance
    surroundings = (squares + (~compared).sum()) / len(around)
    grains = [healthy.grain[(slice(None), *at)][..., compared].mean(axis=-1) for at in (here, other)]
    return float(surroundings.sum() + GRAIN_WEIGHT * np.square(grains[0] - grains[1]).sum())


def _common(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return what two deviations have in common: the smaller one where both have the same sign, else 0."""
    smaller = np.minimum(np.abs(first), np.abs(second))
    return np.asarray(np.where(first * second > 0, np.sign(first) * smaller, 0), dtype=np.float32)


def _grain(deviation: FloatArray, quiet: BoolArray, spacing_zyx_mm: tuple[float, float, float]) -> FloatArray:
    """Return the logarithms of the local mean square of quiet values and of their steps along x, (2, Z, Y, X)."""
    pairs = np.zeros_like(quiet)
    pairs[..., 1:] = quiet[..., 1:] & quiet[..., :-1]
    steps = np.diff(deviation, axis=-1, prepend=np.float32(0))
    squares = [
        _local_mean(values**2, known, GRAIN_MM, spacing_zyx_mm)
        for values, known in ((deviation, quiet), (steps, pairs))
    ]
    return np.log(np.maximum(np.stack(squares), LEAST_SQUARE))


def _local_mean(
    values: FloatArray, known: BoolArray, width_mm: float, spacing_zyx_mm: tuple[float, float, float]
) -> FloatArray:
    """Return the mean of known values in a box around each voxel; 0 where none is known."""
    widths = [max(1, round(width_mm / spacing)) for spacing in spacing_zyx_mm]
    weight, total = (
        ndimage.uniform_filter(part, widths, mode="constant")
        for part in (known.astype(np.float32), np.where(known, values, 0).astype(np.float32))
    )
    return np.asarray(np.where(weight > 1e-4, total / np.maximum(weight, 1e-4), 0), dtype=np.float32)
