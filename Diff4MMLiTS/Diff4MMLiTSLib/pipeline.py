"""The four stages of Diff4MMLiTS in order: the file to read first.

The method (Chen et al., arXiv 2412.20418): the phases of a study are registered to the annotated one; its tumors are
inpainted, which gives tumor-free CTs; a diffusion model puts a new tumor into all of them at once, strictly aligned by
construction; a segmenter is trained on real and synthetic studies.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from .cohort import CohortResult, Job, StudyWork, Workers, check_apart, jobs_of, process_cohort
from .core.config import InpaintConfig, RegisterConfig, SegmentConfig, SizeDistribution, SynthesizeConfig
from .core.errors import InputError, MissingError
from .core.files import FilesState, files_state
from .core.images import read_mask
from .core.progress import Progress
from .core.study import (
    MaskSource,
    NormalStudy,
    RegisteredStudy,
    Segmentation,
    Study,
    SyntheticPair,
    is_rejected,
    without_rejected,
)
from .core.study_io import (
    QA_FILE,
    find_studies,
    input_hashes,
    read_normal,
    read_registered,
    read_study,
    write_normal,
    write_pair,
    write_segmentation,
    write_study,
)
from .core.study_records import qa_of
from .core.tumor_sizes import fit_sizes, lesion_diameters_mm
from .liver_finders import NO_LIVER_SOURCE, LiverSource, liver_finder
from .stages.inpainting import NormalCTGenerator
from .stages.registration import LiverFinder, register_study
from .stages.segmentation import MultimodalSegmenter
from .stages.synthesis import MultimodalCTSynthesizer

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Models:
    """The trained networks of stages 2, 3 and 4."""

    normal_ct_generator: NormalCTGenerator
    multimodal_ct_synthesizer: MultimodalCTSynthesizer
    multimodal_segmenter: MultimodalSegmenter


@dataclass(frozen=True)
class PipelineConfig:
    """The settings of the four stages."""

    register: RegisterConfig = field(default_factory=RegisterConfig)
    inpaint: InpaintConfig = field(default_factory=InpaintConfig)
    synthesize: SynthesizeConfig = field(default_factory=SynthesizeConfig)
    segment: SegmentConfig = field(default_factory=SegmentConfig)


def run_pipeline(
    study: Study, models: Models, *, config: PipelineConfig, rng: np.random.Generator, progress: Progress
) -> tuple[RegisteredStudy, NormalStudy, SyntheticPair, Segmentation]:
    """Take one study through the four stages.

    Args:
        study: Phases on their own grids; with liver and tumor masks on the reference phase.
        models: Trained networks.
        config: Settings of each stage.
        rng: Draws the synthetic tumor and the noise it grows from.
        progress: Reports per stage.

    Returns:
        What each stage made, in order. The segmentation is that of the real, registered study.

    Raises:
        InputError: The study lacks what a stage needs, for example tumor masks.
        CanceledError: The user asked to stop.
    """
    stage = [progress.part(index / 4, (index + 1) / 4) for index in range(4)]
    registered = register_study(study, config=config.register, progress=stage[0])
    usable = without_rejected(registered)
    normal = models.normal_ct_generator.inpaint(usable, config=config.inpaint, rng=rng, progress=stage[1])
    pair = models.multimodal_ct_synthesizer.synthesize(normal, config=config.synthesize, rng=rng, progress=stage[2])
    segmentation = models.multimodal_segmenter.segment(usable, config=config.segment, progress=stage[3])
    return registered, normal, pair, segmentation


@dataclass(frozen=True)
class RunOptions:
    """How a stage is applied to study folders.

    Args:
        device: ``auto``, ``cpu`` or ``cuda:N``.
        force: Make again what is there already.
        seed: Seed of everything random; each study derives its own from it and its id.
        workers: Where studies are made.
    """

    device: str = "auto"
    force: bool = False
    seed: int = 0
    workers: Workers = field(default_factory=Workers)


def register_cohort(
    source: Path,
    out: Path,
    *,
    config: RegisterConfig,
    options: RunOptions,
    livers: LiverSource = NO_LIVER_SOURCE,
    progress: Progress,
) -> CohortResult:
    """Stage 1 on a study folder or a cohort; ``livers`` says who finds the livers that nobody drew."""
    livers = replace(livers, model=livers.model.absolute() if livers.model else None)
    _load_liver_finder(livers, options.device)
    work = partial(_register, config=config, options=options, livers=livers)
    return _process(jobs_of(source, out), work, options, progress)


def inpaint_cohort(
    source: Path,
    out: Path,
    *,
    model: Path,
    config: InpaintConfig,
    options: RunOptions,
    segmenter: Path | None = None,
    progress: Progress,
) -> CohortResult:
    """Stage 2 on a registered study folder or a cohort of them; a segmenter's model says whether tumor is left."""
    model, segmenter = model.absolute(), segmenter.absolute() if segmenter else None
    _load_generator(model, options.device)
    if segmenter:
        _load_segmenter(segmenter, options.device)
    work = partial(_inpaint, model=model, config=config, options=options, segmenter=segmenter)
    return _process(jobs_of(source, out), work, options, progress)


