"""From a recipe and cohorts to models: one network, or all of them in the order of the method.

Everything of a run lies in its folder: ``recipe.json``, checkpoints, ``metrics.jsonl``, and at last ``model/``. A run
that was cut short goes on with ``--resume``, wherever it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .cohort import raise_failures
from .core.config import (
    AutoencoderNetwork,
    ModelCard,
    ModelKind,
    PairSource,
    Settings,
    TrainConfig,
    TrainLoopConfig,
    TrainTarget,
    build_config,
)
from .core.errors import InputError, MissingError
from .core.files import exists_error, new_file
from .core.intensity import Window
from .core.progress import Progress
from .core.study import RegisteredStudy
from .core.study_io import find_studies, folders_by_id, read_study
from .nets.autoencoder import Autoencoder
from .pairing import paired_with_normal
from .pipeline import RunOptions, inpaint_cohort, register_cohort, synthesize_cohort
from .stages.inpainting import WINDOW
from .synthetic_stream import fresh_pairs
from .training.autoencoder_qa import check_autoencoder, measure_autoencoder
from .training.checkpoint import Weights, load_model, save_model, software_versions
from .training.datasets import WorkingStudy, data_hash, load_cohort
from .training.denoising import denoiser_task, patches_of
from .training.generative import autoencoder_task, inpainter_task
from .training.pairs import known_lesions_of
from .training.segmenter_task import segmenter_task
from .training.task import Task
from .training.trainer import train

MODEL_FOLDER = "model"
RECIPE_FILE = "recipe.json"
COHORT_SETTINGS = ("cohorts", "validation", "normal", "normal_validation")
"""Settings of a recipe that hold paths of cohorts."""


@dataclass(frozen=True)
class Cohorts:
    """Folders that a network learns from and is measured on.

    Args:
        training: Registered, labeled studies.
        validation: Studies that are only measured.
        normal: Inpainted counterparts of ``training``.
        normal_validation: Inpainted counterparts of ``validation``.
    """

    training: tuple[Path, ...]
    validation: tuple[Path, ...] = ()
    normal: tuple[Path, ...] = ()
    normal_validation: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Trainer:
    """Trains the networks of a recipe on one device.

    Args:
        config: The recipe.
        device: Where to compute.
        resume: Go on where a run stopped.
    """

    config: TrainConfig
    device: torch.device
    resume: bool = False

    def inpainter(self, cohorts: Cohorts, run: Path, progress: Progress) -> Path:
        """Train the network of stage 2 and return its model folder."""
        config = self.config.train_inpainter
        if (model := self._finished(run)) is not None:
            return model
        studies, held_out = self._load(
            cohorts, config.spacing_mm, progress.part(0.0, 0.1), margin_mm=self.config.margin_mm
        )
        task = inpainter_task(studies, held_out, config=config)
        numbers = {WINDOW: float(min(config.patch))}
        kind = _Kind(task.kind, config.spacing_mm, config.window_hu, {"inpainter": config.network}, numbers=numbers)
        return self._train(task, config.loop, run, studies, kind, progress.part(0.1, 1.0))

    def autoencoder(self, cohorts: Cohorts, run: Path, progress: Progress) -> Path:
        """Train the autoencoder of stage 3 and return its model folder."""
        config = self.config.train_autoencoder
        if (model := self._finished(run)) is not None:
            return model
        studies, held_out = self._load(
            cohorts, config.spacing_mm, progress.part(0.0, 0.1), margin_mm=self.config.margin_mm
        )
        task = autoencoder_task(studies, held_out, config=config)

        def measure(weights: Mapping[str, Weights]) -> dict[str, float]:
            network = Autoencoder(config.network)
            network.load_state_dict(dict(weights["autoencoder"]))
            return measure_autoencoder(network.to(self.device), held_out or studies, Window(*config.window_hu))

        networks = {"autoencoder": config.network}
        kind = _Kind(task.kind, config.spacing_mm, config.window_hu, networks, measure=measure)
        return self._train(task, config.loop, run, studies, kind, progress.part(0.1, 1.0))

    def synthesizer(self, cohorts: Cohorts, autoencoder: Path, run: Path, progress: Progress) -> Path:
        """Train the denoiser of stage 3 and return the model folder of both its networks."""
        config = self.config.train_denoiser
        if (model := self._finished(run)) is not None:
            return model
        weights = load_model(autoencoder, ModelKind.AUTOENCODER)
        check_autoencoder(weights.card.numbers, config.limits, name=autoencoder.name)
        network = Autoencoder(build_config(AutoencoderNetwork, weights.card.networks["autoencoder"]))
        network.load_state_dict(dict(weights.networks["autoencoder"]))
        spacing_mm, window = weights.card.spacing_mm, weights.card.window_hu
        studies, held_out = self._load(cohorts, spacing_mm, progress.part(0.0, 0.1), margin_mm=self.config.margin_mm)
        lesions = patches_of(paired_with_normal(studies, cohorts.normal), config, network.factor)
        paired = paired_with_normal(held_out, cohorts.normal_validation)
        task = denoiser_task(
            lesions,
            patches_of(paired, config, network.factor) if paired else (),
            config=config,
            autoencoder=network,
            window=Window(*window),
            device=self.device,
        )
        networks: dict[str, Settings] = {
            "autoencoder": build_config(AutoencoderNetwork, weights.card.networks["autoencoder"]),
            "denoiser": config.network,
            "lesions": Settings(),
        }
        known = {name: torch.from_numpy(values) for name, values in vars(known_lesions_of(lesions)).items()}
        frozen = {"autoencoder": weights.networks["autoencoder"], "lesions": known}
        numbers = {f"autoencoder_{name}": value for name, value in weights.card.numbers.items()}
        kind = _Kind(ModelKind.SYNTHESIZER, spacing_mm, window, networks, frozen, numbers)
        return self._train(task, config.loop, run, studies, kind, progress.part(0.1, 1.0))

    def segmenter(self, cohorts: Cohorts, run: Path, progress: Progress, *, synthesizer: Path | None = None) -> Path:
        """Train the network of stage 4, on pairs made by the synthesizer if there is one; return its model folder."""
        config = self.config.train_segmenter
        if (model := self._finished(run)) is not None:
            return model
        studies, held_out = self._load(cohorts, config.spacing_mm, progress.part(0.0, 0.1), margin_mm=None)
        fresh = fresh_pairs(self.config, cohorts.normal, synthesizer, self.device) if synthesizer else None
        task = segmenter_task(config, studies, held_out, fresh)
        kind = _Kind(task.kind, config.spacing_mm, config.window_hu, {"segmenter": config.network})
        return self._train(task, config.loop, run, studies, kind, progress.part(0.1, 1.0))

    def _finished(self, run: Path) -> Path | None:
        model = run / MODEL_FOLDER
        if not model.exists():
            return None
        if not self.resume:
            raise exists_error(run)
        return model

    def _load(
        self, cohorts: Cohorts, spacing_mm: float, progress: Progress, *, margin_mm: float | None
    ) -> tuple[tuple[WorkingStudy, ...], tuple[WorkingStudy, ...]]:
        training = load_cohort(
            cohorts.training,
            spacing_mm=spacing_mm,
            margin_mm=margin_mm,
            allow_model_masks=self.config.allow_model_masks,
            progress=progress.part(0.0, 0.7),
        )
        validation = load_cohort(
            cohorts.validation,
            spacing_mm=spacing_mm,
            margin_mm=margin_mm,
            training=False,
            allow_model_masks=self.config.allow_model_masks,
            progress=progress.part(0.7, 1.0),
        )
        return training, validation

    def _train(
        self,
        task: Task,
        loop: TrainLoopConfig,
        run: Path,
        studies: Sequence[WorkingStudy],
        kind: _Kind,
        progress: Progress,
    ) -> Path:
        _save_recipe(self.config, run)
        result = train(task, config=loop, run=run, resume=self.resume, device=self.device, progress=progress)
        synthetic = sum(study.synthetic for study in studies)
        card = ModelCard(
            kind=kind.kind,
            name=self.config.name if self.config.target is not TrainTarget.ALL else f"{self.config.name}-{kind.kind}",
            spacing_mm=kind.spacing_mm,
            window_hu=kind.window_hu,
            networks={name: network.model_dump(mode="json") for name, network in kind.networks.items()},
            numbers={**kind.numbers, **kind.measure(result.weights)},
            versions=software_versions(),
            seed=loop.seed,
            data_hash=data_hash(studies),
            training_data=f"{len(studies) - synthetic} studies and {synthetic} synthetic studies",
            intended_use=self.config.intended_use,
            metrics=dict(result.metrics),
        )
        trained = {name: weights for name, weights in result.weights.items() if name in kind.networks}
        save_model(run / MODEL_FOLDER, card, {**kind.frozen, **trained})
        return run / MODEL_FOLDER


def train_recipe(
    config: TrainConfig, run: Path, *, folder: Path, resume: bool, device: torch.device, progress: Progress
) -> Path:
    """Train what a recipe names.

    Args:
        config: The recipe.
        run: Run folder.
        folder: What the recipe's paths are relative to.
        resume: Go on where the run stopped.
        device: Where to compute.
        progress: Reports every step.

    Returns:
        The model folder; for ``all`` that of the segmenter, with the other models beside it in the run folder.

    Raises:
        InputError: The run exists and ``resume`` is not given; cohorts that cannot be learned from.
        MissingError: The autoencoder of a denoiser's recipe is missing.
        CanceledError: The user asked to stop; a checkpoint was written.
    """
    if not config.cohorts:
        raise InputError("The recipe names no cohorts", expected='cohorts = ["folder of study folders", …]')
    trainer = Trainer(config, device, resume)
    cohorts = Cohorts(
        _folders(folder, config.cohorts),
        _folders(folder, config.validation),
        _folders(folder, config.normal),
        _folders(folder, config.normal_validation),
    )
    match config.target:
        case TrainTarget.INPAINTER:
            return trainer.inpainter(cohorts, run, progress)
        case TrainTarget.AUTOENCODER:
            return trainer.autoencoder(cohorts, run, progress)
        case TrainTarget.DENOISER:
            return trainer.synthesizer(cohorts, _autoencoder_of(config, folder), run, progress)
        case TrainTarget.SYNTHESIZER:
            autoencoder = trainer.autoencoder(cohorts, run / "autoencoder", progress.part(0.0, 0.3))
            return trainer.synthesizer(cohorts, autoencoder, run / "synthesizer", progress.part(0.3, 1.0))
        case TrainTarget.SEGMENTER:
            synthesizer = None if config.pair_source is PairSource.FILES else _synthesizer_of(config, folder)
            return trainer.segmenter(cohorts, run, progress, synthesizer=synthesizer)
        case TrainTarget.ALL:
            return train_all(trainer, cohorts, run, progress)


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
            if all(isinstance(read_study(folder), RegisteredStudy) for folder in find_studies(source)):
                folders.append(source)
                continue
            out = run / f"{name}-{index + 1}"
            piece = part.part(index / len(sources), (index + 1) / len(sources))
            config = trainer.config.register_studies
            raise_failures(register_cohort(source, out, config=config, options=options_of(trainer), progress=piece))
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
            raise_failures(inpaint_cohort(source, out, model=inpainter, config=config, options=options, progress=piece))
        return folders

    training = inpainted(cohorts.training, "normal", progress.part(0.0, 0.8))
    return training, inpainted(cohorts.validation, "normal-validation", progress.part(0.8, 1.0))


def synthesize_all(
    trainer: Trainer, sources: Sequence[Path], synthesizer: Path, run: Path, progress: Progress
) -> tuple[Path, ...]:
    """Return folders of the run with synthetic pairs made from normal studies, one per cohort."""
    folders = tuple(run / f"synthetic-{index + 1}" for index in range(len(sources)))
    for index, (source, out) in enumerate(zip(sources, folders, strict=True)):
        result = synthesize_cohort(
            source,
            out,
            model=synthesizer,
            pairs=trainer.config.pairs,
            config=trainer.config.synthesize,
            options=options_of(trainer),
            progress=progress.part(index / len(sources), (index + 1) / len(sources)),
        )
        raise_failures(result)
    return folders


def options_of(trainer: Trainer) -> RunOptions:
    """Return how stages are applied within a run."""
    return RunOptions(device=str(trainer.device), seed=trainer.config.train_segmenter.loop.seed)


@dataclass(frozen=True)
class _Kind:
    """What the card of a model says besides its data."""

    kind: ModelKind
    spacing_mm: float
    window_hu: tuple[float, float]
    networks: Mapping[str, Settings]
    frozen: Mapping[str, Mapping[str, torch.Tensor]] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    measure: Callable[[Mapping[str, Weights]], Mapping[str, float]] = lambda _weights: {}
    """Measures the trained weights."""


def _autoencoder_of(config: TrainConfig, folder: Path) -> Path:
    if not config.autoencoder:
        raise MissingError(
            "The recipe of a denoiser names no autoencoder",
            expected="autoencoder = the folder of a trained autoencoder",
            remedy='Train one first (target = "autoencoder")',
        )
    return folder / config.autoencoder


def _synthesizer_of(config: TrainConfig, folder: Path) -> Path:
    if not config.synthesizer:
        raise MissingError(
            f'The recipe of a segmenter with pair_source = "{config.pair_source}" names no synthesizer',
            expected="synthesizer = the folder of a trained synthesizer",
            remedy='Train one first (target = "synthesizer"), or choose pair_source = "files"',
        )
    return folder / config.synthesizer


def _folders(folder: Path, names: Sequence[str]) -> tuple[Path, ...]:
    return tuple(folder / name for name in names)


def _save_recipe(config: TrainConfig, run: Path) -> None:
    cohorts = {name: tuple(map(_shown, getattr(config, name))) for name in COHORT_SETTINGS}
    shown = config.model_copy(
        update={**cohorts, "autoencoder": _shown(config.autoencoder), "synthesizer": _shown(config.synthesizer)}
    )
    with new_file(run / RECIPE_FILE, force=True) as partial:
        partial.write_text(shown.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _shown(path: str) -> str:
    """Return a path of a recipe as it may be kept: where data lie on this machine can name a patient or a user."""
    return Path(path).name if Path(path).is_absolute() else path
