"""What stage 2 measures about its own result: the fill against the patient's own parenchyma around it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..core.grid import Grid, Volume
from ..core.parenchyma import compare_texture, parenchyma_voxels, seam_ratio
from ..core.phases import Phase
from ..core.study import PhaseQA, RegisteredStudy, StageQA, Verdict, worst
from ..core.tumor_mask import box_around, distance_mm

SHELL_MM = 20.0
"""Parenchyma within this distance of the fill is its neighborhood."""
REVIEW_RESIDUAL_HU, REJECT_RESIDUAL_HU = 8.0, 25.0
"""Perfusion differs by about 8 HU between liver segments; 25 HU is a visible lesion."""
STD_RATIO_RANGE = (0.7, 1.3)
LARGEST_CORRELATION_DIFFERENCE = 0.15
"""Of neighboring voxels; it is about 0.5 in CT noise, so this is 30 %."""
LARGEST_SPECTRUM_DIFFERENCE = 0.5
LARGEST_SEAM = 1.3
TUMOR_PROBABILITY = 0.5
LEFT_FRACTION = 0.1
"""A segmenter that still sees this part of the tumor calls for a look; half of it, and the tumor is still there."""

BoolArray = NDArray[np.bool_]
TumorProbability = Callable[[RegisteredStudy], Volume]
"""A segmenter: the probability of tumor, 0 to 255, on the study's grid."""


def check_fill(
    before: Mapping[Phase, Volume],
    after: Mapping[Phase, Volume],
    *,
    region: BoolArray,
    liver: BoolArray,
    rejected: Iterable[Phase],
) -> StageQA:
    """Measure a fill in every phase.

    Args:
        before: The phases as they were, on one grid.
        after: The same phases, filled.
        region: What was filled, (Z, Y, X).
        liver: Liver, (Z, Y, X); its outermost voxels, half fat, are not measured.
        rejected: Phases that were left out because registration rejected them.

    Returns:
        The result without its time.
    """
    reasons = tuple(f"{phase} was left out: its registration was rejected" for phase in sorted(rejected))
    if not region.any():
        return StageQA(Verdict.PASS, 0.0, reasons)
    grid = next(iter(after.values())).grid
    box = box_around(region, grid, SHELL_MM)
    interior = ndimage.binary_erosion(liver[box])
    filled = region[box] & (interior if (region[box] & interior).any() else True)
    shell = interior & ~region[box] & (distance_mm(region, grid, SHELL_MM)[box] <= SHELL_MM)
    checked = {}
    for phase, volume in after.items():
        found = _check_phase(np.asarray(volume.array[box], dtype=np.float32), filled, shell, grid)
        changed = int(np.count_nonzero((before[phase].array != volume.array) & ~region))
        checked[phase] = _with_identity(found, changed)
    verdict = worst([phase.verdict for phase in checked.values()] + [Verdict.REVIEW for _ in reasons])
    measures = {"filled_ml": float(region.sum()) * grid.voxel_ml}
    return StageQA(verdict, 0.0, reasons, phases=checked, measures=measures)


