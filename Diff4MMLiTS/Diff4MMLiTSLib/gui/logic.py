"""What the module does, as functions for the Python console: each starts a job and returns it.

``job.progress``, ``job.cancel()``, ``job.wait()`` and ``job.result`` do what their names say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import slicer

from ..core.phases import Phase
from .chain import Chain
from .job import Job, JobState, Worker, engine_python
from .models import find_model
from .review import REVIEWER, Review
from .roles import check_roles, reference_among, role_of
from .scene import (
    ALIGNED_ROLE,
    SceneStudy,
    SegmentationResult,
    SegmentChoice,
    load_registration,
    load_segmentation,
    write_study,
)
from .segments import liver_id
from .settings import read_setting
from .synthesis import SynthesisWish, synthesis_job
from .training_run import TrainingRun
from .work_folder import work_folder

STUDY_ID = "study"
"""Name of a study of the scene, unless the user gives another: what the scene calls it may be the patient's name."""


def study_of_scene(study_id: str = STUDY_ID) -> SceneStudy:
    """Return the study of the volumes in the scene whose ``LiverRole`` names a phase, with a liver if one is there.

    Where a phase has an aligned volume, that one is taken and not the one it was made from.

    Raises:
        InputError: No volume has a role, or two have the same.
    """
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    aligned = [volume for volume in volumes if volume.GetNodeReference(ALIGNED_ROLE) is not None]
    registered = {*aligned, *(volume.GetNodeReference(ALIGNED_ROLE) for volume in aligned)}
    replaced = {role_of(volume) for volume in registered}
    choices: list[tuple[Any, Phase]] = []
    for volume in volumes:
        phase = role_of(volume)
        if phase is not None and (volume in registered or phase not in replaced):
            choices.append((volume, phase))
    return study_of(choices, liver=find_liver_segment(), study_id=study_id)


def study_of(
    choices: Sequence[tuple[Any, Phase]],  # Any: MRML is not typed
    *,
    liver: SegmentChoice | None,
    study_id: str = STUDY_ID,
) -> SceneStudy:
    """Return the study of volumes with their phases; its reference is the one that was named when it was loaded.

    Raises:
        InputError: There is no volume, or two have the same phase.
    """
    check_roles(choices)
    phases = {phase: volume for volume, phase in choices}
    return SceneStudy(study_id, phases, reference_among(phases), liver=liver)


def register(
    study: SceneStudy, *, method: str = "deformable", liver_model: Path | None = None, device: str = "auto"
) -> Job:
    """Align the phases of a study; the job's result is a ``RegistrationResult``.

    Args:
        study: From ``study_of_scene`` or ``load_study``.
        method: none, rigid, affine or deformable; none keeps the phases where they are, on one grid.
        liver_model: A segmenter that finds the liver when the study has none.
        device: auto, cpu, or cuda:N.

    Raises:
        InputError: The study cannot be written.
        SceneClosedError: A volume is no longer in the scene.
    """
    work = work_folder()
    options = ["--method", method, "--device", device]
    if liver_model is not None and study.liver is None:
        options += ["--liver-model", str(liver_model)]
    source = write_study(study, Path(work.name) / "in" / study.study_id)
    return _start(
        ["register", str(source), str(Path(work.name) / "out"), *options],
        on_result=lambda out: load_registration(out / study.study_id, study),
        on_end=lambda _state: work.cleanup(),
    )


def segment(study: SceneStudy, *, model: Path | str, device: str = "auto", fast: bool = False) -> Job:
    """Find liver and tumors; the job's result is a ``SegmentationResult``.

    Args:
        study: Aligned, or of one phase.
        model: Name of a listed segmenter, or a model folder.
        device: auto, cpu, or cuda:N.
        fast: Less accurate, several times faster.

    Raises:
        InputError: The study cannot be written.
        SceneClosedError: A volume is no longer in the scene.
    """
    work = work_folder()
    source = write_study(study, Path(work.name) / "in" / study.study_id)

    def load(out: Path) -> SegmentationResult:
        result = load_segmentation(out / study.study_id, study)
        return replace(result, study_folder=source, keep=work)  # the folder lives as long as the result

    arguments = ["segment", str(source), str(Path(work.name) / "out"), "--probability", *_model(model, device)]
    return _start(
        [*arguments, *(["--fast"] if fast else [])],
        on_result=load,
        on_end=lambda state: None if state is JobState.DONE else work.cleanup(),
    )


