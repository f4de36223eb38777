"""Inhomogeneity of tissue that is not scanner noise: parenchyma, fat strands, marrow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .anatomy import Tissue
from .fields import Field, FloatArray, Point, smooth_noise
from .patient import Ingredient, LiverDisease, Patient, random_stream

TISSUE_GRAIN_HU: Mapping[Tissue, float] = {
    Tissue.FAT: 5.0, Tissue.VISCERAL_FAT: 9.0, Tissue.MUSCLE: 8.0, Tissue.BONE_MARROW: 45.0, Tissue.BONE_CORTEX: 90.0,
    Tissue.LUNG: 28.0, Tissue.SPLEEN: 2.5, Tissue.PANCREAS: 16.0, Tissue.FECES: 170.0, Tissue.HEART: 6.0,
    Tissue.KIDNEY_CORTEX: 8.0, Tissue.KIDNEY_MEDULLA: 6.0, Tissue.GUT_WALL: 14.0, Tissue.ORAL_CONTRAST: 25.0,
    Tissue.SKIN: 8.0,
    Tissue.FOOD: 38.0, Tissue.FLUID: 3.0, Tissue.MYOCARDIUM: 5.0,
}  # fmt: skip
"""Standard deviation of the fine inhomogeneity of each tissue, HU."""
GRAIN_MM = 3.0
TILE_MM = 170.0
"""Period of the fine fields; long against their structures, short against the cost of drawing them."""
LIVER_SCALES_MM = (18.0, 7.0, 3.0)
LIVER_WEIGHTS: Mapping[LiverDisease, Point] = {
    LiverDisease.NORMAL: (1.6, 1.2, 2.0),
    LiverDisease.STEATOTIC: (4.0, 2.0, 2.0),
    LiverDisease.CIRRHOTIC: (2.0, 3.6, 3.6),
}
"""Standard deviation (HU) of the liver's inhomogeneity at each scale."""


def grain(patient: Patient) -> Field:
    """Draw the unit noise that every tissue's fine inhomogeneity is scaled from (patient's frame)."""
    return smooth_noise(random_stream(patient.seed, Ingredient.TEXTURE, 0), length_mm=GRAIN_MM, tile_mm=TILE_MM)


def liver_texture(patient: Patient, axes_mm: tuple[FloatArray, FloatArray, FloatArray], *, shifted: bool) -> FloatArray:
    """Return the liver's own inhomogeneity on an axis-aligned block of the patient's frame.

    Args:
        patient: Whose liver.
        axes_mm: Coordinates of the columns (x), rows (y), slices (z).
        shifted: Ridged, cell-like texture instead of a Gaussian one.

    Returns:
        Deviation from the mean, HU, (Z, Y, X).
    """
    rng = random_stream(patient.seed, Ingredient.TEXTURE, 1)
    result: FloatArray | None = None
    for scale, weight in zip(LIVER_SCALES_MM, LIVER_WEIGHTS[patient.liver.disease], strict=True):
        noise = smooth_noise(rng, length_mm=scale, tile_mm=TILE_MM).on_axes(*axes_mm)[0]
        if shifted:
            noise = (1.35 - 1.9 * np.abs(noise)).astype(np.float32)
        part = np.float32(weight * rng.uniform(0.7, 1.3)) * noise
        result = part if result is None else result + part
    assert result is not None
    return result
