"""Commands that bring studies in and say what they are: phantom, import, phases."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..arguments import add_force, add_settings, add_workers, natural, phase_of_number, positive
from ..core.progress import Progress
from .command import Command, settings_of


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
    from ..cohort import Workers, make_phantoms
    from ..phantom.generator import Variant
    from ..phantom.scanner import Preset

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
    from ..cohort import CohortResult, raise_failures
    from ..core.config import ImportConfig
    from ..core.importers import ImportSource, import_studies

    config = settings_of(ImportConfig, options)
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
    from ..core.phase_report import as_json, as_text, check_decided, recognize_phases

    found = recognize_phases(options.sources, progress)
    print(as_json(found) if options.json else as_text(found))
    check_decided(found)


COMMANDS = (
    Command("phantom", "Make digital liver phantoms with known truth.", _phantom_arguments, _phantom),
    Command("import", "Make study folders from a table, nnU-Net, MSD or DICOM.", _import_arguments, _import),
    Command("phases", "Say which contrast phase each volume is, and why.", _phases_arguments, _phases),
)
