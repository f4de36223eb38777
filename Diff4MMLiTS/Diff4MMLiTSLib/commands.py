"""What each command takes and which one call it makes; heavy packages are imported when a command runs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .arguments import (
    add_device,
    add_force,
    add_model,
    add_settings,
    add_stage,
    add_workers,
    natural,
    phase_of_number,
    positive,
)
from .core.progress import Progress

if TYPE_CHECKING:
    from .cohort import CohortResult
    from .core.config import Settings
    from .pipeline import RunOptions

SettingsT = TypeVar("SettingsT", bound="Settings")
DEMO_RECIPE = Path(__file__).parents[1] / "Resources" / "Recipes" / "demo.toml"


@dataclass(frozen=True)
class Command:
    """One command of the command line.

    Args:
        name: What the user types.
        summary: One sentence for ``--help``.
        add_arguments: Declares its arguments.
        run: Does it; returns the path of the result, or None when the result was printed.
    """

    name: str
    summary: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace, Progress], Path | None]


def _demo_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="new folder for everything the demo makes")
    add_settings(parser)
    add_device(parser)
    parser.add_argument("--seed", type=natural, default=0, help="seed of everything random")


def _demo(options: Namespace, progress: Progress) -> Path:
    from .core.config import DemoConfig, load_config
    from .demo import run_demo

    config = load_config(DemoConfig, options.config or DEMO_RECIPE, options.assignments)
    return run_demo(options.out, config=config, device=options.device, seed=options.seed, progress=progress)


def _phantom_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("out", type=Path, help="cohort folder")
    parser.add_argument("--count", type=positive, default=1, help="how many studies")
    parser.add_argument("--seed", type=natural, default=0, help="study i has this seed + i")
    parser.add_argument(
        "--preset", choices=["small", "medium", "full"], default="small", help="3 mm, 1.5 mm, or 512 x 512"
    )
    parser.add_argument("--variant", choices=["standard", "shifted"], default="standard", help="family of phantoms")
    parser.add_argument("--healthy", action="store_true", help="without tumors")
    add_force(parser)
    add_workers(parser)


def _phantom(options: Namespace, progress: Progress) -> Path:
    from .cohort import Workers, make_phantoms
    from .phantom.generator import Variant
    from .phantom.scanner import Preset

    seeds = range(options.seed, options.seed + options.count)
    preset, variant = Preset(options.preset), Variant(options.variant)
    make_phantoms(
        options.out,
        seeds,
        preset=preset,
        variant=variant,
        healthy=options.healthy,
        force=options.force,
        workers=Workers(options.workers, options.scheduler),
        progress=progress,
    )
    return Path(options.out)


def _import_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="CSV table, dataset folder or DICOM folder")
    parser.add_argument("out", type=Path, help="cohort folder")
    parser.add_argument(
        "--from", dest="kind", choices=["table", "dicom", "nnunet", "msd"], required=True, help="what the source is"
    )
    parser.add_argument(
        "--phase",
        dest="phases",
        action="append",
        default=[],
        type=phase_of_number,
        metavar="NUMBER=PHASE",
        help="contrast phase of a listed series or channel, for example 3=AP; may be repeated",
    )
    add_settings(parser)
    add_force(parser)


def _import(options: Namespace, progress: Progress) -> Path:
    from .cohort import CohortResult, raise_failures
    from .core.config import ImportConfig
    from .core.importers import ImportSource, import_studies

    config = _config(ImportConfig, options)
    update: dict[str, object] = {"force": options.force or config.force}
    if options.phases:
        update["phases"] = {**config.phases, **dict(options.phases)}
    report = import_studies(
        options.source,
        options.out,
        source=ImportSource(options.kind),
        options=config.model_copy(update=update),
        progress=progress,
    )
    raise_failures(CohortResult(report.written, report.skipped, dict(report.failed)))
    return Path(options.out)


def _phases_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "sources", nargs="+", type=Path, metavar="SRC", help="image file, DICOM folder, study or cohort"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON array")


def _phases(options: Namespace, progress: Progress) -> None:
    from .core.phase_report import as_json, as_text, check_decided, recognize_phases

    found = recognize_phases(options.sources, progress)
    print(as_json(found) if options.json else as_text(found))
    check_decided(found)


def _register_arguments(parser: ArgumentParser) -> None:
    add_stage(parser)
    parser.add_argument(
        "--method",
        choices=["none", "rigid", "affine", "deformable"],
        help="how far phases may be bent (default: deformable)",
    )
    livers = parser.add_mutually_exclusive_group()
    livers.add_argument("--liver-model", type=Path, help="segmenter that finds the livers that nobody drew")
    livers.add_argument(
        "--totalsegmentator",
        action="store_true",
        help="let TotalSegmentator find them, where it and its weights are installed",
    )


def _register(options: Namespace, progress: Progress) -> Path:
    from .core.config import Method, RegisterConfig
    from .liver_finders import LiverSource
    from .pipeline import register_cohort

    config = _config(RegisterConfig, options)
    if options.method:
        config = config.model_copy(update={"method": Method(options.method)})
    result = register_cohort(
        options.source,
        options.out,
        config=config,
        options=_run_options(options),
        livers=LiverSource(options.liver_model, options.totalsegmentator),
        progress=progress,
    )
    return _finished(result, options)


def _inpaint_arguments(parser: ArgumentParser) -> None:
    add_stage(parser)
    add_model(parser, "inpainter")
    parser.add_argument("--margin-mm", metavar="MM", help="dilation of the tumor mask (default: 5), or auto")
    parser.add_argument("--segmenter", type=Path, help="model folder; it is asked whether tumor is left")


def _inpaint(options: Namespace, progress: Progress) -> Path:
    from .core.config import InpaintConfig
    from .pipeline import inpaint_cohort

    assignments = [f"margin_mm={options.margin_mm}"] if options.margin_mm is not None else []
    config = _config(InpaintConfig, options, assignments)
    run, asked = _run_options(options), options.segmenter
    result = inpaint_cohort(
        options.source, options.out, model=options.model, config=config, options=run, segmenter=asked, progress=progress
    )
    return _finished(result, options)


def _synthesize_arguments(parser: ArgumentParser) -> None:
    add_stage(parser)
    add_model(parser, "synthesizer")
    parser.add_argument("--pairs", type=positive, default=1, help="synthetic pairs per study")
    parser.add_argument("--seed", type=natural, default=0, help="seed of masks and noise")
    parser.add_argument("--tumors", type=positive, help="tumors per pair")
    parser.add_argument("--family", help="hcc, hypovascular, cyst or hemangioma")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--mask", type=Path, help="image file with the tumor mask to use")
    place.add_argument("--center-mm", type=float, nargs=3, metavar=("X", "Y", "Z"), help="center of the tumor, LPS")
    parser.add_argument("--diameter-mm", type=float, nargs=2, metavar=("LO", "HI"), help="range of tumor diameters")


def _synthesize(options: Namespace, progress: Progress) -> Path:
    from .core.config import SynthesizeConfig
    from .pipeline import synthesize_cohort

    assignments = [
        f"{key}={value}"
        for key, value in (
            ("tumor.tumors", options.tumors),
            ("family", options.family),
            ("tumor.center_mm", options.center_mm),
            ("tumor.diameter_mm", options.diameter_mm),
        )
        if value is not None
    ]
    result = synthesize_cohort(
        options.source,
        options.out,
        model=options.model,
        pairs=options.pairs,
        config=_config(SynthesizeConfig, options, assignments),
        options=_run_options(options),
        mask=options.mask,
        progress=progress,
    )
    return _finished(result, options)


def _segment_arguments(parser: ArgumentParser) -> None:
    add_stage(parser)
    add_model(parser, "segmenter")
    parser.add_argument("--probability", action="store_true", help="write the tumor probability too (0 to 255)")


def _segment(options: Namespace, progress: Progress) -> Path:
    from .core.config import SegmentConfig
    from .pipeline import segment_cohort

    config = _config(SegmentConfig, options, ["probability=true"] if options.probability else [])
    run = _run_options(options)
    result = segment_cohort(
        options.source, options.out, model=options.model, config=config, options=run, progress=progress
    )
    return _finished(result, options)


def _train_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, help="TOML file: what to train, on which cohorts")
    parser.add_argument("--out", type=Path, required=True, help="run folder; the model appears in it as model/")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    parser.add_argument(
        "--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE", help="change one setting"
    )
    add_device(parser)


def _train(options: Namespace, progress: Progress) -> Path:
    from .core.config import TrainConfig, load_config
    from .pipeline import find_device
    from .recipes import train_recipe

    config = load_config(TrainConfig, options.recipe, options.assignments)
    folder = options.recipe.parent
    device = find_device(options.device)
    return train_recipe(config, options.out, folder=folder, resume=options.resume, device=device, progress=progress)


def _evaluate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("predicted", type=Path, help='what "segment" wrote')
    parser.add_argument("truth", type=Path, help="the same studies with annotated masks")
    parser.add_argument("--out", type=Path, required=True, help="new report, for example report.json")
    add_force(parser)


def _evaluate(options: Namespace, progress: Progress) -> Path:
    from .reporting.evaluation import evaluate_cohort, write_evaluation

    evaluation = evaluate_cohort(options.predicted, options.truth, progress=progress)
    write_evaluation(evaluation, options.out, force=options.force)
    return Path(options.out)


def _doctor_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _doctor(options: Namespace, _progress: Progress) -> None:
    from .doctor import as_json, as_text, diagnose

    found = diagnose()
    print(as_json(found) if options.json else as_text(found))


COMMANDS = (
    Command(
        "demo", "The four stages on phantoms, small networks trained on the spot, and a report.", _demo_arguments, _demo
    ),
    Command("phantom", "Make digital liver phantoms with known truth.", _phantom_arguments, _phantom),
    Command("import", "Make study folders from a table, nnU-Net, MSD or DICOM.", _import_arguments, _import),
    Command("phases", "Say which contrast phase each volume is, and why.", _phases_arguments, _phases),
    Command("register", "Stage 1: align the phases of each study.", _register_arguments, _register),
    Command("inpaint", "Stage 2: remove annotated tumors from all phases.", _inpaint_arguments, _inpaint),
    Command("synthesize", "Stage 3: put synthetic tumors into tumor-free studies.", _synthesize_arguments, _synthesize),
    Command("segment", "Stage 4: find liver and tumors.", _segment_arguments, _segment),
    Command("train", "Train the networks of a recipe.", _train_arguments, _train),
    Command("evaluate", "Compare segmentations with annotations.", _evaluate_arguments, _evaluate),
    Command("doctor", "Say what this machine has and what is missing.", _doctor_arguments, _doctor),
)


def _config(kind: type[SettingsT], options: Namespace, last: list[str] | None = None) -> SettingsT:
    from .core.config import load_config

    return load_config(kind, options.config, [*options.assignments, *(last or [])])


def _finished(result: CohortResult, options: Namespace) -> Path:
    """Return the output folder, once nothing failed and a single study was not there before."""
    from .cohort import raise_failures
    from .core.files import exists_error
    from .core.study_io import STUDY_FILE

    raise_failures(result)
    if not result.written and (options.source / STUDY_FILE).is_file():
        raise exists_error(options.out / result.skipped[0])
    return Path(options.out)


def _run_options(options: Namespace) -> RunOptions:
    from .cohort import Workers
    from .pipeline import RunOptions

    workers = Workers(options.workers, options.scheduler)
    return RunOptions(options.device, options.force, getattr(options, "seed", 0), workers)
