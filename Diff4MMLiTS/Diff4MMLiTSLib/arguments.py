"""Arguments that several commands share, and how their texts are read."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser
from pathlib import Path

from .core.errors import InputError
from .core.phases import ALL_PHASES, Phase, parse_phase

BUNDLED_MODELS = Path(__file__).parents[1] / "Resources" / "Models"


def add_stage(parser: ArgumentParser) -> None:
    """Declare what every stage takes: studies, output, settings, device, processes."""
    parser.add_argument("source", metavar="IN", type=Path, help="study folder, or cohort of study folders")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder that receives one folder per study")
    add_settings(parser)
    add_device(parser)
    add_force(parser)
    add_workers(parser)


def add_workers(parser: ArgumentParser) -> None:
    """Declare ``--workers`` and ``--scheduler``."""
    parser.add_argument("--workers", type=positive, default=1, help="processes on this machine (needs dask)")
    parser.add_argument("--scheduler", default="", help="address of a Dask scheduler, for example tcp://head:8786")


def add_settings(parser: ArgumentParser) -> None:
    """Declare ``--config`` and ``--set``."""
    parser.add_argument("--config", type=Path, help="TOML file with settings")
    parser.add_argument(
        "--set",
        dest="assignments",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one setting; repeatable",
    )


def add_device(parser: ArgumentParser) -> None:
    """Declare ``--device``."""
    parser.add_argument("--device", default="auto", help="auto, cpu, or cuda:N")


def add_force(parser: ArgumentParser) -> None:
    """Declare ``--force``."""
    parser.add_argument("--force", action="store_true", help="replace what is there already")


def add_model(parser: ArgumentParser, kind: str) -> None:
    """Declare ``--model``; the bundled model of the kind is the default, if there is one."""
    bundled = BUNDLED_MODELS / f"phantom-{kind}"
    if bundled.is_dir():
        parser.add_argument(
            "--model", type=Path, default=bundled, help=f"model folder (default: the bundled {bundled.name})"
        )
    else:
        parser.add_argument("--model", type=Path, required=True, help=f"model folder of kind {kind}")


def named_folder(text: str) -> tuple[str, Path]:
    """Read ``NAME=FOLDER``, or a folder, which gets its own name."""
    name, equals, folder = text.partition("=")
    if equals and not Path(text).exists():
        return name, Path(folder)
    return Path(text).resolve().name, Path(text)


def phase(text: str) -> Phase:
    """Read ``AP``."""
    try:
        return parse_phase(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def phase_of_number(text: str) -> tuple[int, Phase]:
    """Read ``3=AP``."""
    number, _, name = text.partition("=")
    if not number.strip().isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not NUMBER=PHASE with one of {', '.join(ALL_PHASES)}")
    try:
        return int(number), parse_phase(name)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> int:
    """Read a whole number above 0."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0")
    return int(text)


def natural(text: str) -> int:
    """Read a whole number from 0 on."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 on")
    return int(text)
