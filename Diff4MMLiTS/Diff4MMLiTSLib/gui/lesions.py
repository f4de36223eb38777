"""The lesion table: volume, longest axial diameter, enhancement in each phase, and where to look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import slicer

from ..core.phases import Phase
from .scene import SceneStudy


@dataclass(frozen=True)
class LesionMeasures:
    """One row of the table.

    Args:
        number: 1 for the first tumor segment, and so on.
        name: Name of its segment.
        segment_id: Its segment.
        volume_ml: Volume.
        diameter_mm: Longest axial diameter, in one slice.
        mean_hu: Mean of each phase inside the lesion, HU; without phases that do not cover it.
        center_ras_mm: Point inside the lesion for ``JumpSlicesToLocation``, world coordinates.
    """

    number: int
    name: str
    segment_id: str
    volume_ml: float
    diameter_mm: float
    mean_hu: Mapping[Phase, float]
    center_ras_mm: tuple[float, float, float]


def measure_lesions(node: slicer.vtkMRMLSegmentationNode, study: SceneStudy) -> tuple[LesionMeasures, ...]:
    """Measure every tumor segment as it is now, edits included; empty segments are left out."""
    raise NotImplementedError


def liver_enhancement(node: slicer.vtkMRMLSegmentationNode, study: SceneStudy) -> dict[Phase, float]:
    """Return the mean of the liver without tumors in each phase, HU: what a lesion's curve is compared with."""
    raise NotImplementedError


def write_lesions_csv(lesions: Sequence[LesionMeasures], path: Path) -> None:
    """Write the table as CSV, one row per lesion; an existing file is replaced.

    Raises:
        InputError: The file cannot be written.
    """
    raise NotImplementedError
