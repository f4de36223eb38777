"""Where studies come from: a folder that the user opens, and the digital phantom that everybody can try."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import slicer

from ..core.errors import InputError
from ..core.study_io import STUDY_FILE
from . import views
from .crossing import load_volume
from .job import Job, engine_python
from .scene import SceneStudy, load_study
from .texts import _
from .work_folder import work_folder

IMAGE_ENDINGS = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")
SAMPLE_SEED = 7
"""Phantom 7 has two tumors of different size that three of four phases show."""
SAMPLE_MODEL = "phantom-segmenter"
"""The bundled model that was trained on phantoms like this one."""
SAMPLE_ARGUMENTS = ("--count", "1", "--seed", str(SAMPLE_SEED), "--preset", "small")


class FolderKind(Enum):
    """What a folder holds."""

    STUDY = "study"
    COHORT = "cohort"
    IMAGES = "images"
    DICOM = "dicom"


def kind_of(folder: Path) -> FolderKind:
    """Return what a folder holds; what is nothing else may be DICOM, whose files have any name.

    Raises:
        InputError: It cannot be read.
    """
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        raise InputError(
            _("'{name}' cannot be read ({why})").format(name=folder.name, why=error.strerror), expected=_("a folder")
        ) from None
    if (folder / STUDY_FILE).is_file():
        return FolderKind.STUDY
    if any(folder.glob(f"*/{STUDY_FILE}")):
        return FolderKind.COHORT
    return FolderKind.IMAGES if image_files(folder) else FolderKind.DICOM


def image_files(folder: Path) -> list[Path]:
    """Return the image files directly in a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name.lower().endswith(IMAGE_ENDINGS))


def studies_in(folder: Path) -> list[Path]:
    """Return the study folders of a cohort, sorted by name."""
    return sorted(path.parent for path in folder.glob(f"*/{STUDY_FILE}"))


def load_images(folder: Path) -> list[slicer.vtkMRMLScalarVolumeNode]:
    """Load every image file of a folder as a volume.

    Raises:
        InputError: One of them is no image.
    """
    return [load_volume(path, path.name.split(".")[0]) for path in image_files(folder)]


def sample_job(folder: Path) -> Job:
    """Return a started job that makes the phantom study in ``folder`` and loads it; its result is a ``SceneStudy``."""
    job = Job(["phantom", str(folder), *SAMPLE_ARGUMENTS], python=engine_python(), on_result=_load_only_study)
    job.start()
    return job


def load_sample() -> SceneStudy:
    """Make the phantom study, load and show it, with the application alive meanwhile (for the Sample Data module)."""
    with work_folder() as folder:
        job = sample_job(Path(folder) / "phantom")
        job.while_waiting = slicer.app.processEvents
        study: SceneStudy = job.wait()
    views.show_volume(study.reference, fit=True)
    return study


def _load_only_study(cohort: Path) -> SceneStudy:
    return load_study(cohort if (cohort / STUDY_FILE).is_file() else studies_in(cohort)[0])
