"""Entry point of ``python -m Diff4MMLiTSLib`` and of the command ``diff4mmlits``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

os.environ.pop("ITK_AUTOLOAD_PATH", None)  # Slicer's launcher sets it, and SimpleITK then crashes in a child process


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; see ``cli``."""
    from .cli import run

    return run(sys.argv[1:] if arguments is None else list(arguments))


if __name__ == "__main__":
    sys.exit(main())
