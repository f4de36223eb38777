"""What a recipe would do, without doing it: its data, its networks, the time, memory and disk space that they take."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from .core.config import AutoencoderNetwork as AutoencoderConfig
from .core.config import ModelKind, TrainConfig, TrainLoopConfig, TrainTarget
from .core.errors import InputError
from .core.files import free_bytes
from .core.grid import resample
from .core.intensity import Window
from .core.lesions import TOUCHING
from .core.progress import Progress
from .core.study import RegisteredStudy, Study
from .core.study_io import find_studies, folders_by_id, read_study
from .nets.autoencoder import Autoencoder
from .recipe_runs import autoencoder_of, cohorts_of, synthesizer_of
from .recipes import Trainer
from .training.cache import cache_bytes
from .training.checkpoint import load_card, network_config
from .training.datasets import WorkingStudy, check_usable, is_rejected_pair, to_working_study
from .training.denoising import denoiser_task, patches_of
from .training.generative import autoencoder_task, inpainter_task, seeded
from .training.pairs import TumorPair
from .training.rehearsal import Rehearsal, rehearse
from .training.segmenter_task import check_enough, segmenter_task
from .training.task import Task

REHEARSED = 2
"""Studies that are prepared for the measured steps."""
BETWEEN = "; registering, inpainting and synthesizing the studies come on top"
MEANWHILE = "; making its synthetic pairs comes on top"
REHEARSED_CHANGE_HU = -40.0
"""What stands for a tumor's difference from its normal CT, which does not exist yet."""
_HEAD = ("network", "weights", "step", "waiting", "validation", "time", "checkpoint", "GPU")


@dataclass(frozen=True)
class StudyFacts:
    """What one study brings to a training.

    Args:
        name: Of its folder.
        phases: Those it has.
        lesions: How many connected tumors.
        synthetic: Whether a generative model made it.
        refused: Why it cannot be learned from; empty when it can.
        left_out: Whether its own check rejected it, so that training passes over it.
        registered: Whether it is registered already.
    """

    name: str
    phases: tuple[str, ...] = ()
    lesions: int = 0
    synthetic: bool = False
    refused: str = ""
    left_out: bool = False
    registered: bool = True


@dataclass(frozen=True)
class NetworkPlan:
    """What one network takes.

    Args:
        name: The recipe's target.
        steps: Optimizer steps.
        seconds: Of the whole training, validations included.
        study_bytes: Of one prepared study.
        rehearsal: What was measured.
    """

    name: str
    steps: int
    seconds: float
    study_bytes: int
    rehearsal: Rehearsal


@dataclass(frozen=True)
class Plan:
    """What a recipe would do.

    Args:
        target: What is trained.
        device: Where.
        training: Studies that are learned from.
        validation: Studies that are measured.
        networks: In the order of training.
        host_bytes: Peak memory of the rehearsal's process.
        cache_bytes: What the cache holds now.
        cache_needed_bytes: What the prepared studies take there, about; in memory where there is no cache.
        disk_needed_bytes: Checkpoints and weights of all networks.
        disk_free_bytes: On the disk of the run folder.
        not_timed: What comes on top of the networks' time, in words; empty for nothing.
    """

    target: str
    device: str
    training: tuple[StudyFacts, ...]
    validation: tuple[StudyFacts, ...]
    networks: tuple[NetworkPlan, ...]
    host_bytes: int
    cache_bytes: int
    cache_needed_bytes: int
    disk_needed_bytes: int
    disk_free_bytes: int
    not_timed: str = ""

    @property
    def refused(self) -> tuple[StudyFacts, ...]:
        """Studies that keep the training from beginning."""
        return tuple(study for study in (*self.training, *self.validation) if study.refused)


