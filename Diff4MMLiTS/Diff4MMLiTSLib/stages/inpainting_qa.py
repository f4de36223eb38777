"""What stage 2 measures about its own result: the fill against the patient's own parenchyma around it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..core.grid import Grid, Volume
from ..core.parenchyma import compare_texture, parenchyma_voxels, seam_ratio
from ..core.phases import Phase
from ..core.study import PhaseQA, StageQA, Verdict, worst
from ..core.tumor_mask import box_around, distance_mm

SHELL_MM = 20.0
"""Parenchyma within this distance of the fill is its neighborhood."""
REVIEW_RESIDUAL_HU, REJECT_RESIDUAL_HU = 8.0, 25.0
"""Perfusion differs by about 8 HU between liver segments; 25 HU is a visible lesion."""
STD_RATIO_RANGE = (0.7, 1.3)
LARGEST_SEAM = 1.3

BoolArray = NDArray[np.bool_]


def check_fill(
    phases: Mapping[Phase, Volume], region: BoolArray, liver: BoolArray, *, rejected: Iterable[Phase]
) -> StageQA:
    """Measure a fill in every phase.

    Args:
        phases: The filled phases, on one grid.
        region: What was filled, (Z, Y, X).
        liver: Liver, (Z, Y, X); its outermost voxels, half fat, are not measured.
        rejected: Phases that were left out because registration rejected them.

    Returns:
        The result without its time.
    """
    reasons = tuple(f"{phase} was left out: its registration was rejected" for phase in sorted(rejected))
    if not region.any():
        return StageQA(Verdict.PASS, 0.0, reasons)
    grid = next(iter(phases.values())).grid
    box = box_around(region, grid, SHELL_MM)
    interior = ndimage.binary_erosion(liver[box])
    filled = region[box] & (interior if (region[box] & interior).any() else True)
    shell = interior & ~region[box] & (distance_mm(region, grid, SHELL_MM)[box] <= SHELL_MM)
    checked = {
        phase: _check_phase(np.asarray(volume.array[box], dtype=np.float32), filled, shell, grid)
        for phase, volume in phases.items()
    }
    verdict = worst([phase.verdict for phase in checked.values()] + [Verdict.REVIEW for _ in reasons])
    measures = {"filled_ml": float(region.sum()) * grid.voxel_ml}
    return StageQA(verdict, 0.0, reasons, phases=checked, measures=measures)


def _check_phase(values: NDArray[np.float32], region: BoolArray, shell: BoolArray, grid: Grid) -> PhaseQA:
    parenchyma = parenchyma_voxels(values, shell, grid.spacing_zyx_mm)
    if not parenchyma.any():
        return PhaseQA(Verdict.REVIEW, ("no known parenchyma around the fill",))
    residual_hu = float(np.median(values[region]) - np.median(values[parenchyma]))
    alike = parenchyma_voxels(values, region | parenchyma, grid.spacing_zyx_mm) & region  # no vessel, no surface
    texture = compare_texture(values, alike if alike.any() else region, parenchyma, grid.spacing_zyx_mm)
    seam = seam_ratio(values, region, parenchyma)
    reasons = []
    if abs(residual_hu) > REVIEW_RESIDUAL_HU:
        reasons.append(f"the fill differs by {residual_hu:.0f} HU from the parenchyma around it")
    if not STD_RATIO_RANGE[0] <= texture.std_ratio <= STD_RATIO_RANGE[1]:
        reasons.append(f"its deviation is {texture.std_ratio:.2f} times that of the parenchyma")
    if seam > LARGEST_SEAM:
        reasons.append(f"steps at its border are {seam:.2f} times those in the parenchyma")
    is_lesion = abs(residual_hu) > REJECT_RESIDUAL_HU
    verdict = Verdict.REJECT if is_lesion else Verdict.REVIEW if reasons else Verdict.PASS
    measures = {
        "residual_hu": residual_hu,
        "parenchyma_fraction": float(alike.sum() / region.sum()),
        "std_ratio": texture.std_ratio,
        "correlation_difference": texture.correlation_difference,
        "seam_ratio": seam,
    }
    return PhaseQA(verdict, tuple(reasons), measures)