def synthesize_cohort(
    source: Path,
    out: Path,
    *,
    model: Path,
    pairs: int,
    config: SynthesizeConfig,
    options: RunOptions,
    mask: Path | None = None,
    progress: Progress,
) -> CohortResult:
    """Stage 3 on a normal study folder or a cohort of them: ``pairs`` synthetic pairs each.

    ``mask`` is an image file with the tumor mask to use, on the study's grid; masks are drawn at random when absent.
    """
    model, mask = model.absolute(), mask.absolute() if mask else None
    _load_synthesizer(model, options.device)
    studies = find_studies(source)
    check_apart(source, studies, out)
    jobs = [
        Job(folder, out / f"{folder.name}_synthetic-{number:04d}", number)
        for folder in _inpainted_well(studies)
        for number in range(1, pairs + 1)
    ]
    work = partial(_synthesize, model=model, config=config, options=options, mask=mask)
    return _process(jobs, work, options, progress)


def _inpainted_well(folders: Sequence[Path]) -> tuple[Path, ...]:
    """Leave out studies whose inpainting was rejected: what is left of a tumor there would be an unlabeled one."""
    kept = tuple(folder for folder in folders if not is_rejected(qa_of(folder / QA_FILE), "inpaint"))
    for folder in sorted(set(folders) - set(kept)):
        log.warning("%s is left out: its inpainting was rejected", folder.name)
    if not kept:
        raise InputError(
            "The inpainting of every study was rejected",
            expected="studies without tumors, or whose tumors were taken out well",
            remedy="See the reasons in qa.json; inpaint again with another margin or model",
        )
    return kept


def sizes_of_cohort(folder: Path, progress: Progress) -> SizeDistribution:
    """Return the sizes of the tumors of a study or cohort, fitted.

    Raises:
        InputError: No study there, or too few lesions.
        CanceledError: The user asked to stop.
    """
    diameters: list[float] = []
    folders = find_studies(folder)
    for number, each in enumerate(folders):
        progress.update(number / len(folders), f"sizes of {each.name}")
        study = read_study(each)
        if study.tumor_mask is not None:
            diameters += lesion_diameters_mm(study.tumor_mask.array, study.tumor_mask.volume.grid)
    return fit_sizes(diameters)


def pairs_summary(out: Path, names: Sequence[str]) -> str:
    """Say how many draws the pairs of these names took, and what became of them."""
    qualities = [quality for name in names if (quality := qa_of(out / name / QA_FILE).get("synthesize"))]
    rejected = int(sum(quality.measures.get("rejected_draws", 0.0) for quality in qualities))
    verdicts = Counter(str(quality.verdict) for quality in qualities)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    draws = rejected + len(qualities)
    share = rejected / draws if draws else 0.0
    return f"{len(qualities)} pairs ({counts}); {rejected} of {draws} draws rejected ({share:.0%})"


def segment_cohort(
    source: Path, out: Path, *, model: Path, config: SegmentConfig, options: RunOptions, progress: Progress
) -> CohortResult:
    """Stage 4 on a registered study folder or a cohort of them."""
    model = model.absolute()
    _load_segmenter(model, options.device)
    work = partial(_segment, model=model, config=config, options=options)
    return _process(jobs_of(source, out), work, options, progress)