def plan_recipe(trainer: Trainer, run: Path, *, folder: Path, progress: Progress) -> Plan:
    """Look at all studies of a recipe and take a few steps with each of its networks; nothing is written.

    Args:
        trainer: The recipe, and where to compute.
        run: The run folder that the training would have.
        folder: What the recipe's paths are relative to.
        progress: Reports per study and network.

    Raises:
        InputError: There is no cohort, no study that could be learned from, none to measure a segmenter on, or one id
            twice.
        MissingError: The autoencoder of a denoiser's recipe, or the synthesizer of a segmenter's, is missing.
        CanceledError: The user asked to stop.
    """
    cohorts = cohorts_of(trainer.config, folder)
    folders_by_id((*cohorts.training, *cohorts.validation))  # what the training would refuse after its first hours
    folders_by_id((*cohorts.normal, *cohorts.normal_validation))
    not_timed = BETWEEN if trainer.config.target is TrainTarget.ALL else ""
    if trainer.config.target is TrainTarget.SEGMENTER and (synthesizer := synthesizer_of(trainer.config, folder)):
        load_card(synthesizer)
        not_timed = MEANWHILE
    kept: list[RegisteredStudy] = []
    look = _Look(trainer.config, kept)
    training = look.at(cohorts.training, progress.part(0.0, 0.4), training=True)
    validation = look.at(cohorts.validation, progress.part(0.4, 0.6), training=False)
    usable = sum(not (study.refused or study.left_out) for study in training)
    if not kept:
        raise InputError(f"None of {len(training)} studies can be learned from. {training[0].refused}")
    if trainer.config.target in (TrainTarget.SEGMENTER, TrainTarget.ALL):
        check_enough(usable, sum(not study.left_out for study in validation))
    networks = _rehearse_all(trainer, kept, folder, max(1, len(validation)), progress.part(0.6, 1.0))
    studies = usable + len(validation)
    return Plan(
        target=trainer.config.target,
        device=str(trainer.device),
        training=training,
        validation=validation,
        networks=networks,
        host_bytes=_peak_bytes(),
        cache_bytes=cache_bytes(trainer.cache)[1] if trainer.cache else 0,
        # Networks of the same working grid, whose studies are of the same size, share what is prepared.
        cache_needed_bytes=sum({network.study_bytes for network in networks}) * studies,
        disk_needed_bytes=sum(network.rehearsal.run_bytes for network in networks),
        disk_free_bytes=free_bytes(run),
        not_timed=not_timed,
    )


def as_text(plan: Plan) -> str:
    """Return a plan for people."""
    lines = [f"Training of {plan.target} on {plan.device}; this was a dry run, nothing was written", ""]
    for name, studies in (("Training data", plan.training), ("Validation data", plan.validation)):
        lines.append(f"{name}: {_counted(studies) or 'none'}")
    lines += [f"  refused: {study.name}: {study.refused}" for study in plan.refused]
    lines += ["", *_table([_HEAD, *map(_column, plan.networks)])]
    total = _duration(sum(network.seconds for network in plan.networks))
    prepared, cached = plan.cache_needed_bytes / 1e9, plan.cache_bytes / 1e9
    disk, free = plan.disk_needed_bytes / 1e9, plan.disk_free_bytes / 1e9
    lines += [
        "",
        f"Time      about {total} for the networks{plan.not_timed}",
        f"Memory    {plan.host_bytes / 1e9:.1f} GB in this rehearsal, with {REHEARSED} studies at most",
        f"Studies   about {prepared:.2f} GB when prepared; the cache holds {cached:.2f} GB now",
        f"Disk      {disk:.2f} GB for checkpoints and weights; {free:.1f} GB are free",
    ]
    return "\n".join(lines)


def as_json(plan: Plan) -> str:
    """Return a plan as one JSON object."""
    return json.dumps(asdict(plan), indent=2)


