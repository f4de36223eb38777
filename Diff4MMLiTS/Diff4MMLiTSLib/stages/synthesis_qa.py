"""The gate of stage 3: what a synthetic pair must show before it is accepted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..core.enhancement import TumorFamily, family_of
from ..core.grid import Grid, Volume
from ..core.parenchyma import compare_texture, parenchyma_voxels
from ..core.phases import Phase
from ..core.study import PhaseQA, StageQA, Verdict
from ..core.tumor_mask import box_around, distance_mm

SHELL_MM = 15.0
"""Parenchyma within this distance of the mask is what the tumor is seen against."""
VISIBLE_HU = 10.0
"""Least contrast of a tumor, and least mean change that it makes: radiologists see about 10 HU in large lesions."""
PLAUSIBLE_HU = (-60.0, 300.0)
"""Liver tumors hold neither air nor bone; fat in an adenoma goes down to about -50 HU."""
LEAST_STD_RATIO = 0.6
"""Deviation against that of the parenchyma, below which a tumor is flat."""

BoolArray = NDArray[np.bool_]


def check_pair(
    normal: Mapping[Phase, Volume],
    grown: Mapping[Phase, Volume],
    mask: BoolArray,
    liver: BoolArray,
    *,
    family: TumorFamily | None,
) -> StageQA:
    """Measure a synthetic tumor against the parenchyma around it.

    Args:
        normal: Phases without the tumor.
        grown: Phases with it, on the same grid.
        mask: The tumor, (Z, Y, X).
        liver: (Z, Y, X).
        family: The kind of tumor that was asked for.

    Returns:
        Verdict ``pass`` without reasons, else ``review``; ``reject`` when the tumor is seen in no phase. Without time.
    """
    grid = next(iter(grown.values())).grid
    box = box_around(mask, grid, SHELL_MM)
    shell = liver[box] & (distance_mm(mask, grid, SHELL_MM)[box] <= SHELL_MM) & ~mask[box]
    phases = {
        phase: _check_phase(normal[phase].array[box], volume.array[box], mask[box], shell, grid)
        for phase, volume in grown.items()
    }
    contrast = {phase: found.measures["contrast_hu"] for phase, found in phases.items()}
    reasons = [f"{phase}: {reason}" for phase, found in phases.items() for reason in found.reasons]
    is_visible = any(
        min(abs(found.measures["contrast_hu"]), abs(found.measures["change_hu"])) >= VISIBLE_HU
        for found in phases.values()
    )
    if not is_visible:
        reasons.append("the tumor is seen in no phase")
    levels = {phase: found.measures["parenchyma_hu"] for phase, found in phases.items()}
    shown = family_of({phase: levels[phase] + contrast[phase] for phase in levels}, levels)
    if family is not None and shown is not family:
        reasons.append(f"it enhances like {shown}, not like {family}")
    verdict = Verdict.REJECT if not is_visible else Verdict.REVIEW if reasons else Verdict.PASS
    return StageQA(
        verdict,
        0.0,
        tuple(reasons),
        phases=phases,
        measures={"tumor_ml": float(mask.sum()) * grid.voxel_ml},
        notes={"family": str(shown)},
    )


def _check_phase(
    normal: NDArray[np.generic], grown: NDArray[np.generic], mask: BoolArray, shell: BoolArray, grid: Grid
) -> PhaseQA:
    before, after = (np.asarray(values, dtype=np.float32) for values in (normal, grown))
    parenchyma = parenchyma_voxels(before, shell, grid.spacing_zyx_mm)
    if not parenchyma.any():
        parenchyma = shell if shell.any() else mask
    level = float(np.median(before[parenchyma]))
    texture = compare_texture(after, mask, parenchyma, grid.spacing_zyx_mm)
    contrast = float(np.median(after[mask])) - level
    reasons = []
    if not PLAUSIBLE_HU[0] <= level + contrast <= PLAUSIBLE_HU[1]:
        reasons.append(f"{level + contrast:.0f} HU is no liver tumor")
    if texture.std_ratio < LEAST_STD_RATIO:
        reasons.append(f"the tumor is flat ({texture.std_ratio:.2f} times the deviation of the parenchyma)")
    change = float((after - before)[mask].mean())  # noise gives a tiny mask a contrast, but no change
    measures = {"contrast_hu": contrast, "change_hu": change, "parenchyma_hu": level, "std_ratio": texture.std_ratio}
    return PhaseQA(Verdict.REVIEW if reasons else Verdict.PASS, tuple(reasons), measures)
