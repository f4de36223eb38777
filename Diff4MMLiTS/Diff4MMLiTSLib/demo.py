"""The whole method on phantoms: small networks, trained on the spot, and a report that shows what each stage did.

Two segmenters are trained with the same number of optimizer steps: one on the registered "real" phantoms alone, one on
these and on synthetic pairs made from them. Both are evaluated on phantoms with held-out seeds, beside a plain
threshold and the untrained network. No network sees the phantoms' truth; the true masks of the reference phase stand
for annotations.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from .cohort import jobs_of, local_workers, make_phantoms, process_cohort, raise_failures
from .core.config import DemoConfig, ModelCard, ModelKind, SegmentConfig
from .core.errors import InputError
from .core.files import exists_error, new_file
from .core.progress import Progress
from .core.study_io import STUDY_FILE, read_registered, write_segmentation
from .phantom.generator import Variant, phantom_id
from .phantom.scanner import Preset
from .pipeline import RunOptions, find_device, inpaint_cohort, register_cohort, segment_cohort, synthesize_cohort
from .recipes import MODEL_FOLDER, Cohorts, Trainer
from .reporting.demo_report import DemoFolders, write_demo_report
from .reporting.evaluation import evaluate_cohort
from .reporting.scores import Evaluation, evaluation_record
from .stages.baseline import threshold_baseline
from .training.checkpoint import save_model, software_versions
from .training.datasets import FIRST_HELD_OUT_SEED
from .training.segmenter_task import NETWORK, fresh_segmenter

THRESHOLD, UNTRAINED, REAL, BOTH = "threshold", "untrained", "real", "real_and_synthetic"
MOST_PROCESSES = 8
SEGMENT_OVERLAP = 0.25
"""Of windows, for all methods alike; half of the default, which takes a third of the time."""
PARTS = {
    "phantoms": 0.1,
    "register": 0.165,
    "train inpainter": 0.105,
    "inpaint": 0.025,
    "train autoencoder": 0.085,
    "train denoiser": 0.145,
    "synthesize": 0.04,
    "train segmenter on real": 0.15,
    "train segmenter on real + synthetic": 0.15,
    "segment and evaluate": 0.02,
    "report": 0.015,
}
"""Share of each part in the whole, measured on two cores; the progress bar's time left rests on it."""


