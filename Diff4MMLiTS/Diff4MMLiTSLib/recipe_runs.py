"""A recipe from its beginning to its last model: one network, or all of them in the order of the method.

A run that was cut short goes on with ``--resume``, wherever it stopped: finished networks are kept, finished studies
are skipped, and the network that was being trained goes on from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from .cohort import CohortResult, raise_failures
from .core.config import PairSource, TrainConfig, TrainTarget
from .core.errors import CanceledError, InputError, MissingError
from .core.progress import Progress
from .core.study_io import find_studies, folders_by_id, is_registered
from .pipeline import RunOptions, inpaint_cohort, register_cohort, synthesize_cohort
from .recipes import Cohorts, Trainer
from .training.processes import join_processes, on_main_process
from .training.trainer import STOP_FILE


def train_recipe(trainer: Trainer, run: Path, *, folder: Path, progress: Progress) -> Path:
    """Train what a recipe names.

    Args:
        trainer: The recipe, and where to compute.
        run: Run folder; a file ``stop`` in it ends the training with a checkpoint.
        folder: What the recipe's paths are relative to.
        progress: Reports every step.

    Returns:
        The model folder; for ``all`` that of the segmenter, with the other models beside it in the run folder.

    Raises:
        InputError: The run exists and the trainer does not resume, or resumes with another recipe; cohorts that cannot
            be learned from.
        MissingError: The autoencoder of a denoiser's recipe is missing.
        CanceledError: The user asked to stop; a checkpoint was written.
    """
    processes = join_processes(trainer.device)
    if processes.num_processes > 1 and trainer.device.type == "cuda":  # each has its own
        trainer = replace(trainer, device=processes.device)
    cohorts = cohorts_of(trainer.config, folder)
    stop_file = run / STOP_FILE
    stoppable = replace(progress, is_canceled=lambda: progress.is_canceled() or stop_file.exists())
    try:
        match trainer.config.target:
            case TrainTarget.INPAINTER:
                return trainer.inpainter(cohorts, run, stoppable)
            case TrainTarget.AUTOENCODER:
                return trainer.autoencoder(cohorts, run, stoppable)
            case TrainTarget.DENOISER:
                return trainer.synthesizer(cohorts, autoencoder_of(trainer.config, folder), run, stoppable)
            case TrainTarget.SYNTHESIZER:
                on_main_process(trainer.device, lambda: trainer.keep_recipe(run))
                autoencoder = trainer.autoencoder(cohorts, run / "autoencoder", stoppable.part(0.0, 0.3))
                return trainer.synthesizer(cohorts, autoencoder, run / "synthesizer", stoppable.part(0.3, 1.0))
            case TrainTarget.SEGMENTER:
                synthesizer = synthesizer_of(trainer.config, folder)
                return trainer.segmenter(cohorts, run, stoppable, synthesizer=synthesizer)
            case TrainTarget.ALL:
                return train_all(trainer, cohorts, run, stoppable)
    except CanceledError:
        stop_file.unlink(missing_ok=True)
        raise


def cohorts_of(config: TrainConfig, folder: Path) -> Cohorts:
    """Return the folders that a recipe names.

    Args:
        config: The recipe.
        folder: What its paths are relative to.

    Raises:
        InputError: It names no cohorts.
    """
    if not config.cohorts:
        raise InputError("The recipe names no cohorts", expected='cohorts = ["folder of study folders", …]')
    names = (config.cohorts, config.validation, config.normal, config.normal_validation)
    return Cohorts(*(tuple(folder / name for name in group) for group in names))


def train_all(trainer: Trainer, cohorts: Cohorts, run: Path, progress: Progress) -> Path:
    """Train the four networks in the order of the method, each on what the ones before it made.

    Args:
        trainer: The recipe.
        cohorts: Labeled studies; those that are not registered are registered first.
        run: Receives inpainter/, autoencoder/, synthesizer/ and segmenter/; and, numbered by cohort, registered-1/,
            normal-1/ and synthetic-1/.
        progress: Reports every step.

    Returns:
        The segmenter's model folder.

    Raises:
        InputError: Studies of the same id; or as ``train_recipe``.
    """
    folders_by_id((*cohorts.training, *cohorts.validation))  # said now, not after hours
    on_main_process(trainer.device, lambda: trainer.keep_recipe(run))
    registered = register_all(trainer, cohorts, run, progress.part(0.0, 0.05, "register"))
    inpainter = trainer.inpainter(registered, run / "inpainter", progress.part(0.05, 0.25, "train inpainter"))
    normal = inpaint_all(trainer, registered, inpainter, run, progress.part(0.25, 0.3, "inpaint"))
    autoencoder = trainer.autoencoder(registered, run / "autoencoder", progress.part(0.3, 0.5, "train autoencoder"))
    paired = Cohorts(registered.training, registered.validation, *normal)
    part = progress.part(0.5, 0.7, "train denoiser")
    synthesizer = trainer.synthesizer(paired, autoencoder, run / "synthesizer", part)
    last = progress.part(0.75, 1.0, "train segmenter")
    if trainer.config.pair_source is not PairSource.FILES:
        return trainer.segmenter(paired, run / "segmenter", last, synthesizer=synthesizer)
    synthetic = synthesize_all(trainer, normal[0], synthesizer, run, progress.part(0.7, 0.75, "synthesize"))
    both = Cohorts((*registered.training, *synthetic), registered.validation)
    return trainer.segmenter(both, run / "segmenter", last)


def register_all(trainer: Trainer, cohorts: Cohorts, run: Path, progress: Progress) -> Cohorts:
    """Return the cohorts with every study registered, in folders of the run where that had to be done."""

    def registered(sources: tuple[Path, ...], name: str, part: Progress) -> tuple[Path, ...]:
        folders = []
        for index, source in enumerate(sources):
            if all(is_registered(folder) for folder in find_studies(source)):
                folders.append(source)
                continue
            out = run / f"{name}-{index + 1}"
            piece = part.part(index / len(sources), (index + 1) / len(sources))
            config, options = trainer.config.register_studies, options_of(trainer)
            make = partial(register_cohort, source, out, config=config, options=options, progress=piece)
            _make_cohort(trainer, make)
            folders.append(out)
        return tuple(folders)

    training = registered(cohorts.training, "registered", progress.part(0.0, 0.8))
    return Cohorts(training, registered(cohorts.validation, "registered-validation", progress.part(0.8, 1.0)))


def inpaint_all(
    trainer: Trainer, cohorts: Cohorts, inpainter: Path, run: Path, progress: Progress
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Return folders of the run with the tumors of all studies removed: for training and for validation."""

    def inpainted(sources: tuple[Path, ...], name: str, part: Progress) -> tuple[Path, ...]:
        folders = tuple(run / f"{name}-{index + 1}" for index in range(len(sources)))
        for index, (source, out) in enumerate(zip(sources, folders, strict=True)):
            piece = part.part(index / len(sources), (index + 1) / len(sources))
            config, options = trainer.config.inpaint, options_of(trainer)
            make = partial(inpaint_cohort, source, out, model=inpainter, config=config, options=options, progress=piece)
            _make_cohort(trainer, make)
        return folders

    training = inpainted(cohorts.training, "normal", progress.part(0.0, 0.8))
    return training, inpainted(cohorts.validation, "normal-validation", progress.part(0.8, 1.0))


