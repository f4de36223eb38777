"""What a registration measures about its own result, and the verdict drawn from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from ..core.config import RegisterConfig, RegisterLimits
from ..core.grid import Grid, Volume, resample
from ..core.phases import Phase
from ..core.progress import Progress
from ..core.study import Mask, PhaseQA, StageQA, Verdict, worst
from .registration_features import cost_volume, mind_features
from .registration_region import sample_mask
from .registration_start import box_around, sample_with_coverage

WINDOW_HU = (-150.0, 250.0)
HISTOGRAM_BINS = 48
AIR_IN_LIVER_HU = -700.0
"""A liver voxel that lands below this lies in lung or in padding: its tissue is not in the moving volume."""
REACH_VOXELS = 3
"""The residual is searched within three voxels of 4 mm along each axis."""
MATCHED_MM = 4.0
LEAST_MASS = 0.3
"""Least part of a block that lies in the liver."""
LEAST_CONTRAST = 0.45
"""A block tells something when its best match is at least this much better than its typical one (fraction)."""

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Alignment:
    """One registered phase, as far as its judgment needs it.

    Args:
        reference: Reference CT.
        moving: The phase on its own grid.
        organ: Liver, or the guess of it, on the reference grid.
        region: The organ and its surroundings on the reference grid.
        tumor: Tumors on the reference grid, if known.
        transform: Point of reference -> point of moving.
    """

    reference: Volume
    moving: Volume
    organ: Mask
    region: Volume
    tumor: Mask | None
    transform: sitk.Transform


def judge(alignment: Alignment, found: Mask | None, config: RegisterConfig, progress: Progress) -> PhaseQA:
    """Measure a registered phase and give it a verdict.

    Args:
        alignment: What was aligned, and how.
        found: Liver of the moving phase on its own grid, when a model found it.
        config: Spacing and limits.
        progress: Checked between the measures.
    """
    grid = box_around(alignment.region, 16.0, config.spacing_mm)
    fixed, known = sample_with_coverage(alignment.reference, grid)
    after, covered = sample_with_coverage(alignment.moving, grid, alignment.transform)
    before, _ = sample_with_coverage(alignment.moving, grid)
    region, organ = (sample_mask(mask, grid) * known for mask in (alignment.region, alignment.organ.volume))
    measures = {
        "mutual_information_before": mutual_information(fixed, before, region > 0),
        "mutual_information_after": mutual_information(fixed, after, region > 0),
        "liver_outside_field_fraction": float(np.mean((after < AIR_IN_LIVER_HU)[organ > 0])),
    }
    progress.check()
    measures |= residual((fixed, after), organ * covered, covered, step_mm=2 * config.spacing_mm, progress=progress)
    measures |= _shape(alignment, grid, region)
    if found is not None:
        measures |= _overlap(alignment, found, grid)
    return _verdict(measures, config.limits)


def summarize(judged: Mapping[Phase, PhaseQA], doubt: str | None, reference_phase: Phase) -> StageQA:
    """Return the judgment of a study: the worst of its phases, and whether the reference phase is in doubt."""
    reasons = [f"{phase}: {reason}" for phase, qa in judged.items() for reason in qa.reasons]
    verdicts = [qa.verdict for qa in judged.values()]
    if doubt:
        verdicts.append(Verdict.REVIEW)
        reasons.append(f"{reference_phase}: {doubt}")
    return StageQA(worst(verdicts), 0.0, tuple(reasons), phases=judged)


def mutual_information(first: FloatArray, second: FloatArray, where: NDArray[np.bool_]) -> float:
    """Return the mutual information (nats) of two CTs within a region."""
    fixed, moving = (np.clip(array[where], *WINDOW_HU).astype(float) for array in (first, second))
    joint, _, _ = np.histogram2d(fixed, moving, bins=HISTOGRAM_BINS, range=[WINDOW_HU, WINDOW_HU])
    share = joint / max(1.0, joint.sum())
    expected = share.sum(axis=1, keepdims=True) * share.sum(axis=0, keepdims=True)
    filled = share > 0
    return float((share[filled] * np.log(share[filled] / expected[filled])).sum())


def residual(
    images: tuple[FloatArray, FloatArray],
    organ: FloatArray,
    covered: FloatArray,
    *,
    step_mm: float,
    progress: Progress,
) -> dict[str, float]:
    """Estimate how far structures still lie apart, by searching blocks of the reference in the aligned phase.

    Args:
        images: Reference and aligned CT on one isotropic grid, HU.
        organ: Where blocks are searched, 0 to 1.
        covered: Where the aligned CT has data, 0 or 1.
        step_mm: Step of the search, twice the spacing of the grid.
        progress: Updated while searching.

    Returns:
        ``residual_median_mm`` and ``residual_p95_mm`` over the blocks that tell something, ``matched_fraction`` (those
        within 4 mm), ``dissimilarity`` (0 for equal structures, 1 where an aligned block is no more alike than others).
    """
    features = [functional.avg_pool3d(mind_features(torch.from_numpy(image))[None], 2)[0] for image in images]
    weight, valid = (functional.avg_pool3d(torch.from_numpy(array)[None, None], 2)[0, 0] for array in (organ, covered))
    costs, mass, shifts = cost_volume((features[0], features[1]), weight, valid, REACH_VOXELS, progress)
    flat = costs.flatten(1)[:, mass.flatten() > LEAST_MASS]
    typical = flat.median(dim=0).values + 1e-6
    tells = 1 - flat.min(dim=0).values / typical > LEAST_CONTRAST
    if not bool(tells.any()):
        return {"matched_fraction": 0.0, "dissimilarity": 1.0}
    distance = _best_shift(flat[:, tells], shifts).norm(dim=0) * step_mm
    aligned = flat[len(shifts) // 2]
    return {
        "residual_median_mm": float(distance.median()),
        "residual_p95_mm": float(distance.quantile(0.95)),
        "matched_fraction": float((distance <= MATCHED_MM).float().mean()),
        "dissimilarity": float((aligned / typical)[tells].mean()),
    }


def _best_shift(costs: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """Return the shift (3, N) of least cost, (S, N) each, to a fraction of a voxel by a parabola along each axis."""
    edge = 2 * REACH_VOXELS + 1
    best = costs.argmin(dim=0)
    found = []
    for axis, step in enumerate((1, edge, edge * edge)):  # x changes fastest
        inside = shifts[best, axis].abs() < REACH_VOXELS
        below, above = (costs.gather(0, (best + s * inside)[None])[0] for s in (-step, step))
        least = costs.gather(0, best[None])[0]
        found.append(shifts[best, axis] + 0.5 * (below - above) / (below - 2 * least + above + 1e-6))
    return torch.stack(found)


def _shape(alignment: Alignment, grid: Grid, region: FloatArray) -> dict[str, float]:
    """How the transform changes volumes: smallest Jacobian, folding, volume change of the tumors."""
    jacobian = _jacobian(alignment, grid)
    measures = {
        "jacobian_min": float(jacobian[region > 0].min()),
        "folding_fraction": float(np.mean(jacobian[region > 0] <= 0)),
    }
    if alignment.tumor is not None:
        tumor = sample_mask(alignment.tumor.volume, grid)
        if tumor.sum() > 0:
            measures["tumor_volume_change"] = float((jacobian * tumor).sum() / tumor.sum() - 1)
    return measures


def _jacobian(alignment: Alignment, grid: Grid) -> FloatArray:
    """Determinant of the transform's gradient at every voxel of an isotropic grid."""
    field = sitk.TransformToDisplacementField(
        alignment.transform, sitk.sitkVectorFloat64, grid.size, grid.origin_mm, grid.spacing_mm, grid.direction
    )
    return np.asarray(sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field)), dtype=np.float32)


