"""Synthetic pairs from a study: what the user wants, and the steps of the engine that make it."""

from __future__ import annotations

import glob
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import slicer

from ..core.enhancement import TumorFamily
from ..core.errors import InputError
from ..core.study_io import STUDY_FILE
from .chain import Chain, Step
from .job import Job, engine_python
from .models import find_model
from .pairs import OwnCheck, own_check
from .scene import SceneStudy, SegmentChoice, write_mask, write_study
from .segments import liver_id, tumor_ids
from .texts import _
from .work_folder import work_folder
from .world import in_world

NORMAL_FOLDER, PAIRS_FOLDER = "normal", "pairs"


@dataclass(frozen=True)
class SynthesisWish:
    """What the user wants.

    Args:
        out: Folder that gets ``normal`` and ``pairs``.
        model: Model folder of a synthesizer, or the name of one of this computer; None for the bundled one.
        pairs: How many.
        seed: Of shapes and noise.
        tumors: Per pair.
        diameter_mm: Smallest and largest; None draws tiny to large ones.
        family: How they enhance; None draws it.
        device: auto, cpu, or cuda:N.
        inpainter: The same of the inpainter that removes annotated tumors.

    Raises:
        InputError: A number that cannot be.
    """

    out: Path
    model: Path | str | None = None
    pairs: int = 1
    seed: int = 0
    tumors: int = 1
    diameter_mm: tuple[float, float] | None = None
    family: TumorFamily | None = None
    device: str = "auto"
    inpainter: Path | str | None = None

    def __post_init__(self) -> None:
        if self.pairs < 1 or self.tumors < 1 or self.seed < 0:
            raise InputError(_("Pairs, tumors or the seed are too small"), expected=_("at least 1, 1 and 0"))
        if self.diameter_mm and not 0 < self.diameter_mm[0] <= self.diameter_mm[1]:
            raise InputError(_("The diameters are not a range"), expected=_("both, the smallest not above the largest"))


@dataclass(frozen=True)
class MadePair:
    """A pair that is there already.

    Args:
        name: Of its folder.
        check: What the engine measured of it.
    """

    name: str
    check: OwnCheck


def synthesis_job(study: SceneStudy, wish: SynthesisWish, mask: Sequence[SegmentChoice] = ()) -> Chain:
    """Return a started job that makes pairs of a study of the scene; its result is the folder of the pairs.

    Annotated tumors are inpainted first. Pairs appear in their folder one after another; those that are there when the
    job is canceled stay.

    Args:
        study: Aligned, or of one phase; declared free of tumor, or with all its tumors annotated.
        wish: What to make.
        mask: Segments that are the shape of the new tumors; none to draw it.

    Raises:
        InputError: It is not known whether the study has tumors, it is not aligned, has no liver, or there are pairs of
            this name already.
        SceneClosedError: A volume is no longer in the scene.
    """
    check_study(study)
    normal, pairs = _place_of_normal(wish.out, study.study_id), wish.out / PAIRS_FOLDER
    if made_pairs(pairs, study.study_id):
        raise InputError(
            _("'{out}' holds pairs of a study '{study_id}' already").format(out=wish.out.name, study_id=study.study_id),
            expected=_("new ones"),
            remedy=_("Choose another folder, or another name for the study"),
        )
    work = work_folder()

    def clean() -> None:
        work.cleanup()
        if not made_pairs(pairs, study.study_id):  # nothing came of it: it leaves nothing
            shutil.rmtree(normal, ignore_errors=True)

    drawn = Path(work.name) / "mask.nrrd" if mask else None
    if drawn is not None:
        write_mask(mask, in_world(study.reference), drawn)
    source = write_study(study, Path(work.name) / study.study_id if study.tumor else normal)
    steps: list[Step] = [lambda _source: _synthesis(normal, pairs, wish, drawn)]
    if study.tumor:
        steps.insert(0, lambda tumorous: _inpainting(tumorous, normal.parent, wish))
    job = Chain(source, steps, on_result=lambda _path: pairs, on_end=clean)
    if (application := getattr(slicer, "app", None)) is not None:  # a wait in the console does not freeze the window
        job.while_waiting = application.processEvents
    job.start()
    return job


def check_study(study: SceneStudy) -> None:
    """Refuse a study from which no pair with right labels can be made.

    Raises:
        InputError: It says what is missing.
    """
    if not study.is_aligned:
        raise InputError(_("The phases are not aligned"), expected=_("one grid"), remedy=_("Register them first"))
    if not study.is_tumor_free and not study.tumor:
        raise InputError(
            _("It is not known whether this study has tumors"),
            expected=_("a study free of tumor, or with all its tumors annotated"),
            remedy=_("State it above: a tumor that nobody labeled would be a wrong label in every pair"),
        )
    if study.liver is None:
        raise InputError(
            _("This study has no liver"),
            expected=_("a liver to put tumors into"),
            remedy=_("Choose it on top, or segment first"),
        )


def tumor_choices(node: Any) -> tuple[SegmentChoice, ...]:  # noqa: ANN401 (MRML is not typed)
    """Return the tumors of a segmentation: neoplasms by their terminology, else every segment that is no liver."""
    segmentation = node.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())]
    found = tumor_ids(node) or tuple(each for each in ids if each != liver_id(node))
    return tuple(SegmentChoice(node, each) for each in found)


def made_pairs(pairs: Path, study_id: str) -> tuple[MadePair, ...]:
    """Return the pairs of a study that are complete, in their order; a folder gets its name only when it is whole."""
    found = sorted(file.parent for file in pairs.glob(f"{glob.escape(study_id)}_synthetic-*/{STUDY_FILE}"))
    return tuple(MadePair(folder.name, own_check(folder)) for folder in found)


def _place_of_normal(out: Path, study_id: str) -> Path:
    """Return a new folder for the study without tumors; one that is there may be the user's, or of a crash."""
    names = chain((NORMAL_FOLDER,), (f"{NORMAL_FOLDER}-{number}" for number in count(2)))
    return next(place for name in names if not (place := out / name / study_id).exists())


def _inpainting(source: Path, out: Path, wish: SynthesisWish) -> Job:
    model = _model(wish.inpainter, "inpainter")
    return _started(["inpaint", str(source), str(out), *model, "--device", wish.device])


def _synthesis(normal: Path, pairs: Path, wish: SynthesisWish, mask: Path | None) -> Job:
    model = _model(wish.model, "synthesizer")
    arguments = ["synthesize", str(normal), str(pairs), *model, "--device", wish.device]
    arguments += ["--pairs", str(wish.pairs), "--seed", str(wish.seed)]
    if mask is not None:
        arguments += ["--mask", str(mask)]
    else:
        arguments += ["--tumors", str(wish.tumors)]
        arguments += ["--diameter-mm", *map(str, wish.diameter_mm)] if wish.diameter_mm else []
    return _started([*arguments, *(["--family", wish.family] if wish.family else [])])


def _model(model: Path | str | None, kind: str) -> list[str]:
    """Return the option for a model; without one the engine takes the bundled one."""
    return ["--model", str(find_model(model, kind))] if model else []


def _started(arguments: list[str]) -> Job:
    job = Job(arguments, python=engine_python())
    job.start()
    return job
