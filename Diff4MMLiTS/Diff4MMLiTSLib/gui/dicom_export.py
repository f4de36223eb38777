"""The tumors as they are now as DICOM SEG, for the archive that the CT came from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import slicer

from ..core.errors import InputError
from .job import Job, engine_python
from .scene import SceneStudy, SegmentationResult, SegmentChoice, write_study
from .segments import liver_id, tumor_ids
from .texts import _
from .work_folder import work_folder

INSTANCES_ATTRIBUTE = "DICOM.instanceUIDs"


def has_dicom(volume: Any) -> bool:  # noqa: ANN401 (MRML is not typed)
    """Return whether the files of a volume lie in Slicer's DICOM database."""
    return bool(_files_of(volume))


def export_job(result: SegmentationResult, out: Path, dicom: Path | None = None) -> Job:
    """Return a started job that writes a DICOM SEG file; it carries the patient's name and number, as the CT does.

    Args:
        result: Its segmentation is taken as it is now, edits included.
        out: The new file, ``*.dcm``.
        dicom: Folder with the CT series; that of Slicer's DICOM database by default.

    Raises:
        InputError: There is no liver or no tumor.
    """
    work = work_folder()
    place = Path(work.name)
    source = write_study(_as_it_is(result), place / result.study.study_id)
    folder = dicom or _copied(_files_of(result.study.reference), place / "dicom")
    arguments = ["export", "dicom-seg", str(source), str(out), "--dicom", str(folder), "--force"]
    job = Job(arguments, python=engine_python(), on_end=work.cleanup)
    job.start()
    return job


def _as_it_is(result: SegmentationResult) -> SceneStudy:
    node, study = result.node, result.study
    tumors = tuple(SegmentChoice(node, each) for each in tumor_ids(node))
    liver = liver_id(node)
    if not liver or not tumors:
        raise InputError(_("There is no liver or no tumor"), expected=_("a segmentation of both"))
    phases = {phase: volume for phase, volume in study.phases.items() if volume is study.reference}
    return SceneStudy(study.study_id, phases, liver=SegmentChoice(node, liver), tumor=tumors)


def _files_of(volume: Any) -> list[Path]:  # noqa: ANN401 (MRML is not typed)
    database = getattr(slicer, "dicomDatabase", None)
    instances = (volume.GetAttribute(INSTANCES_ATTRIBUTE) or "").split() if database is not None else []
    files = [Path(name) for name in map(database.fileForInstance, instances) if name] if database is not None else []
    return [file for file in files if file.is_file()]


def _copied(files: list[Path], folder: Path) -> Path:
    """Copy the series into a folder of its own: the database's folder may hold many patients."""
    folder.mkdir()
    for number, file in enumerate(files):
        shutil.copyfile(file, folder / f"{number:05d}.dcm")
    return folder