def find_device(name: str) -> torch.device:
    """Return the device that ``auto``, ``cpu`` or ``cuda:N`` names; ``auto`` is the GPU with the most free memory.

    Raises:
        InputError: Another name.
        MissingError: A GPU that is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        free = [torch.cuda.mem_get_info(index)[0] for index in range(count)]
        return torch.device("cuda", free.index(max(free))) if free else torch.device("cpu")
    kind, _, index = name.partition(":")
    if name != "cpu" and (kind != "cuda" or not (index or "0").isdigit()):
        raise InputError(f"Unknown device '{name}'", expected="auto, cpu, or cuda:0, cuda:1, …")
    if kind == "cuda" and int(index or 0) >= count:
        raise MissingError(
            f"There is no device '{name}': torch sees {count} CUDA GPUs",
            remedy='Use "--device cpu"; "doctor" lists devices',
        )
    return torch.device(name)


def study_rng(seed: int, study_id: str, number: int = 0) -> np.random.Generator:
    """Return the random numbers of one output of one study: the same whatever else is made, and wherever."""
    return np.random.default_rng([seed, number, *study_id.encode()])


def _process(jobs: Sequence[Job], work: StudyWork, options: RunOptions, progress: Progress) -> CohortResult:
    return process_cohort(jobs, work, force=options.force, workers=options.workers, progress=progress)


def _register(
    job: Job, progress: Progress, *, config: RegisterConfig, options: RunOptions, livers: LiverSource
) -> None:
    source = read_study(job.source)
    registered = register_study(
        source,
        config=config,
        liver=_load_liver_finder(livers, options.device),
        progress=progress,
        device=find_device(options.device),
    )
    write_study(_with_inputs(registered, source, job.source), job.target, force=options.force)


def _inpaint(
    job: Job, progress: Progress, *, model: Path, config: InpaintConfig, options: RunOptions, segmenter: Path | None
) -> None:
    study = without_rejected(read_registered(job.source))
    generator = _load_generator(model, options.device)
    rng = study_rng(options.seed, study.study_id)
    probability = _load_segmenter(segmenter, options.device).tumor_probability if segmenter else None
    normal = generator.inpaint(study, config=config, rng=rng, progress=progress, segmenter=probability)
    write_normal(replace(normal, study=_with_inputs(normal.study, study, job.source)), job.target, force=options.force)


def _synthesize(
    job: Job, progress: Progress, *, model: Path, config: SynthesizeConfig, options: RunOptions, mask: Path | None
) -> None:
    normal = read_normal(job.source)
    normal = replace(normal, study=without_rejected(normal.study))
    tumor = read_mask(mask, MaskSource.SYNTHETIC) if mask else None
    rng = study_rng(options.seed, normal.study.study_id, job.number)
    synthesizer = _load_synthesizer(model, options.device)
    pair = synthesizer.synthesize(normal, tumor=tumor, config=config, rng=rng, progress=progress)
    study = replace(_with_inputs(pair.study, normal.study, job.source), study_id=job.target.name)
    write_pair(SyntheticPair(study), job.target, force=options.force)


def _segment(job: Job, progress: Progress, *, model: Path, config: SegmentConfig, options: RunOptions) -> None:
    study = without_rejected(read_registered(job.source, masks=False))  # what people drew must have no influence
    segmenter = _load_segmenter(model, options.device)
    segmentation = segmenter.segment(study, config=config, progress=progress)
    write_segmentation(
        segmentation,
        job.target,
        force=options.force,
        synthetic=study.synthetic,
        intended_use=segmenter.card.intended_use,
    )


def _with_inputs(study: RegisteredStudy, source: Study, folder: Path) -> RegisteredStudy:
    """Note in the last step of the history, if it is a new one, which files it was made from."""
    if study.history == source.history:
        return study
    last = replace(study.history[-1], inputs=input_hashes(folder))
    return replace(study, history=(*study.history[:-1], last))


def _load_generator(folder: Path, device: str) -> NormalCTGenerator:
    return _kept_generator(folder, device, files_state(folder))


def _load_synthesizer(folder: Path, device: str) -> MultimodalCTSynthesizer:
    return _kept_synthesizer(folder, device, files_state(folder))


def _load_segmenter(folder: Path, device: str) -> MultimodalSegmenter:
    return _kept_segmenter(folder, device, files_state(folder))


def _load_liver_finder(source: LiverSource, device: str) -> LiverFinder | None:
    return _kept_liver_finder(source, device, files_state(source.model) if source.model else ())


# The state of the files is an argument of the caches below, so that a model that was trained anew is read anew.


@lru_cache(maxsize=1)
def _kept_generator(folder: Path, device: str, _state: FilesState) -> NormalCTGenerator:
    return NormalCTGenerator.load(folder, find_device(device))


@lru_cache(maxsize=1)
def _kept_synthesizer(folder: Path, device: str, _state: FilesState) -> MultimodalCTSynthesizer:
    return MultimodalCTSynthesizer.load(folder, find_device(device))


@lru_cache(maxsize=1)
def _kept_segmenter(folder: Path, device: str, _state: FilesState) -> MultimodalSegmenter:
    return MultimodalSegmenter.load(folder, find_device(device))


@lru_cache(maxsize=1)
def _kept_liver_finder(source: LiverSource, device: str, _state: FilesState) -> LiverFinder | None:
    return liver_finder(source, find_device(device))