def import_images(source: Path | str, out: Path | str, *, kind: str = "dicom") -> Job:
    """Make study folders of a DICOM folder (or a table, nnU-Net, MSD); the job's result is the cohort's path."""
    return _start(["import", str(_full(source)), str(_full(out)), "--from", kind])


def register_folder(cohort: Path | str, out: Path | str, *, method: str = "deformable", device: str = "auto") -> Job:
    """Align every study of a folder; the job's result is the path of the new cohort. Finished studies are skipped."""
    return _start(["register", str(_full(cohort)), str(_full(out)), "--method", method, "--device", device])


def segment_folder(
    cohort: Path | str, out: Path | str, *, model: Path | str, device: str = "auto", fast: bool = False
) -> Job:
    """Segment every study of a folder; the job's result is the path of the new cohort. Finished ones are skipped."""
    arguments = ["segment", str(_full(cohort)), str(_full(out)), *_model(model, device)]
    return _start([*arguments, *(["--fast"] if fast else [])])


def warm_worker(model: Path | str, *, device: str = "auto") -> Worker:
    """Return a worker that answers clicks with this model; it starts with the first request."""
    return Worker(["serve", *_model(model, device)], python=engine_python())


def synthesize(study: SceneStudy, wish: SynthesisWish, *, mask: Sequence[SegmentChoice] = ()) -> Chain:
    """Put synthetic tumors into a study; the job's result is the folder of the pairs, for ``review``.

    Args:
        study: With a liver, aligned or of one phase, and ``is_tumor_free=True`` or all its tumors in ``tumor``:
            ``dataclasses.replace(study_of_scene(), is_tumor_free=True)``.
        wish: Folder, number of pairs, models and so on: ``SynthesisWish(out=…, pairs=10)``.
        mask: Segments that are the shape of the new tumors; none to draw it.

    Raises:
        InputError: It is not known whether the study has tumors, or there are pairs of this name already.
        SceneClosedError: A volume is no longer in the scene.
    """
    return synthesis_job(study, replace(wish, out=_full(wish.out)), mask)


def review(folder: Path | str, *, reviewer: str = "") -> Review:
    """Return the review of a folder of pairs: ``pair``, ``decide``, ``undo``, ``go``, ``agreements``, ``export``.

    Args:
        folder: The pairs.
        reviewer: The name under which decisions are kept; the one in the Review tab when empty.

    Raises:
        InputError: There is no pair, or no name.
    """
    return Review(_full(Path(folder)), reviewer or read_setting(REVIEWER))


def train(
    recipe: Path | str,
    *,
    run: Path | str | None = None,
    resume: bool = False,
    cohort: Path | None = None,
    device: str = "auto",
) -> TrainingRun:
    """Start a training that goes on when Slicer is closed: ``state``, ``progress``, ``curves()``, ``stop()``.

    Args:
        recipe: A TOML file.
        run: Run folder; a folder of the recipe's name beside it when None.
        resume: Go on from the newest checkpoint.
        cohort: Studies to learn from, instead of those that the recipe names.
        device: auto, cpu, or cuda:N.

    Raises:
        InputError: There is no recipe, or the training runs already.
    """
    source = _full(Path(recipe))
    training = TrainingRun(_full(Path(run)) if run else source.with_suffix(""))
    training.start(source, resume=resume, cohort=cohort, device=device)
    return training


def find_liver_segment() -> SegmentChoice | None:
    """Return the first segment in the scene that is a liver by its terminology or name; None when there is none."""
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if segment_id := liver_id(node):
            return SegmentChoice(node, segment_id)
    return None


def _start(
    arguments: Sequence[str],
    *,
    on_result: Callable[[Path], Any] | None = None,  # Any: what the job's result is
    on_end: Callable[[JobState], None] | None = None,
) -> Job:
    job = Job(
        arguments,
        python=engine_python(),
        on_result=on_result,
        on_end=lambda: on_end(job.state) if on_end else None,
    )
    application = getattr(slicer, "app", None)
    if application is not None:  # a wait in the Python console does not freeze the window
        job.while_waiting = application.processEvents
    job.start()
    return job


def _model(model: Path | str, device: str) -> list[str]:
    return ["--model", str(find_model(model, "segmenter")), "--device", device]


def _full(path: Path | str) -> Path:
    return Path(path).expanduser().absolute()
