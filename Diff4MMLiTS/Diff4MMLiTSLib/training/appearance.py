"""How the look of training patches varies, so that scanners, contrast and livers unlike the training's are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..core.config import AugmentationConfig
from .datasets import AIR_HU, BoolArray, FloatArray

TONE_KNOTS_HU = np.array([-200.0, -100.0, -20.0, 30.0, 70.0, 110.0, 150.0, 200.0, 300.0])
"""Where the tone curve bends: air and fat apart, the soft tissues 40 HU from each other."""
FIELD_DEPTH = 0.5
"""Most of a patch that the end of a field of view takes away."""

Random = np.random.Generator


def vary_appearance(
    phases: FloatArray, liver: BoolArray, *, augmentation: AugmentationConfig, spacing_mm: float, rng: Random
) -> FloatArray:
    """Return phases with another look: tissues, liver, sharpness, contrast, brightness and noise, each per phase.

    Args:
        phases: CT values (P, Z, Y, X), float32, HU.
        liver: (Z, Y, X).
        augmentation: How much; what is 0 draws nothing.
        spacing_mm: Of the isotropic voxels.
        rng: Source of the variation.
    """
    varied = [_varied(phase, liver, augmentation, spacing_mm, rng) for phase in phases]
    return _gain_offset_noise(np.stack(varied), augmentation, rng)


def cut_field(
    phases: FloatArray, masks: tuple[BoolArray, BoolArray], *, probability: float, rng: Random
) -> tuple[FloatArray, tuple[BoolArray, BoolArray]]:
    """Let the field of view end inside a patch, now and then, on a random side: beyond it there is air and no label.

    Args:
        phases: (P, Z, Y, X), HU.
        masks: Liver and tumor (Z, Y, X).
        probability: How often; 0 draws nothing.
        rng: Source of the randomness.
    """
    if probability <= 0 or rng.random() >= probability:
        return phases, masks
    axis, last = int(rng.integers(3)), bool(rng.integers(2))
    size = phases.shape[1 + axis]
    depth = int(rng.integers(1, max(2, int(FIELD_DEPTH * size))))
    beyond = [slice(None)] * 3
    beyond[axis] = slice(size - depth, None) if last else slice(None, depth)
    box = tuple(beyond)
    cut, liver, tumor = phases.copy(), masks[0].copy(), masks[1].copy()
    cut[(slice(None), *box)] = AIR_HU
    liver[box] = tumor[box] = False
    return cut, (liver, tumor)


def _varied(
    phase: FloatArray, liver: BoolArray, augmentation: AugmentationConfig, spacing_mm: float, rng: Random
) -> FloatArray:
    if augmentation.tissue_hu > 0:
        knots = rng.normal(0.0, augmentation.tissue_hu, len(TONE_KNOTS_HU))
        phase = (phase + np.interp(phase, TONE_KNOTS_HU, knots)).astype(np.float32)
    if augmentation.liver_hu > 0:
        phase = np.where(liver, phase + np.float32(rng.normal(0.0, augmentation.liver_hu)), phase)
    if augmentation.blur_mm > 0:
        along, across = rng.uniform(0.0, augmentation.blur_mm, 2) / spacing_mm
        sigmas = (along, across / 2, across / 2)
        phase = np.asarray(ndimage.gaussian_filter(phase, sigmas, truncate=2.5), dtype=np.float32)
    return phase


def _gain_offset_noise(phases: FloatArray, augmentation: AugmentationConfig, rng: Random) -> FloatArray:
    shape = (len(phases), 1, 1, 1)
    gain = 1.0 + rng.uniform(-augmentation.gain, augmentation.gain, shape)
    offset = rng.normal(0.0, augmentation.offset_hu, shape)
    noise: NDArray[np.float32] = rng.standard_normal(phases.shape, dtype=np.float32)
    level = rng.uniform(0.0, augmentation.noise_hu, shape)
    return (phases * gain + offset + noise * level).astype(np.float32)
