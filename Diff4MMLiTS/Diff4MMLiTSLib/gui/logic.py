"""What the module does, as functions for the Python console: each starts a job and returns it."""

from __future__ import annotations

from pathlib import Path

import slicer

from .job import Job, Worker
from .scene import SceneStudy


def study_of_scene(study_id: str = "") -> SceneStudy:
    """Return the study of the volumes in the scene whose ``LiverRole`` names a phase, with a liver if one is there.

    Raises:
        InputError: No volume has a role, or two have the same.
    """
    raise NotImplementedError


def register(
    study: SceneStudy, *, method: str = "deformable", liver_model: Path | None = None, device: str = "auto"
) -> Job:
    """Align the phases of a study; the job's result is a ``RegistrationResult``.

    Args:
        study: From ``study_of_scene`` or ``load_study``.
        method: none, rigid, affine or deformable; none keeps the phases where they are, on one grid.
        liver_model: A segmenter that finds the liver when the study has none.
        device: auto, cpu, or cuda:N.
    """
    raise NotImplementedError


def segment(study: SceneStudy, *, model: Path, device: str = "auto", fast: bool = False) -> Job:
    """Find liver and tumors; the job's result is a ``SegmentationResult``.

    Args:
        study: Aligned, or of one phase.
        model: Model folder of a segmenter.
        device: auto, cpu, or cuda:N.
        fast: Less accurate, several times faster.
    """
    raise NotImplementedError


def import_images(source: Path, out: Path, *, kind: str = "dicom") -> Job:
    """Make study folders of a DICOM folder (or a table, nnU-Net, MSD); the job's result is the cohort's path."""
    raise NotImplementedError


def register_folder(cohort: Path, out: Path, *, method: str = "deformable", device: str = "auto") -> Job:
    """Align every study of a folder; the job's result is the path of the new cohort. Finished studies are skipped."""
    raise NotImplementedError


def segment_folder(cohort: Path, out: Path, *, model: Path, device: str = "auto", fast: bool = False) -> Job:
    """Segment every study of a folder; the job's result is the path of the new cohort. Finished ones are skipped."""
    raise NotImplementedError


def warm_worker(model: Path, *, device: str = "auto") -> Worker:
    """Return a worker that answers clicks with this model; it starts with the first request."""
    raise NotImplementedError


def find_liver_segment(scene: slicer.vtkMRMLScene) -> object:
    """Return the first segment that is a liver by its terminology, as ``SegmentChoice``; None when there is none."""
    raise NotImplementedError
