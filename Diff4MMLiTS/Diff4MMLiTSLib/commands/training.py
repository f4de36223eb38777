"""Commands around the networks: train, cache, evaluate."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..arguments import add_device, add_force, named_folder
from ..core.progress import Progress
from .command import Command

if TYPE_CHECKING:
    from ..recipes import Trainer


CACHE_FOLDER = "training-cache"
NO_CACHE = "none"


def _train_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, help="TOML file: what to train, on which cohorts")
    parser.add_argument("--out", type=Path, required=True, help="run folder; the model appears in it as model/")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    parser.add_argument(
        "--dry-run", action="store_true", help="only say what would be done, and what time, memory and disk it takes"
    )
    parser.add_argument("--json", action="store_true", help="print what --dry-run found as one JSON object")
    parser.add_argument(
        "--cache",
        metavar="DIR",
        help=f'folder of prepared studies (default: {CACHE_FOLDER} beside the run folder); "{NO_CACHE}" keeps none',
    )
    parser.add_argument(
        "--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE", help="change one setting"
    )
    add_device(parser)


def _train(options: Namespace, progress: Progress) -> Path | None:
    from ..core.config import TrainConfig, load_config
    from ..pipeline import find_device
    from ..recipe_runs import train_recipe
    from ..recipes import Trainer

    config = load_config(TrainConfig, options.recipe, options.assignments)
    cache = options.out.parent / CACHE_FOLDER if options.cache is None else Path(options.cache)
    kept = None if options.cache == NO_CACHE else cache
    trainer = Trainer(config, find_device(options.device), options.resume, kept)
    if options.dry_run:
        _rehearse(trainer, options, progress)
        return None
    is_main = os.environ.get("RANK", "0") == "0"  # of the processes that accelerate launch started
    seen = progress if is_main else replace(progress, report=lambda _fraction, _stage, _message: None)
    model = train_recipe(trainer, options.out, folder=options.recipe.parent, progress=seen)
    return model if is_main else None


def _rehearse(trainer: Trainer, options: Namespace, progress: Progress) -> None:
    from ..core.errors import InputError
    from ..dry_run import as_json, as_text, plan_recipe

    plan = plan_recipe(trainer, options.out, folder=options.recipe.parent, progress=progress)
    print(as_json(plan) if options.json else as_text(plan))
    if plan.refused:
        raise InputError(
            f"{len(plan.refused)} studies would be refused, the first is {plan.refused[0].name}",
            expected="studies that may be learned from",
            remedy="Correct them, or leave them out of the recipe's cohorts",
        )


def _cache_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", type=Path, help=f"the cache, for example {CACHE_FOLDER}")
    parser.add_argument("--clear", action="store_true", help="remove what it holds")


def _cache(options: Namespace, _progress: Progress) -> None:
    from ..core.errors import InputError
    from ..training.cache import cache_bytes, clear_cache

    if not options.folder.is_dir():
        raise InputError(f"There is no folder '{options.folder.name}'", remedy="Check the path")
    entries, size = cache_bytes(options.folder)
    if options.clear:
        clear_cache(options.folder)
    print(f"{entries} prepared studies, {size / 1e9:.2f} GB" + (": removed" if options.clear else ""))


def _evaluate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "predicted",
        nargs="+",
        metavar="PREDICTED",
        type=named_folder,
        help='what "segment" wrote; several methods are compared (FOLDER, or NAME=FOLDER to give it another name)',
    )
    parser.add_argument("truth", metavar="TRUTH", type=Path, help="the same studies with annotated masks")
    parser.add_argument("--out", type=Path, required=True, help="new report, for example report.json")
    parser.add_argument("--against", metavar="NAME", help="the method to compare the others with (default: the first)")
    add_force(parser)


def _evaluate(options: Namespace, progress: Progress) -> Path:
    from ..core.errors import InputError
    from ..reporting.comparison import evaluate_methods, write_comparison
    from ..reporting.evaluation import evaluate_cohort, report_paths, write_evaluation

    report_paths(options.out, force=options.force)  # said now, not after all the work
    methods: dict[str, Path] = dict(options.predicted)
    if len(methods) < len(options.predicted):
        raise InputError("Two methods have one name", expected="NAME=FOLDER with different names")
    baseline = options.against or next(iter(methods))
    if baseline not in methods:
        raise InputError(f"There is no method '{baseline}'", expected="one of " + ", ".join(methods))
    if len(methods) > 1:
        found = evaluate_methods(methods, options.truth, progress=progress)
        write_comparison(found, options.out, baseline=baseline, force=options.force)
    else:
        evaluation = evaluate_cohort(methods[baseline], options.truth, progress=progress)
        write_evaluation(evaluation, options.out, force=options.force)
    return Path(options.out)


COMMANDS = (
    Command("train", "Train the networks of a recipe.", _train_arguments, _train),
    Command("cache", "Show what training keeps of prepared studies, or remove it.", _cache_arguments, _cache),
    Command(
        "evaluate",
        "Compare segmentations with annotations, or methods.",
        _evaluate_arguments,
        _evaluate,
    ),
)