@dataclass(frozen=True)
class _Look:
    """Reads studies one after another and keeps the first few that can be learned from."""

    config: TrainConfig
    kept: list[RegisteredStudy]

    def at(self, paths: Sequence[Path], progress: Progress, *, training: bool) -> tuple[StudyFacts, ...]:
        folders = [folder for path in paths for folder in find_studies(path)]
        facts = []
        for index, folder in enumerate(folders):
            progress.update(index / len(folders), f"reading {folder.name}")
            try:
                facts.append(self._facts(folder, training=training))
            except InputError as error:
                facts.append(StudyFacts(folder.name, refused=str(error)))
        return tuple(facts)

    def _facts(self, folder: Path, *, training: bool) -> StudyFacts:
        study = read_study(folder)
        registered = isinstance(study, RegisteredStudy)
        if not registered and self.config.target is not TrainTarget.ALL:
            raise InputError(f"Study '{study.study_id}' is not registered", remedy='Run "diff4mmlits register" first')
        stacked = study if isinstance(study, RegisteredStudy) else _as_if_registered(study)
        check_usable(stacked, training=training, allow_model_masks=self.config.allow_model_masks)
        left_out = is_rejected_pair(stacked)
        lesions = 0 if stacked.tumor_mask is None else int(ndimage.label(stacked.tumor_mask.array, TOUCHING)[1])
        if training and not left_out and len(self.kept) < REHEARSED and (lesions or not self.kept):
            self.kept.append(stacked)
        return StudyFacts(
            folder.name, tuple(study.phases), lesions, study.synthetic, left_out=left_out, registered=registered
        )


def _as_if_registered(study: Study) -> RegisteredStudy:
    """Return a study with its phases where they lie, on the grid of the reference phase: enough to measure time."""
    grid = study.phases[study.reference_phase].grid
    phases = {phase: resample(volume, grid) for phase, volume in study.phases.items()}
    return RegisteredStudy(
        study.study_id, phases, study.reference_phase, liver=study.liver, tumor=study.tumor, history=study.history
    )


def _rehearse_all(
    trainer: Trainer, kept: Sequence[RegisteredStudy], folder: Path, validation: int, progress: Progress
) -> tuple[NetworkPlan, ...]:
    makers: dict[TrainTarget, Callable[[], tuple[Task, TrainLoopConfig, WorkingStudy]]] = {
        TrainTarget.INPAINTER: lambda: _inpainter(trainer.config, kept),
        TrainTarget.AUTOENCODER: lambda: _autoencoder(trainer.config, kept),
        TrainTarget.DENOISER: lambda: _denoiser(trainer, kept, folder),
        TrainTarget.SEGMENTER: lambda: _segmenter(trainer.config, kept),
    }
    several = {TrainTarget.ALL: list(makers), TrainTarget.SYNTHESIZER: [TrainTarget.AUTOENCODER, TrainTarget.DENOISER]}
    targets = several.get(trainer.config.target, [trainer.config.target])
    plans = []
    for index, target in enumerate(targets):
        progress.update(index / len(targets), f"a few steps of the {target}")
        task, loop, study = makers[target]()
        found = rehearse(task, config=loop, device=trainer.device)
        scale = validation if target is TrainTarget.SEGMENTER else 1  # the others measure a fixed number of patches
        arrays = (study.phases, study.presence, study.liver, study.tumor)
        study_bytes = sum(array.nbytes for array in arrays)
        plans.append(NetworkPlan(target, loop.steps, found.seconds(loop, validation_scale=scale), study_bytes, found))
    progress.update(1.0, "done")
    return tuple(plans)


def _inpainter(config: TrainConfig, kept: Sequence[RegisteredStudy]) -> tuple[Task, TrainLoopConfig, WorkingStudy]:
    settings = config.train_inpainter
    studies = _prepared(kept, settings.spacing_mm, config.margin_mm)
    return inpainter_task(studies, (), config=settings), settings.loop, studies[0]


def _autoencoder(config: TrainConfig, kept: Sequence[RegisteredStudy]) -> tuple[Task, TrainLoopConfig, WorkingStudy]:
    settings = config.train_autoencoder
    studies = _prepared(kept, settings.spacing_mm, config.margin_mm)
    return autoencoder_task(studies, (), config=settings), settings.loop, studies[0]


