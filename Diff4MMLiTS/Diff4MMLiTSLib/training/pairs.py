"""What the denoiser learns from: tumors, and how each changed the normal CT around it.

A registered study and its normal CT (the same study, inpainted) differ in the tumors alone. In phases other than the
annotated one a tumor lies beside its mask by what registration left over. Because the *change* is learned, it can be
moved onto the mask: per lesion and phase the shift is searched that brings change and mask together, and phases whose
change fits nowhere within reach count little.

The difference of two images has the noise of both. A synthetic tumor needs neither: it is added to an image that keeps
its own noise. So the change is learned without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..core.enhancement import TumorFamily, core_of, family_of, tells_families
from ..core.errors import InputError
from ..core.grid import Grid
from ..core.known_lesions import KnownLesions, describe, flat_contrast, known_lesions
from ..core.lesions import ball_diameter_mm
from ..core.phases import ALL_PHASES
from ..core.tumor_mask import dilate_mm
from .datasets import BoolArray, FloatArray, WorkingStudy
from .patches import crop_patch

PLAUSIBLE_HU = (-20.0, 300.0)
"""Voxels outside of this range are fat or bone, in a phase in which the capsule lies elsewhere."""
PRIOR_REACHES = 1.5
"""Shifts are as likely as a Gaussian of so many reaches says: small ones win where the change says nothing."""
NOISE_SIGMA_MM = 2.0
"""Smoothing of the change, inside and outside the mask apart: takes three quarters of the noise away at 3 mm."""
VISIBLE_HU = 8.0
"""Largest mean change below which a tumor is as bright as its liver: there is nothing to align, and nothing wrong."""
LEAST_VOXELS = 8
"""Smaller lesions show on the working grid little but noise."""
LEAST_TRUST = 0.5
"""Below it a phase says nothing about the contrasts that occur."""
GOOD_FIT = 0.6
"""Correlation of change and mask from which a phase counts fully; two aligned noisy phantoms reach 0.7 to 0.9."""


@dataclass(frozen=True)
class TumorPair:
    """A study with tumors and the same study without.

    Args:
        study: With tumors.
        normal: Its normal CT, on the same grid.

    Raises:
        InputError: Different grids.
    """

    study: WorkingStudy
    normal: WorkingStudy

    def __post_init__(self) -> None:
        if difference := self.study.grid.difference(self.normal.grid):
            raise InputError(
                f"Study '{self.study.study_id}' and its normal CT lie on different grids: {difference}",
                expected="the study that was inpainted, and the result",
            )


@dataclass(frozen=True, eq=False)
class LesionPatch:
    """One lesion, aligned in all phases.

    Args:
        normal: The normal CT (P, Z, Y, X), HU.
        changed: The same with the tumor, moved onto its mask.
        tumor: (Z, Y, X).
        presence: (P,), 0 or 1.
        trust: How far each phase's change fits the mask, (P,), 0 to 1.
        shifts_mm: How far each phase's change was moved, (P,).
        family: What its enhancement is most like; None where the phases that would say it are missing.
        grid: The lattice of the arrays.
        study_id: Where it comes from.
    """

    normal: FloatArray
    changed: FloatArray
    tumor: BoolArray
    presence: FloatArray
    trust: FloatArray
    shifts_mm: FloatArray
    family: TumorFamily | None
    grid: Grid
    study_id: str


def lesion_patches(
    pairs: Sequence[TumorPair], size: tuple[int, int, int], *, largest_shift_mm: float
) -> tuple[LesionPatch, ...]:
    """Return every lesion of the pairs, each alone in the middle of a patch.

    Raises:
        InputError: There is no lesion of ``LEAST_VOXELS`` at all.
    """
    patches = [
        _lesion_patch(pair, lesion, size, largest_shift_mm)
        for pair in pairs
        for lesion in pair.study.lesions
        if len(lesion) >= LEAST_VOXELS
    ]
    if not patches:
        raise InputError("No study has a tumor", expected="studies with tumors and their normal CTs")
    return tuple(patches)


def _lesion_patch(
    pair: TumorPair, lesion: NDArray[np.int64], size: tuple[int, int, int], largest_shift_mm: float
) -> LesionPatch:
    center = np.rint((lesion.min(axis=0) + lesion.max(axis=0)) / 2).astype(np.int64)
    ill, normal = crop_patch(pair.study, center, size), crop_patch(pair.normal, center, size)
    tumor = _own_mask(lesion - (center - np.array(size) // 2), size)
    presence = ill.presence * normal.presence
    grid = pair.study.grid.cropped((0, 0, 0), (size[2], size[1], size[0]))
    lowest, highest = np.minimum(ill.phases, normal.phases), np.maximum(ill.phases, normal.phases)
    own = _territory(tumor, ill.tumor & ~tumor, grid) & (lowest > PLAUSIBLE_HU[0]) & (highest < PLAUSIBLE_HU[1])
    change = np.where(own, ill.phases - normal.phases, np.float32(0.0))
    trust, shifts = np.zeros_like(presence), np.zeros_like(presence)
    reference = ALL_PHASES.index(pair.study.reference_phase)
    for index in np.flatnonzero(presence):
        reach = 0.0 if index == reference else largest_shift_mm
        shift, trust[index] = align_change(change[index], tumor, grid, reach)
        change[index] = _without_noise(np.roll(change[index], shift, axis=(0, 1, 2)), tumor, grid)
        trust[index] *= own[index][tumor].mean()
        shifts[index] = np.linalg.norm(np.multiply(shift, grid.spacing_zyx_mm))
    trust[reference] = presence[reference]  # the mask was drawn on it
    changed = (normal.phases + change) * presence[:, None, None, None]
    return LesionPatch(
        normal=normal.phases,
        changed=changed,
        tumor=tumor,
        presence=presence,
        trust=trust,
        shifts_mm=shifts,
        family=_family(normal.phases, changed, tumor, presence=presence, grid=grid),
        grid=grid,
        study_id=pair.study.study_id,
    )


def _own_mask(voxels: NDArray[np.int64], size: tuple[int, int, int]) -> BoolArray:
    """Return the part of a lesion (voxel indices relative to the patch) that lies in the patch."""
    mask = np.zeros(size, dtype=bool)
    inside = ((voxels >= 0) & (voxels < np.array(size))).all(axis=1)
    mask[tuple(voxels[inside].T)] = True
    return mask


def _territory(own: BoolArray, others: BoolArray, grid: Grid) -> BoolArray:
    """Return the voxels that are nearer to a lesion than to any other."""
    if not others.any():
        return np.ones_like(own)
    distances = [ndimage.distance_transform_edt(~mask, sampling=grid.spacing_zyx_mm) for mask in (own, others)]
    return np.asarray(distances[0] < distances[1])


def _family(
    normal: FloatArray, changed: FloatArray, tumor: BoolArray, *, presence: FloatArray, grid: Grid
) -> TumorFamily | None:
    """Return the family of a lesion, by medians, which its border blurs less; None where phases are missing for it."""
    levels = [
        {phase: float(np.median(images[index][mask])) for index, phase in enumerate(ALL_PHASES) if presence[index]}
        for images, mask in ((changed, tumor), (normal, tumor), (changed, core_of(tumor, grid)))
    ]
    return family_of(*levels) if tells_families(levels[0]) else None


def known_lesions_of(patches: Sequence[LesionPatch]) -> KnownLesions:
    """Return what is kept of the lesions that are learned from.

    A phase that had to be moved by more than the lesion's radius shows something else there, and tells no contrast.
    """
    descriptions, contrasts = [], []
    for patch in patches:
        change = patch.changed - patch.normal * patch.presence[:, None, None, None]
        radius_mm = ball_diameter_mm(patch.tumor.sum() * patch.grid.voxel_ml) / 2
        trusted = (patch.presence * patch.trust >= LEAST_TRUST) & (patch.shifts_mm <= radius_mm)
        descriptions.append(describe(change, patch.tumor, patch.grid))
        contrasts.append(np.where(trusted, flat_contrast(change, patch.tumor, patch.grid), np.float32(np.nan)))
    return known_lesions(
        descriptions, contrasts, [patch.family for patch in patches], [patch.study_id for patch in patches]
    )


def align_change(
    change: FloatArray, tumor: BoolArray, grid: Grid, reach_mm: float
) -> tuple[tuple[int, int, int], float]:
    """Find the shift that moves a change onto the tumor mask.

    Args:
        change: Study minus normal CT, one phase, (Z, Y, X), HU.
        tumor: (Z, Y, X).
        grid: Their lattice.
        reach_mm: Largest shift along each axis.

    Returns:
        The shift (z, y, x) in voxels, and how well change and mask then agree, 0 to 1.
    """
    smooth = ndimage.gaussian_filter(change, 1.0)
    if float(np.abs(_correlation(tumor / tumor.sum(), smooth)).max()) < VISIBLE_HU:
        return (0, 0, 0), 1.0
    near = dilate_mm(tumor, grid, max(reach_mm, 2 * max(grid.spacing_mm)))
    template = np.where(near, tumor - tumor[near].mean(), 0.0)
    lags = [np.arange(-int(reach_mm // spacing), int(reach_mm // spacing) + 1) for spacing in grid.spacing_zyx_mm]
    offsets = np.meshgrid(*lags, indexing="ij")
    squares = sum((lag * spacing) ** 2 for lag, spacing in zip(offsets, grid.spacing_zyx_mm, strict=True))
    likelihood = np.exp(-0.5 * squares / (PRIOR_REACHES * max(reach_mm, 1e-3)) ** 2)
    scores = np.abs(_correlation(template, smooth)[np.ix_(*lags)]) * likelihood
    best = np.unravel_index(int(np.argmax(scores)), scores.shape)
    shift = (int(lags[0][best[0]]), int(lags[1][best[1]]), int(lags[2][best[2]]))
    moved = np.roll(smooth, shift, axis=(0, 1, 2))
    fit = abs(float(np.corrcoef(moved[near], template[near])[0, 1])) if near.sum() > tumor.sum() else 1.0
    return shift, min(1.0, fit / GOOD_FIT)


def _correlation(template: NDArray[np.floating], values: FloatArray) -> NDArray[np.float64]:
    """Return the sum of the template times the values moved by each shift, (Z, Y, X), indexed by the shift."""
    spectrum = np.fft.rfftn(template) * np.conj(np.fft.rfftn(values))
    return np.asarray(np.fft.irfftn(spectrum, s=template.shape))


def _without_noise(change: FloatArray, tumor: BoolArray, grid: Grid) -> FloatArray:
    """Return the change smoothed inside and outside the tumor apart, so that its border stays sharp."""
    sigmas = [NOISE_SIGMA_MM / spacing for spacing in grid.spacing_zyx_mm]
    smooth = np.zeros_like(change)
    for part in (tumor, ~tumor):
        weight = ndimage.gaussian_filter(part.astype(np.float32), sigmas)
        mean = ndimage.gaussian_filter(np.where(part, change, 0.0).astype(np.float32), sigmas)
        smooth = np.where(part, mean / np.maximum(weight, 1e-6), smooth)
    return np.asarray(smooth, dtype=np.float32)
