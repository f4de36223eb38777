"""Training patches: where they lie, how they are cut, and how they vary."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ..core.config import AugmentationConfig
from ..core.errors import InputError
from ..core.phases import ALL_PHASES
from .appearance import cut_field, vary_appearance
from .datasets import AIR_HU, BoolArray, FloatArray, WorkingStudy

Size = tuple[int, int, int]

EDGE_VOXELS = 4
"""Closer to the border of a patch a network sees too little of a lesion to learn from."""


@dataclass(frozen=True, eq=False)
class Patch:
    """A box of a working study.

    Args:
        phases: CT values (P, Z, Y, X), float32, HU; 0 where a phase is missing.
        presence: (P,), float32, 0 or 1.
        liver: (Z, Y, X).
        tumor: (Z, Y, X).
    """

    phases: FloatArray
    presence: FloatArray
    liver: BoolArray
    tumor: BoolArray


def random_center(
    study: WorkingStudy, rng: np.random.Generator, *, tumor_fraction: float, liver_fraction: float
) -> NDArray[np.int64]:
    """Draw the center of a patch: in a tumor (every lesion as often, whatever its size), in the liver, or anywhere.

    Returns:
        Voxel index (3,), z, y, x.
    """
    kind = rng.random()
    if kind < tumor_fraction and study.lesions:
        lesion = study.lesions[rng.integers(len(study.lesions))]
        return np.asarray(lesion[rng.integers(len(lesion))])
    if kind < tumor_fraction + liver_fraction and study.liver_voxels.size:
        flat = study.liver_voxels[rng.integers(study.liver_voxels.size)]
        return np.array(np.unravel_index(flat, study.liver.shape))
    return rng.integers(study.liver.shape)


def anywhere_around(
    center: NDArray[np.int64], size: Size, shape: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Move the center of a patch so that what it was centered on may lie anywhere in the patch.

    Networks know where in a patch they are: one whose lesions all lie in the middle finds lesions in the middle of
    every window.

    Args:
        center: Voxel (z, y, x).
        size: Of the patch (Z, Y, X).
        shape: Of the study (Z, Y, X); the center stays within.
        rng: Draws the shift, uniformly along each axis; ``EDGE_VOXELS`` keep the voxel off the patch's border.
    """
    reach = np.maximum(np.array(size) // 2 - EDGE_VOXELS, 0)
    return np.asarray(np.clip(center + rng.integers(-reach, reach + 1), 0, np.array(shape) - 1))


def crop_patch(study: WorkingStudy, center: NDArray[np.int64], size: Size) -> Patch:
    """Cut the box of ``size`` voxels around ``center`` (z, y, x); beyond the study there is air.

    Raises:
        InputError: The center lies outside the study.
    """
    start = np.asarray(center) - np.array(size) // 2
    low = np.clip(start, 0, study.liver.shape)
    high = np.clip(start + np.array(size), low, study.liver.shape)
    source = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    missing = [(int(a), int(b)) for a, b in zip(low - start, start + np.array(size) - high, strict=True)]
    if min(min(pair) for pair in missing) < 0 or (low == high).any():
        raise InputError(f"A patch around voxel {tuple(center)}", expected="a center inside the study")
    inside = study.presence[:, None, None, None]
    phases = np.pad(study.phases[(slice(None), *source)], [(0, 0), *missing], constant_values=AIR_HU) * inside
    return Patch(
        phases.astype(np.float32),
        study.presence,
        np.pad(study.liver[source], missing),
        np.pad(study.tumor[source], missing),
    )


def random_patch(
    study: WorkingStudy,
    center: NDArray[np.int64],
    size: Size,
    *,
    augmentation: AugmentationConfig,
    rng: np.random.Generator,
) -> Patch:
    """Cut a patch: turned, scaled, phases shifted against each other, other brightness and noise, some withheld."""
    matrix = _random_matrix(augmentation, rng)
    middle = (np.array(size) - 1) / 2
    shifts = rng.normal(0.0, augmentation.shift_mm / min(study.grid.spacing_mm), (len(study.presence), 3))
    shifts[ALL_PHASES.index(study.reference_phase)] = 0.0  # the labels belong to this phase
    phases = np.zeros((len(study.presence), *size), dtype=np.float32)
    offset = np.asarray(center) - matrix @ middle
    for index in np.flatnonzero(study.presence):
        phases[index] = ndimage.affine_transform(
            study.phases[index], matrix, offset + shifts[index], size, order=1, cval=AIR_HU
        )
    liver = ndimage.affine_transform(study.liver.view(np.uint8), matrix, offset, size, order=0) > 0
    tumor = ndimage.affine_transform(study.tumor.view(np.uint8), matrix, offset, size, order=0) > 0
    phases, (liver, tumor) = cut_field(phases, (liver, tumor), probability=augmentation.field_cut, rng=rng)
    spacing_mm = min(study.grid.spacing_mm)
    phases = vary_appearance(phases, liver, augmentation=augmentation, spacing_mm=spacing_mm, rng=rng)
    phases *= study.presence[:, None, None, None]
    return _withhold_phases(Patch(phases, study.presence, liver, tumor), augmentation, rng)


def _random_matrix(augmentation: AugmentationConfig, rng: np.random.Generator) -> NDArray[np.float64]:
    angles = rng.uniform(-1, 1, 3) * augmentation.rotation_degrees
    scale = 1.0 + rng.uniform(-1, 1) * augmentation.scale
    matrix = np.asarray(Rotation.from_euler("zyx", angles, degrees=True).as_matrix() / scale)
    for axis in augmentation.flips:
        if rng.integers(2):
            matrix[:, "zyx".index(axis)] *= -1
    return matrix


def _withhold_phases(patch: Patch, augmentation: AugmentationConfig, rng: np.random.Generator) -> Patch:
    kept = patch.presence * (rng.random(len(patch.presence)) >= augmentation.phase_dropout)
    if not kept.any():
        kept = np.zeros_like(patch.presence)
        kept[rng.choice(np.flatnonzero(patch.presence))] = 1.0
    kept = kept.astype(np.float32)
    return replace(patch, phases=patch.phases * kept[:, None, None, None], presence=kept)
