"""The command that keeps a model warm: serve."""

from __future__ import annotations

import io
import sys
from argparse import ArgumentParser, Namespace

from ..arguments import add_device, add_model
from ..core.progress import Progress
from .command import Command


def _serve_arguments(parser: ArgumentParser) -> None:
    add_model(parser, "segmenter")
    add_device(parser)


def _serve(options: Namespace, progress: Progress) -> None:
    from ..pipeline import find_device
    from ..server import serve
    from ..stages.segmentation import MultimodalSegmenter

    if isinstance(sys.stdin, io.TextIOWrapper):  # paths are UTF-8 whatever the locale; what is not is a bad request
        sys.stdin.reconfigure(encoding="utf-8", errors="backslashreplace")
    segmenter = MultimodalSegmenter.load(options.model, find_device(options.device))
    serve(segmenter, sys.stdin, sys.stdout, progress=progress)


COMMANDS = (
    Command(
        "serve",
        "Correct segmentations by clicks: one JSON request a line on standard input, answers on standard output.",
        _serve_arguments,
        _serve,
    ),
)
