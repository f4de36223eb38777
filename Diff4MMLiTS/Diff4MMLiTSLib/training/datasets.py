"""Studies as training sees them: on one upright, isotropic grid, in memory, checked for what may be learned from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..core.errors import InputError
from ..core.grid import Grid, Volume, resample
from ..core.lesions import TOUCHING
from ..core.phases import ALL_PHASES, Phase
from ..core.study import Mask, MaskSource, RegisteredStudy, Verdict, rejected_phases, source_study_of

AIR_HU = -1000.0
"""Value outside the scanned field."""
REACH = 2.5
"""Standard deviations at which the smoothing ends."""
FIRST_HELD_OUT_SEED = 1000
"""Phantoms from this seed on are for validation and testing only."""

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class WorkingStudy:
    """A study on the working grid.

    Args:
        study_id: Its name.
        phases: CT values (P, Z, Y, X), float32, HU, in the order of ``Phase``; 0 where a phase is missing.
        presence: 1 where a phase is there, else 0, (P,), float32.
        liver: Liver, tumors included, (Z, Y, X).
        tumor: Tumors, (Z, Y, X); all False in a tumor-free study.
        grid: The lattice of the arrays.
        synthetic: Whether it was made by a generative model.
        reference_phase: The phase that the labels were drawn on.
        source_study: The patient's study that a synthetic one was made from; empty for a real one.
    """

    study_id: str
    phases: FloatArray
    presence: FloatArray
    liver: BoolArray
    tumor: BoolArray
    grid: Grid
    synthetic: bool = False
    reference_phase: Phase = Phase.PVP
    source_study: str = ""

    @property
    def origin(self) -> str:
        """Id of the study that this is, or was made from: outside a synthetic tumor they are the same voxels."""
        return self.source_study or self.study_id

    @cached_property
    def lesions(self) -> tuple[NDArray[np.int64], ...]:
        """Voxel indices (N, 3), z, y, x, of each connected component of the tumor mask."""
        labels, count = ndimage.label(self.tumor, structure=TOUCHING)
        return tuple(np.argwhere(labels == index + 1) for index in range(count))

    @cached_property
    def liver_voxels(self) -> NDArray[np.int64]:
        """Flat indices of the liver's voxels, (N,)."""
        return np.flatnonzero(self.liver)


@dataclass(frozen=True)
class Standing:
    """What of a labeled study decides whether it may be learned from.

    Args:
        study_id: Its name.
        model_masks: Whether a model drew one of its masks.
        phantom_seed: The highest seed of the phantoms it was made from, None for none.
    """

    study_id: str
    model_masks: bool
    phantom_seed: int | None


def is_rejected_pair(study: RegisteredStudy) -> bool:
    """Return whether a synthetic study was found bad by the check of its own making."""
    qa = study.qa.get("synthesize")
    return qa is not None and qa.verdict is Verdict.REJECT


def check_usable(study: RegisteredStudy, *, training: bool, allow_model_masks: bool = False) -> RegisteredStudy:
    """Return a study that may be used for training (or validation).

    Raises:
        InputError: Liver or tumor unknown, masks drawn by a model, or a held-out phantom.
    """
    if study.liver is None or study.tumor is None:
        unknown = "liver" if study.liver is None else "tumor"
        raise InputError(
            f"Study '{study.study_id}' has no {unknown} mask",
            expected='both masks, or "tumor": null for a study declared free of tumor',
        )
    check_allowed(standing_of(study), training=training, allow_model_masks=allow_model_masks)
    return study


def check_no_leak(
    training: Iterable[WorkingStudy], validation: Iterable[WorkingStudy], made_from: Iterable[str] = ()
) -> None:
    """Refuse studies that are learned from and measured on; a synthetic one counts as the study it was made from.

    Args:
        training: Studies to learn from.
        validation: Studies that are only measured.
        made_from: Ids of studies that more training studies are made from.

    Raises:
        InputError: One is in both.
    """
    learned = {study.origin for study in training} | set(made_from)
    if shared := learned & {study.origin for study in validation}:
        raise InputError(
            f"Study '{min(shared)}' is in training and validation",
            expected="different studies; a synthetic one counts as the study that it was made from",
        )


def standing_of(study: RegisteredStudy) -> Standing:
    """Return what decides whether a study may be learned from."""
    masks = [mask for mask in (study.liver, study.tumor) if isinstance(mask, Mask)]
    seeds = [entry.seed for entry in study.history if entry.stage == "phantom" and entry.seed is not None]
    return Standing(
        study.study_id,
        model_masks=any(mask.source is MaskSource.MODEL for mask in masks),
        phantom_seed=max(seeds, default=None),
    )