@dataclass
class _Clock:
    """Splits the progress by part and keeps how long each took."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[Progress]:
        begin = sum(share for part, share in PARTS.items() if list(PARTS).index(part) < list(PARTS).index(name))
        started = time.monotonic()
        yield self.progress.part(begin, begin + PARTS[name], name)
        self.seconds[name] = round(time.monotonic() - started, 1)


def run_demo(out: Path, *, config: DemoConfig, device: str, seed: int, progress: Progress) -> Path:
    """Run the demonstration; a run that was cut short goes on where it stopped.

    Args:
        out: Receives everything: phantoms, networks, studies of every stage, ``report.html`` and ``report.json``.
        config: Sizes; see Resources/Recipes/demo.toml.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        seed: First seed of the training phantoms, and of everything else that is random.
        progress: Reports every step.

    Returns:
        The path of ``report.html``.

    Raises:
        InputError: The report exists already, the folder cannot be written or was begun with another seed, or training
            phantoms would have held-out seeds.
        CanceledError: The user asked to stop; running the same command again goes on.
    """
    report = out / "report.html"
    if report.exists():
        raise exists_error(report)
    if seed + config.training_studies > FIRST_HELD_OUT_SEED:
        raise InputError(
            f"Seeds {seed} to {seed + config.training_studies - 1} for training: some are held out for validation",
            expected=f"seeds below {FIRST_HELD_OUT_SEED}",
        )
    clock = _Clock(progress)
    trainer = Trainer(config.recipe, find_device(device), resume=True)
    options = RunOptions(device=device, seed=seed)
    with local_workers(_processes(), out) as workers:  # later the networks use all processors by themselves
        folders = _make_cohorts(out, config, replace(options, workers=workers), clock)
    _make_synthetic(folders, trainer, options, clock)
    evaluations = _compare_segmenters(folders, trainer, options, clock)
    with clock.part("report"):
        record = {"seconds": clock.seconds, **{name: evaluation_record(found) for name, found in evaluations.items()}}
        with new_file(out / "report.json", force=True) as partial:
            partial.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        write_demo_report(report, folders, evaluations, seconds=clock.seconds, config=config.model_dump(mode="json"))
    progress.update(1.0, "done")
    return report


def _make_cohorts(out: Path, config: DemoConfig, options: RunOptions, clock: _Clock) -> DemoFolders:
    """Make the phantoms and register them."""
    folders = DemoFolders(out)
    counts = (config.training_studies, config.validation_studies)
    first = (options.seed, FIRST_HELD_OUT_SEED + options.seed)
    with clock.part("phantoms") as part:
        for cohort, count, seed, piece in zip(
            (folders.phantoms, folders.validation_phantoms), counts, first, _split(part, counts), strict=True
        ):
            names = {
                phantom_id(each, preset=Preset.SMALL, variant=Variant.STANDARD, healthy=False)
                for each in range(seed, seed + count)
            }
            _refuse_others(cohort, names)
            make_phantoms(
                cohort,
                range(seed, seed + count),
                preset=Preset.SMALL,
                variant=Variant.STANDARD,
                workers=options.workers,
                progress=piece,
            )
    with clock.part("register") as part:
        for source, target, piece in zip(
            (folders.phantoms, folders.validation_phantoms),
            (folders.real, folders.validation),
            _split(part, counts),
            strict=True,
        ):
            config_ = config.recipe.register_studies
            raise_failures(register_cohort(source, target, config=config_, options=options, progress=piece))
    return folders


def _refuse_others(cohort: Path, names: set[str]) -> None:
    """Refuse a cohort that holds other phantoms: they would be learned from and counted too."""
    there = {folder.name for folder in cohort.glob("*") if (folder / STUDY_FILE).is_file()}
    if others := there - names:
        raise InputError(
            f"'{cohort.parent.name}' holds {min(others)}: it was begun with another seed or other sizes",
            expected="the settings it was begun with",
            remedy="Choose another output",
        )


def _make_synthetic(folders: DemoFolders, trainer: Trainer, options: RunOptions, clock: _Clock) -> None:
    """Train stages 2 and 3 and make the synthetic pairs."""
    cohorts = Cohorts((folders.real,), (folders.validation,))
    recipe = trainer.config
    with clock.part("train inpainter") as part:
        inpainter = trainer.inpainter(cohorts, folders.inpainter, part)
    with clock.part("inpaint") as part:
        inpaint_cohort(
            folders.real, folders.normal, model=inpainter, config=recipe.inpaint, options=options, progress=part
        )
    with clock.part("train autoencoder") as part:
        autoencoder = trainer.autoencoder(cohorts, folders.autoencoder, part)
    with clock.part("train denoiser") as part:
        pairs = Cohorts((folders.real,), normal=(folders.normal,))
        synthesizer = trainer.synthesizer(pairs, autoencoder, folders.synthesizer, part)
    with clock.part("synthesize") as part:
        synthesize_cohort(
            folders.normal,
            folders.synthetic,
            model=synthesizer,
            pairs=recipe.pairs,
            config=recipe.synthesize,
            options=options,
            progress=part,
        )


def _compare_segmenters(
    folders: DemoFolders, trainer: Trainer, options: RunOptions, clock: _Clock
) -> dict[str, Evaluation]:
    """Train stage 4 on real and on real + synthetic studies, and evaluate both beside two baselines."""
    with clock.part("train segmenter on real") as part:
        real = trainer.segmenter(Cohorts((folders.real,), (folders.validation,)), folders.segmenter(REAL), part)
    with clock.part("train segmenter on real + synthetic") as part:
        cohorts = Cohorts((folders.real, folders.synthetic), (folders.validation,))
        both = trainer.segmenter(cohorts, folders.segmenter(BOTH), part)
    models = {UNTRAINED: _untrained(trainer, folders.segmenter(UNTRAINED)), REAL: real, BOTH: both}
    with clock.part("segment and evaluate") as part:
        _segment_by_threshold(folders.validation, folders.segmented(THRESHOLD), part.part(0.0, 0.1))
        for piece, (name, model) in zip(_split(part.part(0.1, 0.7), (1, 1, 1)), models.items(), strict=True):
            segment_cohort(
                folders.validation,
                folders.segmented(name),
                model=model,
                config=SegmentConfig(overlap=SEGMENT_OVERLAP, sure_tumor=0.0),  # minutes of training make nobody sure
                options=options,
                progress=piece,
            )
        return {
            name: evaluate_cohort(folders.segmented(name), folders.validation, progress=piece)
            for name, piece in zip((THRESHOLD, *models), _split(part.part(0.7, 1.0), (1, 1, 1, 1)), strict=True)
        }


def _untrained(trainer: Trainer, run: Path) -> Path:
    """Write the segmenter as it is before training, and return its model folder."""
    model = run / MODEL_FOLDER
    config = trainer.config.train_segmenter
    if not model.exists():
        card = ModelCard(
            kind=ModelKind.SEGMENTER,
            name=UNTRAINED,
            spacing_mm=config.spacing_mm,
            window_hu=config.window_hu,
            networks={NETWORK: config.network.model_dump(mode="json")},
            versions=software_versions(),
            seed=config.loop.seed,
            training_data="none",
            intended_use="comparison only",
        )
        save_model(model, card, {NETWORK: fresh_segmenter(config.network, seed=config.loop.seed).state_dict()})
    return model


def _segment_by_threshold(source: Path, out: Path, progress: Progress) -> None:
    todo = [job for job in jobs_of(source, out) if not job.target.exists()]
    if todo:
        process_cohort(
            todo,
            lambda job, _: write_segmentation(threshold_baseline(read_registered(job.source)), job.target),
            force=False,
            progress=progress,
        )


def _processes() -> int:
    """Return how many studies can be registered at once: one per processor, where Dask is installed."""
    return min(os.cpu_count() or 1, MOST_PROCESSES) if find_spec("distributed") else 1


def _split(progress: Progress, weights: Sequence[int]) -> list[Progress]:
    """Return one piece of the progress per weight."""
    total = sum(weights)
    ends = [sum(weights[: index + 1]) / total for index in range(len(weights))]
    return [progress.part(begin, end) for begin, end in zip([0.0, *ends[:-1]], ends, strict=True)]