def _denoiser(
    trainer: Trainer, kept: Sequence[RegisteredStudy], folder: Path
) -> tuple[Task, TrainLoopConfig, WorkingStudy]:
    config, settings = trainer.config, trainer.config.train_denoiser
    network, spacing_mm, window_hu = (
        config.train_autoencoder.network,
        config.train_autoencoder.spacing_mm,
        config.train_autoencoder.window_hu,
    )
    if config.target is TrainTarget.DENOISER:
        card = load_card(autoencoder_of(config, folder))
        network = network_config(card, ModelKind.AUTOENCODER, AutoencoderConfig)
        spacing_mm, window_hu = card.spacing_mm, card.window_hu
    studies = _prepared(kept, spacing_mm, config.margin_mm)
    autoencoder = seeded(lambda: Autoencoder(network), 0)
    task = denoiser_task(
        patches_of([_pair(study) for study in studies], settings, autoencoder.factor),
        (),
        config=settings,
        autoencoder=autoencoder,
        window=Window(*window_hu),
        device=trainer.device,
    )
    return task, settings.loop, studies[0]


def _segmenter(config: TrainConfig, kept: Sequence[RegisteredStudy]) -> tuple[Task, TrainLoopConfig, WorkingStudy]:
    settings = config.train_segmenter
    studies = _prepared(kept, settings.spacing_mm, None)
    measured = replace(studies[0], study_id="rehearsal", source_study="")
    return segmenter_task(settings, studies, [measured]), settings.loop, studies[0]


def _prepared(kept: Sequence[RegisteredStudy], spacing_mm: float, margin_mm: float | None) -> tuple[WorkingStudy, ...]:
    return tuple(to_working_study(study, spacing_mm=spacing_mm, margin_mm=margin_mm) for study in kept)


def _pair(study: WorkingStudy) -> TumorPair:
    """Return a study and what stands for its normal CT."""
    phases = study.phases - REHEARSED_CHANGE_HU * study.tumor * study.presence[:, None, None, None]
    return TumorPair(study, replace(study, phases=phases.astype(np.float32), tumor=np.zeros_like(study.tumor)))


def _counted(studies: Sequence[StudyFacts]) -> str:
    usable = [study for study in studies if not (study.refused or study.left_out)]
    phases = Counter(phase for study in usable for phase in study.phases)
    kinds = Counter("synthetic" if study.synthetic else "real" for study in usable)
    parts = [
        f"{len(studies)} {'study' if len(studies) == 1 else 'studies'}",
        ", ".join(f"{count} {kind}" for kind, count in kinds.items()),
        ", ".join(f"{phase} {count}" for phase, count in phases.items()),
        f"{sum(study.lesions for study in usable)} tumors in {sum(study.lesions > 0 for study in usable)} of them",
        f"{sum(study.left_out for study in studies)} left out (rejected by their own check)",
        f"{sum(not study.registered for study in usable)} to be registered",
        f"{sum(bool(study.refused) for study in studies)} refused",
    ]
    return "; ".join(part for part in parts if part and not part.startswith("0 "))


def _column(network: NetworkPlan) -> tuple[str, ...]:
    found = network.rehearsal
    return (
        network.name,
        f"{found.parameters / 1e6:.2f} M",
        f"{found.seconds_per_step:.2f} s",
        f"{found.data_wait_fraction:.0%}",
        f"{found.seconds_per_validation:.1f} s",
        _duration(network.seconds),
        f"{found.checkpoint_bytes / 1e6:.1f} MB",
        f"{found.device_bytes / 1e9:.1f} GB" if found.device_bytes else "none",
    )


def _table(columns: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the lines of a table of four networks at most, which fits a panel of Slicer."""
    widths = [max(map(len, column)) for column in columns]
    rows = zip(*columns, strict=True)
    return [
        "  ".join(f"{c:<{w}}" if not i else f"{c:>{w}}" for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]


def _duration(seconds: float) -> str:
    hours, minutes = int(seconds // 3600), seconds % 3600 / 60
    return f"{hours} h {minutes:02.0f} min" if hours else f"{minutes:.1f} min"


def _peak_bytes() -> int:
    """Return the most memory that this process ever had."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
