"""The gate of stage 3: what a synthetic pair must show before it is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..core.enhancement import TumorFamily, core_of, family_of, tells_families
from ..core.grid import Grid, Volume
from ..core.known_lesions import CELL_MM, CELLS, KnownLesions
from ..core.lesions import TOUCHING
from ..core.parenchyma import compare_texture, parenchyma_voxels, seam_ratio
from ..core.phases import ALL_PHASES, Phase
from ..core.study import PhaseQA, StageQA, Verdict
from ..core.tumor_mask import box_around, cropped_grid, distance_mm

SHELL_MM = 15.0
"""Parenchyma within this distance of the mask is what the tumor is seen against."""
VISIBLE_HU = 10.0
"""Least contrast of a tumor, and least mean change that it makes: radiologists see about 10 HU in large lesions."""
PLAUSIBLE_HU = (-60.0, 300.0)
"""Liver tumors hold neither air nor bone; fat in an adenoma goes down to about -50 HU."""
LEAST_STD_RATIO = 0.6
"""Deviation against that of the parenchyma, below which a tumor is flat."""

LARGEST_SEAM = 1.3
"""As the gate of stage 2."""
COPY_REACH_MM = CELL_MM * CELLS / 2
"""So far around a tumor its description looks."""

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Expected:
    """What a synthetic tumor shall be like.

    Args:
        family: The kind of tumor that it was drawn as; None when the model knows of none.
        known: The lesions that the model has learned from.
        band_mm: Distance from the mask at which the synthetic part has faded out.
    """

    family: TumorFamily | None
    known: KnownLesions
    band_mm: float


def check_pair(
    normal: Mapping[Phase, Volume],
    grown: Mapping[Phase, Volume],
    mask: BoolArray,
    liver: BoolArray,
    *,
    expected: Expected,
) -> StageQA:
    """Measure a synthetic tumor against the parenchyma around it and the lesions that were learned from.

    Args:
        normal: Phases without the tumor.
        grown: Phases with it, on the same grid.
        mask: The tumor, (Z, Y, X).
        liver: (Z, Y, X).
        expected: What it shall be like.

    Returns:
        Verdict ``pass`` without reasons, else ``review``; ``reject`` when the tumor is seen in no phase. Without time.
    """
    grid = next(iter(grown.values())).grid
    box = box_around(mask, grid, SHELL_MM + expected.band_mm)
    distance = distance_mm(mask, grid, SHELL_MM + expected.band_mm)[box]
    regions = _Regions(mask[box], liver[box], distance, expected.band_mm)
    phases = {
        phase: _check_phase(normal[phase].array[box], volume.array[box], regions, grid)
        for phase, volume in grown.items()
    }
    reasons = [f"{phase}: {reason}" for phase, found in phases.items() for reason in found.reasons]
    is_visible = any(
        min(abs(found.measures["contrast_hu"]), abs(found.measures["change_hu"])) >= VISIBLE_HU
        for found in phases.values()
    )
    if not is_visible:
        reasons.append("the tumor is seen in no phase")
    shown, wrong = _check_family(phases, expected)
    copied = _check_copy(normal, grown, mask, expected.known)
    reasons += [*wrong, *copied.reasons]
    return StageQA(
        Verdict.REJECT if not is_visible else Verdict.REVIEW if reasons else Verdict.PASS,
        0.0,
        tuple(reasons),
        phases=phases,
        measures={"tumor_ml": float(mask.sum()) * grid.voxel_ml, **copied.measures},
        notes={"family": str(shown), "drawn_as": str(expected.family or "unknown")},
    )


@dataclass(frozen=True, eq=False)
class _Regions:
    """Where a phase is measured: tumor, liver, distance to the tumor (Z, Y, X), and the width of the blending band."""

    mask: BoolArray
    liver: BoolArray
    distance_mm: NDArray[np.float32]
    band_mm: float

    @property
    def shell(self) -> BoolArray:
        """What the tumor is seen against."""
        return np.asarray(self.liver & (self.distance_mm <= SHELL_MM) & ~self.mask)

    @property
    def blended(self) -> BoolArray:
        """What the synthesis may have changed."""
        return np.asarray((self.liver | self.mask) & (self.distance_mm < self.band_mm))


def _check_family(phases: Mapping[Phase, PhaseQA], expected: Expected) -> tuple[TumorFamily, list[str]]:
    """Return the family that the enhancement shows, and what is wrong with it."""
    contrast = {phase: found.measures["contrast_hu"] for phase, found in phases.items()}
    levels = {phase: found.measures["parenchyma_hu"] for phase, found in phases.items()}
    core = {phase: found.measures["core_hu"] for phase, found in phases.items()}
    shown = family_of({phase: levels[phase] + contrast[phase] for phase in levels}, levels, core)
    reasons = list(expected.known.implausible(contrast, expected.family))
    if expected.family is not None and shown is not expected.family and tells_families(phases):
        reasons.append(f"it enhances like {shown}, not like {expected.family}")
    return shown, reasons


def _check_copy(
    normal: Mapping[Phase, Volume], grown: Mapping[Phase, Volume], mask: BoolArray, known: KnownLesions
) -> PhaseQA:
    """Return how near the most similar known lesion is to any component of the mask."""
    grid = next(iter(grown.values())).grid
    box = box_around(mask, grid, COPY_REACH_MM)
    change = np.zeros((len(ALL_PHASES), *mask[box].shape), dtype=np.float32)
    for phase, volume in grown.items():
        change[ALL_PHASES.index(phase)] = volume.array[box] - np.asarray(normal[phase].array[box], dtype=np.float32)
    labels, count = ndimage.label(mask[box], structure=TOUCHING)
    nearest = min(known.nearest(change, labels == number, cropped_grid(grid, box)) for number in range(1, count + 1))
    limit = known.copy_limit()
    reasons = (f"it is a copy of a lesion that was learned from (distance {nearest:.2f} < {limit:.2f})",)
    measures = {"nearest_known_lesion": nearest, "copy_limit": limit}
    return PhaseQA(Verdict.REVIEW, reasons if nearest < limit else (), measures)


def _check_phase(normal: NDArray[np.generic], grown: NDArray[np.generic], regions: _Regions, grid: Grid) -> PhaseQA:
    mask, shell = regions.mask, regions.shell
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
    if (seam := _seam(before, after, regions)) > LARGEST_SEAM:
        reasons.append(f"a seam where it ends ({seam:.2f} times the steps of the parenchyma)")
    change = float((after - before)[mask].mean())  # noise gives a tiny mask a contrast, but no change
    measures = {
        "contrast_hu": contrast,
        "change_hu": change,
        "core_hu": float(np.median(after[core_of(mask, grid)])),
        "parenchyma_hu": level,
        "std_ratio": texture.std_ratio,
        "seam_ratio": seam,
    }
    return PhaseQA(Verdict.REVIEW if reasons else Verdict.PASS, tuple(reasons), measures)


def _seam(before: NDArray[np.float32], after: NDArray[np.float32], regions: _Regions) -> float:
    """Return the step where the synthetic part ends, against the step that was there before; 1.0 = no seam."""
    outside = regions.liver & ~regions.blended
    genuine = seam_ratio(before, regions.blended, outside)
    return seam_ratio(after, regions.blended, outside) / max(genuine, 1e-3)