def check_tumor_gone(
    quality: StageQA, before: RegisteredStudy, after: RegisteredStudy, segmenter: TumorProbability
) -> StageQA:
    """Ask a segmenter whether it still sees a tumor where one was.

    Args:
        quality: What was measured so far.
        before: With its tumor mask.
        after: Inpainted.
        segmenter: Sees each of them as it is.

    Returns:
        ``quality`` with the volume inside the tumor mask that the segmenter calls tumor, before and after, the mean
        probability after, and the verdict that follows.
    """
    assert before.tumor_mask is not None  # there is nothing to inpaint without one
    tumor = before.tumor_mask.array
    values = [np.asarray(segmenter(study).array, dtype=np.float32)[tumor] / 255 for study in (before, after)]
    seen, left = (float((value > TUMOR_PROBABILITY).sum()) * before.grid.voxel_ml for value in values)
    measures = {
        "tumor_seen_before_ml": seen,
        "tumor_seen_after_ml": left,
        "tumor_probability_after": float(values[1].mean()) if values[1].size else 0.0,
    }
    size_ml = float(tumor.sum()) * before.grid.voxel_ml
    quality = replace(quality, measures={**quality.measures, **measures})
    if seen < LEFT_FRACTION * size_ml:
        note = "the segmenter did not see the tumor before either: it cannot say that the tumor is gone"
        return replace(quality, notes={**quality.notes, "segmenter": note})
    if left <= LEFT_FRACTION * size_ml:
        return quality
    reason = f"the segmenter still sees {left:.1f} ml of the tumor's {size_ml:.1f} ml"
    verdict = Verdict.REJECT if left > 0.5 * size_ml else Verdict.REVIEW
    return replace(quality, verdict=worst([quality.verdict, verdict]), reasons=(*quality.reasons, reason))


def _check_phase(values: NDArray[np.float32], region: BoolArray, shell: BoolArray, grid: Grid) -> PhaseQA:
    parenchyma = parenchyma_voxels(values, shell, grid.spacing_zyx_mm)
    if not parenchyma.any():
        return PhaseQA(Verdict.REVIEW, ("no known parenchyma around the fill",))
    alike = parenchyma_voxels(values, region | parenchyma, grid.spacing_zyx_mm) & region  # no vessel, no surface
    texture = compare_texture(values, alike if alike.any() else region, parenchyma, grid.spacing_zyx_mm)
    measures = {
        "residual_hu": float(np.median(values[region]) - np.median(values[parenchyma])),
        "parenchyma_fraction": float(alike.sum() / region.sum()),
        "std_ratio": texture.std_ratio,
        "correlation_difference": texture.correlation_difference,
        "spectrum_difference": texture.spectrum_difference,
        "seam_ratio": seam_ratio(values, region, parenchyma),
    }
    reasons = _complaints(measures)
    is_lesion = abs(measures["residual_hu"]) > REJECT_RESIDUAL_HU
    verdict = Verdict.REJECT if is_lesion else Verdict.REVIEW if reasons else Verdict.PASS
    return PhaseQA(verdict, reasons, measures)


def _complaints(measures: Mapping[str, float]) -> tuple[str, ...]:
    """Return what is wrong, one sentence each."""
    residual_hu, ratio, seam = (measures[name] for name in ("residual_hu", "std_ratio", "seam_ratio"))
    correlation, spectrum = measures["correlation_difference"], measures["spectrum_difference"]
    rules = (
        (
            abs(residual_hu) > REVIEW_RESIDUAL_HU,
            f"the fill differs by {residual_hu:.0f} HU from the parenchyma around it",
        ),
        (
            not STD_RATIO_RANGE[0] <= ratio <= STD_RATIO_RANGE[1],
            f"its deviation is {ratio:.2f} times that of the parenchyma",
        ),
        (
            abs(correlation) > LARGEST_CORRELATION_DIFFERENCE,
            f"its neighboring voxels correlate by {correlation:+.2f} more than those of the parenchyma",
        ),
        (spectrum > LARGEST_SPECTRUM_DIFFERENCE, f"its power spectrum is another one ({spectrum:.2f})"),
        (seam > LARGEST_SEAM, f"steps at its border are {seam:.2f} times those in the parenchyma"),
    )
    return tuple(reason for wrong, reason in rules if wrong)


def _with_identity(found: PhaseQA, changed: int) -> PhaseQA:
    """Return the measures of a phase with the number of known voxels that changed, of which there must be none."""
    found = replace(found, measures={**found.measures, "changed_known_voxels": float(changed)})
    if not changed:
        return found
    return replace(
        found, verdict=Verdict.REJECT, reasons=(*found.reasons, f"{changed} voxels outside the region have changed")
    )
