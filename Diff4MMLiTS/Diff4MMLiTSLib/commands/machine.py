"""Commands that show what the software and the machine can do: demo, doctor."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..arguments import add_device, add_settings, natural
from ..core.progress import Progress
from .command import Command

DEMO_RECIPE = Path(__file__).parents[2] / "Resources" / "Recipes" / "demo.toml"


def _demo_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="new folder for everything the demo makes")
    add_settings(parser)
    add_device(parser)
    parser.add_argument("--seed", type=natural, default=0, help="seed of everything random")


def _demo(options: Namespace, progress: Progress) -> Path:
    from ..core.config import DemoConfig, load_config
    from ..demo import run_demo

    config = load_config(DemoConfig, options.config or DEMO_RECIPE, options.assignments)
    return run_demo(options.out, config=config, device=options.device, seed=options.seed, progress=progress)


def _doctor_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _doctor(options: Namespace, _progress: Progress) -> None:
    from ..doctor import as_json, as_text, diagnose

    found = diagnose()
    print(as_json(found) if options.json else as_text(found))


COMMANDS = (
    Command(
        "demo", "The four stages on phantoms, small networks trained on the spot, and a report.", _demo_arguments, _demo
    ),
    Command("doctor", "Say what this machine has and what is missing.", _doctor_arguments, _doctor),
)