def _overlap(alignment: Alignment, found: Mask, grid: Grid) -> dict[str, float]:
    """Dice and HD95 of the moving phase's liver with the reference's, before and after."""
    liver = sample_mask(alignment.organ.volume, grid) > 0.5
    values = np.asarray(found.volume.array, dtype=np.float32)
    moving = Volume(values, found.volume.grid)
    measures = {}
    for name, transform in (("before", None), ("after", alignment.transform)):
        other = np.asarray(resample(moving, grid, transform=transform).array) > 0.5
        total = int(liver.sum() + other.sum())
        measures[f"liver_dice_{name}"] = 2.0 * int((liver & other).sum()) / total if total else 1.0
        measures[f"liver_hd95_{name}_mm"] = _hd95(liver, other, grid)
    return measures


def _hd95(first: NDArray[np.bool_], second: NDArray[np.bool_], grid: Grid) -> float:
    if not (first.any() and second.any()):
        return grid.diagonal_mm
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (first, second)]
    distances = [ndimage.distance_transform_edt(~surface, sampling=grid.spacing_zyx_mm) for surface in surfaces]
    both = np.concatenate([distances[1][surfaces[0]], distances[0][surfaces[1]]])
    return float(np.percentile(both, 95))


def _verdict(measures: dict[str, float], limits: RegisterLimits) -> PhaseQA:
    """Return the judgment: the worst of all limits that a measure crosses, each with its reason."""
    crossed = list(_crossed(measures, limits))
    reasons = tuple(reason for _, reason in crossed)
    return PhaseQA(
        worst([verdict for verdict, _ in crossed]), reasons, {name: round(value, 4) for name, value in measures.items()}
    )


def _crossed(measures: dict[str, float], limits: RegisterLimits) -> Iterator[tuple[Verdict, str]]:
    rules = (
        ("matched_fraction", limits.matched_fraction, -1, "Structures that found their match within 4 mm"),
        ("residual_p95_mm", limits.residual_p95_mm, 1, "95 % of the structures' remaining distance in mm"),
        ("dissimilarity", limits.dissimilarity, 1, "Structures that resemble their place no more than others do"),
        ("liver_outside_field_fraction", limits.outside_fraction, 1, "Part of the liver without data in this phase"),
        ("folding_fraction", limits.folding_fraction, 1, "Part of the region that is folded"),
        ("tumor_volume_change", limits.tumor_volume_change, 1, "Change of the tumors' volume"),
        ("liver_dice_after", limits.liver_dice, -1, "Dice of the livers after registration"),
    )
    for name, (review, reject), sign, text in rules:
        value = abs(measures[name]) if name in measures else None
        if value is None:
            continue
        for verdict, limit in ((Verdict.REJECT, reject), (Verdict.REVIEW, review)):
            if sign * value > sign * limit:
                yield verdict, f"{text}: {value:.3g} (limit {limit:g})"
                break