def check_allowed(standing: Standing, *, training: bool, allow_model_masks: bool) -> None:
    """Refuse masks drawn by a model and held-out phantoms.

    Raises:
        InputError: As ``check_usable``, whose labels are there.
    """
    name, seed = f"Study '{standing.study_id}'", standing.phantom_seed
    if standing.model_masks and not allow_model_masks:
        raise InputError(
            f"{name} has a mask drawn by a model",
            expected="masks drawn by people, or of phantoms and synthetic tumors",
            remedy="Correct the mask by hand, or allow masks of models (allow_model_masks)",
        )
    if training and seed is not None and seed >= FIRST_HELD_OUT_SEED:
        raise InputError(
            f"{name} is a phantom of seed {seed}, held out for validation",
            expected=f"phantom seeds below {FIRST_HELD_OUT_SEED} for training",
        )


def to_working_study(study: RegisteredStudy, *, spacing_mm: float, margin_mm: float | None) -> WorkingStudy:
    """Return a labeled study on the working grid, cropped to its liver.

    Args:
        study: With a liver mask; without a tumor mask it counts as free of tumor.
        spacing_mm: Spacing of the working grid, isotropic.
        margin_mm: How much around the liver is kept; None keeps everything.

    Raises:
        InputError: No liver mask, or an empty one.
    """
    if study.liver is None or not study.liver.array.any():
        raise InputError(f"The liver mask of study '{study.study_id}' is missing or empty", expected="a liver")
    grid = working_grid(study.grid, spacing_mm)
    liver = resample(study.liver.volume, grid, linear=False)
    if margin_mm is not None:
        grid = _liver_box(np.asarray(liver.array) > 0, grid, margin_mm)
        liver = resample(study.liver.volume, grid, linear=False)
    inside = np.asarray(liver.array) > 0
    tumor = np.zeros(grid.shape, dtype=bool)
    if study.tumor_mask is not None:
        tumor = np.asarray(resample(study.tumor_mask.volume, grid, linear=False).array) > 0
    phases, presence = stack_on(study, grid)
    return WorkingStudy(
        study_id=study.study_id,
        phases=phases,
        presence=presence,
        liver=inside | tumor,
        tumor=tumor,
        grid=grid,
        synthetic=study.synthetic,
        reference_phase=study.reference_phase,
        source_study=source_study_of(study),
    )


def working_grid(grid: Grid, spacing_mm: float) -> Grid:
    """Return the upright isotropic grid that covers another grid.

    Networks see every study in the same orientation (axes along LPS), however it is stored.

    Args:
        grid: Any grid: flipped, oblique, anisotropic.
        spacing_mm: Spacing of the result.
    """
    corners = grid.corners()
    low, high = corners.min(axis=0), corners.max(axis=0)
    size = np.maximum(1, np.ceil((high - low) / spacing_mm - 1e-3)).astype(int)
    origin = low + spacing_mm / 2
    x, y, z = (int(value) for value in size)
    return Grid((x, y, z), (spacing_mm,) * 3, (float(origin[0]), float(origin[1]), float(origin[2])))


def stack_on(study: RegisteredStudy, grid: Grid) -> tuple[FloatArray, FloatArray]:
    """Return all phases on another grid, without those that registration rejected.

    Returns:
        CT values (P, Z, Y, X), float32, HU, 0 where a phase is missing and air outside the scanned field;
        presence flags (P,), float32.
    """
    rejected = rejected_phases(study)
    phases = np.zeros((len(ALL_PHASES), *grid.shape), dtype=np.float32)
    presence = np.zeros(len(ALL_PHASES), dtype=np.float32)
    for index, phase in enumerate(ALL_PHASES):
        if phase in study.phases and phase not in rejected:
            phases[index] = downsample(study.phases[phase], grid).array
            presence[index] = 1.0
    return phases, presence


def downsample(volume: Volume, grid: Grid) -> Volume:
    """Sample a CT volume on another grid, averaging over the larger voxels first, so that noise is not aliased.

    Only the part of the volume that the grid needs is looked at.
    """
    volume = _block_averaged(_cropped_to(volume, grid), min(grid.spacing_mm))
    sigmas = _smoothing(volume.grid, min(grid.spacing_mm))
    array = np.asarray(volume.array, dtype=np.float32)
    if max(sigmas) > 0.1:
        array = ndimage.gaussian_filter(array, sigmas, truncate=REACH)
    return resample(Volume(array, volume.grid), grid, outside=AIR_HU)


