"""Commands around the networks: train, evaluate."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..arguments import add_device, add_force, named_folder
from ..core.progress import Progress
from .command import Command


def _train_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, help="TOML file: what to train, on which cohorts")
    parser.add_argument("--out", type=Path, required=True, help="run folder; the model appears in it as model/")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    parser.add_argument(
        "--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE", help="change one setting"
    )
    add_device(parser)


def _train(options: Namespace, progress: Progress) -> Path:
    from ..core.config import TrainConfig, load_config
    from ..pipeline import find_device
    from ..recipes import train_recipe

    config = load_config(TrainConfig, options.recipe, options.assignments)
    folder = options.recipe.parent
    device = find_device(options.device)
    return train_recipe(config, options.out, folder=folder, resume=options.resume, device=device, progress=progress)


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
    from ..reporting.evaluation import evaluate_cohort, write_evaluation

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
    Command(
        "evaluate",
        "Compare segmentations with annotations, or methods.",
        _evaluate_arguments,
        _evaluate,
    ),
)
