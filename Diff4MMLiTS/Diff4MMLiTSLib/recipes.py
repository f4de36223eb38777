"""From cohorts to models: how each of the four networks is trained.

Everything of a run lies in its folder: ``recipe.json``, checkpoints, ``metrics.jsonl``, and at last ``model/``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .core.config import (
    AutoencoderNetwork,
    ModelCard,
    ModelKind,
    Settings,
    TrainConfig,
    TrainLoopConfig,
    TrainTarget,
)
from .core.errors import InputError
from .core.files import new_file
from .core.intensity import Window
from .core.progress import Progress
from .nets.autoencoder import Autoencoder
from .pairing import paired_with_normal
from .stages.inpainting import WINDOW
from .synthetic_stream import fresh_pairs
from .training.autoencoder_qa import check_autoencoder, measure_autoencoder
from .training.checkpoint import (
    Weights,
    fill_network,
    load_card,
    load_model,
    model_hash,
    network_config,
    save_model,
    software_versions,
)
from .training.cohorts import load_cohort
from .training.datasets import WorkingStudy, check_no_leak, data_hash
from .training.denoising import denoiser_task, patches_of
from .training.fresh_pairs import FreshPairs
from .training.generative import autoencoder_task, inpainter_task
from .training.pairs import known_lesions_of
from .training.processes import join_processes, on_main_process
from .training.segmenter_task import learned_numbers, segmenter_task
from .training.task import Task
from .training.trainer import train

MODEL_FOLDER = "model"
RECIPE_FILE = "recipe.json"
COHORT_SETTINGS = ("cohorts", "validation", "normal", "normal_validation")
"""Settings of a recipe that hold paths of cohorts."""
MAY_CHANGE = {
    *("name", "intended_use", "learning_rate", "workers", "keep_free_gb"),
    *("validate_every", "checkpoint_every", "keep_checkpoints", "patience"),
}
"""Settings that may differ when a run goes on; all others would mix two recipes."""


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
        cache: Folder where prepared studies are kept for the next time; None keeps them in memory only.
    """

    config: TrainConfig
    device: torch.device
    resume: bool = False
    cache: Path | None = None

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
        network_settings = network_config(weights.card, "autoencoder", AutoencoderNetwork)
        network = fill_network(Autoencoder(network_settings), weights, "autoencoder")
        spacing_mm, window = weights.card.spacing_mm, weights.card.window_hu
        studies, held_out = self._load(cohorts, spacing_mm, progress.part(0.0, 0.1), margin_mm=self.config.margin_mm)
        lesions = patches_of(paired_with_normal(studies, cohorts.normal, self.cache), config, network.factor)
        paired = paired_with_normal(held_out, cohorts.normal_validation, self.cache)
        task = denoiser_task(
            lesions,
            patches_of(paired, config, network.factor) if paired else (),
            config=config,
            autoencoder=network,
            window=Window(*window),
            device=self.device,
        )
        networks: dict[str, Settings] = {
            "autoencoder": network_settings,
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
        kind = _Kind(
            task.kind,
            config.spacing_mm,
            config.window_hu,
            {"segmenter": config.network},
            numbers=learned_numbers(config),
            more_data=_pairs_text(synthesizer, fresh),
        )
        return self._train(task, config.loop, run, studies, kind, progress.part(0.1, 1.0))

    def keep_recipe(self, run: Path) -> None:
        """Write the recipe into a run folder.

        Raises:
            InputError: The run was begun before and is not resumed, or was begun with another recipe.
        """
        new = _shown_recipe(self.config)
        file = run / RECIPE_FILE
        if file.is_file():
            if not self.resume:
                raise _begun_error(run)
            _check_same_recipe(json.loads(file.read_text(encoding="utf-8")), new)
        with new_file(file, force=True) as partial:
            partial.write_text(json.dumps(new, indent=2) + "\n", encoding="utf-8")

    def _finished(self, run: Path) -> Path | None:
        model = run / MODEL_FOLDER
        if not model.exists():
            return None
        if not self.resume:
            raise _begun_error(run)
        return model

    def _load(
        self, cohorts: Cohorts, spacing_mm: float, progress: Progress, *, margin_mm: float | None
    ) -> tuple[tuple[WorkingStudy, ...], tuple[WorkingStudy, ...]]:
        processes = join_processes(self.device)
        # One process fills the cache, the others read it.
        with processes.main_process_first() if self.cache else nullcontext():
            return self._load_all(cohorts, spacing_mm, progress, margin_mm)

    def _load_all(
        self, cohorts: Cohorts, spacing_mm: float, progress: Progress, margin_mm: float | None
    ) -> tuple[tuple[WorkingStudy, ...], tuple[WorkingStudy, ...]]:
        training = load_cohort(
            cohorts.training,
            spacing_mm=spacing_mm,
            margin_mm=margin_mm,
            allow_model_masks=self.config.allow_model_masks,
            cache=self.cache,
            progress=progress.part(0.0, 0.7),
        )
        validation = load_cohort(
            cohorts.validation,
            spacing_mm=spacing_mm,
            margin_mm=margin_mm,
            training=False,
            allow_model_masks=self.config.allow_model_masks,
            cache=self.cache,
            progress=progress.part(0.7, 1.0),
        )
        check_no_leak(training, validation)
        return training, validation

    def _name(self, kind: ModelKind) -> str:
        """Return the name of a model; recipes that make several tell them apart by their kinds."""
        whole = {TrainTarget.ALL: None, TrainTarget.SYNTHESIZER: ModelKind.SYNTHESIZER}
        is_one_of_several = self.config.target in whole and kind is not whole[self.config.target]
        return f"{self.config.name}-{kind}" if is_one_of_several else self.config.name

    def _train(
        self,
        task: Task,
        loop: TrainLoopConfig,
        run: Path,
        studies: Sequence[WorkingStudy],
        kind: _Kind,
        progress: Progress,
    ) -> Path:
        on_main_process(self.device, lambda: self.keep_recipe(run))
        result = train(task, config=loop, run=run, resume=self.resume, device=self.device, progress=progress)
        synthetic = sum(study.synthetic for study in studies)
        card = ModelCard(
            kind=kind.kind,
            name=self._name(kind.kind),
            spacing_mm=kind.spacing_mm,
            window_hu=kind.window_hu,
            networks={name: network.model_dump(mode="json") for name, network in kind.networks.items()},
            numbers={**kind.numbers, **kind.measure(result.weights)},
            versions=software_versions(),
            seed=loop.seed,
            data_hash=data_hash(studies),
            training_data=f"{len(studies) - synthetic} studies and {synthetic} synthetic studies{kind.more_data}",
            intended_use=self.config.intended_use,
            metrics=dict(result.metrics),
        )
        trained = {name: weights for name, weights in result.weights.items() if name in kind.networks}
        on_main_process(self.device, lambda: save_model(run / MODEL_FOLDER, card, {**kind.frozen, **trained}))
        return run / MODEL_FOLDER


@dataclass(frozen=True)
class _Kind:
    """What the card of a model says besides its data."""

    kind: ModelKind
    spacing_mm: float
    window_hu: tuple[float, float]
    networks: Mapping[str, Settings]
    frozen: Mapping[str, Mapping[str, torch.Tensor]] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    more_data: str = ""
    """What was learned from besides the studies."""
    measure: Callable[[Mapping[str, Weights]], Mapping[str, float]] = lambda _weights: {}
    """Measures the trained weights."""


def _pairs_text(synthesizer: Path | None, fresh: FreshPairs | None) -> str:
    if synthesizer is None or fresh is None:
        return ""
    name, digest = load_card(synthesizer).name, model_hash(synthesizer)
    return f", and pairs that {name} ({digest[:12]}) made from {len(fresh.origins)} normal studies while training"


def _begun_error(run: Path) -> InputError:
    return InputError(
        f"The run '{run.name}' was begun before",
        expected="a new run folder",
        remedy="Go on with --resume, or choose another folder",
    )


def _shown_recipe(config: TrainConfig) -> dict[str, Any]:  # Any: JSON of a configuration
    cohorts = {name: tuple(map(_shown, getattr(config, name))) for name in COHORT_SETTINGS}
    shown = config.model_copy(
        update={**cohorts, "autoencoder": _shown(config.autoencoder), "synthesizer": _shown(config.synthesizer)}
    )
    return shown.model_dump(mode="json")


def _check_same_recipe(old: Mapping[str, Any], new: Mapping[str, Any], owner: str = "") -> None:  # Any: as above
    """Refuse settings that would mix two recipes in one run; settings that an older version did not know are new."""
    for key in sorted((old.keys() & new.keys()) - MAY_CHANGE):
        if isinstance(new[key], dict) and isinstance(old[key], dict):
            _check_same_recipe(old[key], new[key], f"{owner}{key}.")
        elif old[key] != new[key]:
            raise InputError(
                f"The run was begun with {owner}{key} = {old[key]}, not {new[key]}",
                expected="the recipe it was begun with",
                remedy="Resume with the same recipe, or start a new run",
            )


def _shown(path: str) -> str:
    """Return a path of a recipe as it may be kept: where data lie on this machine can name a patient or a user."""
    return Path(path).name if Path(path).is_absolute() else path