def _smoothing(grid: Grid, spacing_mm: float) -> list[float]:
    """Return the standard deviations, in voxels along z, y, x, of what larger voxels average."""
    ratios = [spacing_mm / spacing for spacing in grid.spacing_zyx_mm]
    # A Gaussian of half a voxel of the new grid, less what the old voxels already average.
    return [0.5 * float(np.sqrt(max(0.0, ratio**2 - 1.0))) for ratio in ratios]


def _cropped_to(volume: Volume, grid: Grid) -> Volume:
    """Return the part of a volume that has an influence on its samples on a grid."""
    index = volume.grid.to_index(grid.corners())
    reach = REACH * np.array(_smoothing(volume.grid, min(grid.spacing_mm))[::-1]) + 2
    size = np.array(volume.grid.size)
    low = np.clip(np.floor(index.min(axis=0) - reach), 0, size - 1).astype(int)
    high = np.clip(np.ceil(index.max(axis=0) + reach) + 1, low + 1, size).astype(int)
    if not low.any() and (high == size).all():
        return volume
    box = tuple(slice(int(a), int(b)) for a, b in zip(low[::-1], high[::-1], strict=True))
    x, y, z = (int(value) for value in low)
    width, height, depth = (int(value) for value in high - low)
    return Volume(np.asarray(volume.array)[box], volume.grid.cropped((x, y, z), (width, height, depth)))


def _block_averaged(volume: Volume, spacing_mm: float) -> Volume:
    """Return a volume averaged over blocks of at most half the new spacing: the bulk of the work, done fast."""
    blocks = [max(1, int(spacing_mm / spacing / 2)) for spacing in volume.grid.spacing_zyx_mm]
    if max(blocks) == 1:
        return volume
    array = np.asarray(volume.array)
    missing = [(0, -size % block) for size, block in zip(array.shape, blocks, strict=True)]
    if np.any(missing):
        array = np.pad(array, missing, mode="edge")
    for axis, block in enumerate(blocks):
        if block == 1:
            continue
        array = np.moveaxis(array, axis, 0)
        parts = [array[start::block].astype(np.float32) for start in range(block)]
        array = np.moveaxis(sum(parts[1:], start=parts[0]) / np.float32(block), 0, axis)
    x, y, z = (int(block) for block in blocks[::-1])
    spacing = volume.grid.spacing_mm
    origin = volume.grid.to_world((np.array([x, y, z]) - 1) / 2)
    grid = Grid(
        (array.shape[2], array.shape[1], array.shape[0]),
        (spacing[0] * x, spacing[1] * y, spacing[2] * z),
        (float(origin[0]), float(origin[1]), float(origin[2])),
        volume.grid.direction,
    )
    return Volume(array, grid)


def stack_working(study: WorkingStudy, grid: Grid) -> tuple[FloatArray, FloatArray]:
    """Return the phases of a working study on another upright grid; see ``stack_on``."""
    phases = np.zeros((len(study.phases), *grid.shape), dtype=np.float32)
    for index in np.flatnonzero(study.presence):
        phases[index] = downsample(Volume(study.phases[index], study.grid), grid).array
    return phases, study.presence


def coarser(study: WorkingStudy, factor: float) -> WorkingStudy:
    """Return a study with voxels ``factor`` times as large."""
    grid = working_grid(study.grid, factor * min(study.grid.spacing_mm))
    liver, tumor = (
        np.asarray(resample(Volume(mask.astype(np.float32), study.grid), grid).array) >= 0.5
        for mask in (study.liver, study.tumor)
    )
    return replace(study, phases=stack_working(study, grid)[0], liver=liver, tumor=tumor, grid=grid)


def data_hash(studies: Iterable[WorkingStudy]) -> str:
    """Return the SHA-256 over what networks learn from: ids, voxels and labels, whatever the order of the studies."""
    digests = []
    for study in studies:
        digest = hashlib.sha256(study.study_id.encode())
        for array in (study.phases, study.presence, study.liver, study.tumor):
            digest.update(np.ascontiguousarray(array).data)
        digests.append(digest.digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def _liver_box(liver: BoolArray, grid: Grid, margin_mm: float) -> Grid:
    occupied = np.argwhere(liver)
    margin = int(np.ceil(margin_mm / min(grid.spacing_mm)))
    low = np.maximum(occupied.min(axis=0) - margin, 0)
    high = np.minimum(occupied.max(axis=0) + 1 + margin, grid.shape)
    start, size = low[::-1], (high - low)[::-1]
    return grid.cropped((int(start[0]), int(start[1]), int(start[2])), (int(size[0]), int(size[1]), int(size[2])))
