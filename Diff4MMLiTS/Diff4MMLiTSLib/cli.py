"""The command line: arguments -> configuration -> one call -> exit code.

Exit codes: 0 done, 2 bad input or arguments, 3 missing model or dependency, 4 out of memory, 5 canceled, 1 unexpected.
Heavy packages are imported inside the commands, so that ``--help`` and ``doctor`` work wherever Slicer's Python does.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import NoReturn

from . import __version__, commands
from .commands import Command, CommandGroup
from .core.errors import InputError, explain
from .core.progress import Progress, ProgressStyle, ProgressWriter


def run(arguments: Sequence[str]) -> int:
    """Parse the arguments, run the command, report its result or error, and return the exit code."""
    debug = "--debug" in arguments
    writer = ProgressWriter(_style_of(arguments))
    try:
        options = build_parser().parse_args(arguments)
        _set_up_logging(debug=debug)
        canceled = threading.Event()
        _cancel_on_signals(canceled)
        progress = Progress(writer.report, canceled.is_set, stage=options.command)
        result = options.run(options, progress)
        if result:
            writer.result(str(result))
    except BrokenPipeError:
        return 1
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            logging.getLogger(__name__).exception("The command failed")
        known = explain(error)
        writer.error(known)
        return known.exit_code
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"Bad arguments: {message}", remedy=f'"{self.prog} --help" shows what is valid')


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; each sets ``run(options, progress) -> path of the result``."""
    parser = _Parser(
        prog="diff4mmlits",
        description="Liver tumors in multiphase CT: register, inpaint, synthesize, segment. Not a medical device.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"Diff4MMLiTS {__version__}")
    _add_commands(parser, commands.COMMANDS, "command")
    return parser


def _add_commands(parser: argparse.ArgumentParser, known: Sequence[Command | CommandGroup], dest: str) -> None:
    subparsers = parser.add_subparsers(dest=dest, required=True, metavar=dest.upper(), parser_class=_Parser)
    for command in known:
        child = subparsers.add_parser(
            command.name, help=command.summary, description=command.summary, allow_abbrev=False
        )
        if isinstance(command, CommandGroup):
            _add_commands(child, command.commands, "format")
            continue
        command.add_arguments(child)
        child.add_argument(
            "--progress", choices=list(ProgressStyle), default=ProgressStyle.AUTO, help="how progress is shown"
        )
        child.add_argument("--debug", action="store_true", help="show the traceback of an error")
        child.set_defaults(run=command.run)


def _style_of(arguments: Sequence[str]) -> ProgressStyle:
    """Find the progress style before the arguments are parsed, so that their errors are shown in it too."""
    for index, argument in enumerate(arguments):
        value = argument.partition("=")[2] if argument.startswith("--progress=") else ""
        if argument == "--progress" and index + 1 < len(arguments):
            value = arguments[index + 1]
        if value in list(ProgressStyle):
            return ProgressStyle(value)
    return ProgressStyle.AUTO


def _set_up_logging(*, debug: bool) -> None:
    logging.basicConfig(
        level=logging.INFO if debug else logging.WARNING, stream=sys.stderr, format="%(levelname)s: %(message)s"
    )
    if not debug:
        warnings.simplefilter("ignore")


def _cancel_on_signals(canceled: threading.Event) -> None:
    """Let the first SIGTERM or Ctrl-C end the command at its next step, the second one at once."""

    def handle(_number: int, _frame: object) -> None:
        if canceled.is_set():
            raise KeyboardInterrupt
        canceled.set()

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handle)
        signal.signal(signal.SIGINT, handle)
