"""Studies between the MRML scene and study folders; RAS and LPS meet only in files that MRML reads and writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import slicer

from ..core.phases import Phase
from ..core.study import PhaseQA, Verdict


@dataclass(frozen=True, eq=False)
class SegmentChoice:
    """One segment of a segmentation node.

    Args:
        node: The segmentation.
        segment_id: Its segment.
    """

    node: slicer.vtkMRMLSegmentationNode
    segment_id: str


@dataclass(frozen=True, eq=False)
class SceneStudy:
    """The nodes of one study, captured when a job starts; results are bound to them, whatever is selected later.

    Args:
        study_id: Name of the study; letters, digits, ``.``, ``_``, ``-`` and spaces, never the patient's.
        phases: Volumes by phase, at least one.
        reference_phase: The phase on whose grid results lie; the first present of PVP, AP, DELAY, NC when None.
        liver: An annotated liver, on any grid.
        tumor: An annotated tumor, on any grid.

    Raises:
        InputError: No phase, one volume for two phases, a reference phase that is not there, a node of no scene.
    """

    study_id: str
    phases: Mapping[Phase, slicer.vtkMRMLScalarVolumeNode]
    reference_phase: Phase | None = None
    liver: SegmentChoice | None = None
    tumor: SegmentChoice | None = None

    @property
    def reference(self) -> slicer.vtkMRMLScalarVolumeNode:
        """The volume of the reference phase."""
        raise NotImplementedError

    @property
    def is_aligned(self) -> bool:
        """Whether all phases lie on the reference's grid and were aligned to it (or it is the only one)."""
        raise NotImplementedError

    @property
    def is_alive(self) -> bool:
        """Whether all volumes are still in the scene they came from."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class RegistrationResult:
    """What a registration brought into the scene.

    Args:
        study: The study that was registered.
        aligned: The same study with its aligned volumes; give it to ``segment``.
        transforms: Transform nodes by moving phase; as parent of the moving volume each one aligns it.
        qa: Verdict, reasons and measures per moving phase.
        verdict: The worst of them.
    """

    study: SceneStudy
    aligned: SceneStudy
    transforms: Mapping[Phase, slicer.vtkMRMLTransformNode]
    qa: Mapping[Phase, PhaseQA]
    verdict: Verdict


@dataclass(frozen=True, eq=False)
class SegmentationResult:
    """What a segmentation brought into the scene.

    Args:
        study: The study that was segmented.
        node: The segmentation: liver, and one segment per tumor.
        liver_id: The liver's segment.
        folder: The folder that the engine wrote, with the probability; it lives as long as this object's ``keep``.
        left_out: Phases that registration had rejected, which the model did not see.
        keep: Whatever must live as long as the folder.
    """

    study: SceneStudy
    node: slicer.vtkMRMLSegmentationNode
    liver_id: str
    folder: Path
    left_out: tuple[Phase, ...] = ()
    keep: object = field(default=None, repr=False)


def write_study(study: SceneStudy, folder: Path) -> Path:
    """Write a study folder in world coordinates: parent transforms are applied, linear or not.

    Args:
        study: What to write; masks are brought onto the reference phase's grid.
        folder: The new folder.

    Returns:
        The folder.

    Raises:
        InputError: The folder exists, cannot be written, or a node is no longer in the scene.
    """
    raise NotImplementedError


def load_study(folder: Path) -> SceneStudy:
    """Load a study folder: volumes with their roles, masks as one segmentation, transforms and verdicts not.

    Raises:
        InputError: The folder is no study, or a file cannot be read.
    """
    raise NotImplementedError


def load_registration(folder: Path, study: SceneStudy) -> RegistrationResult:
    """Load what ``register`` wrote for ``study``.

    Raises:
        InputError: The folder is no registered study.
        SceneClosedError: The nodes of ``study`` are gone.
    """
    raise NotImplementedError


def load_segmentation(folder: Path, study: SceneStudy) -> SegmentationResult:
    """Load what ``segment`` wrote for ``study``: liver and one segment per tumor, in standard terminology.

    Raises:
        InputError: The folder holds no segmentation.
        SceneClosedError: The nodes of ``study`` are gone.
    """
    raise NotImplementedError