def synthesize_all(
    trainer: Trainer, sources: Sequence[Path], synthesizer: Path, run: Path, progress: Progress
) -> tuple[Path, ...]:
    """Return folders of the run with synthetic pairs made from normal studies, one per cohort."""
    folders = tuple(run / f"synthetic-{index + 1}" for index in range(len(sources)))
    for index, (source, out) in enumerate(zip(sources, folders, strict=True)):
        make = partial(
            synthesize_cohort,
            source,
            out,
            model=synthesizer,
            pairs=trainer.config.pairs,
            config=trainer.config.synthesize,
            options=options_of(trainer),
            progress=progress.part(index / len(sources), (index + 1) / len(sources)),
        )
        _make_cohort(trainer, make)
    return folders


def options_of(trainer: Trainer) -> RunOptions:
    """Return how stages are applied within a run."""
    return RunOptions(device=str(trainer.device), seed=trainer.config.train_segmenter.loop.seed)


def autoencoder_of(config: TrainConfig, folder: Path) -> Path:
    """Return the folder of the autoencoder that the recipe of a denoiser names.

    Raises:
        MissingError: It names none.
    """
    if not config.autoencoder:
        raise MissingError(
            "The recipe of a denoiser names no autoencoder",
            expected="autoencoder = the folder of a trained autoencoder",
            remedy='Train one first (target = "autoencoder")',
        )
    return folder / config.autoencoder


def synthesizer_of(config: TrainConfig, folder: Path) -> Path | None:
    """Return the folder of the synthesizer that makes pairs while a segmenter trains; None when pairs are files.

    Raises:
        MissingError: The recipe wants such pairs and names no synthesizer.
    """
    if config.pair_source is PairSource.FILES:
        return None
    if not config.synthesizer:
        raise MissingError(
            f'The recipe of a segmenter with pair_source = "{config.pair_source}" names no synthesizer',
            expected="synthesizer = the folder of a trained synthesizer",
            remedy='Train one first (target = "synthesizer"), or choose pair_source = "files"',
        )
    return folder / config.synthesizer


def _make_cohort(trainer: Trainer, make: Callable[[], CohortResult]) -> None:
    """Apply a stage to a cohort, once for all processes of the training."""
    on_main_process(trainer.device, lambda: raise_failures(make()))
