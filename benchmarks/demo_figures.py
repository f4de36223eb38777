"""Writes the pictures of a demo's report as files for the documentation.

Usage:
  make demo OUT=demo
  python benchmarks/demo_figures.py demo docs/figures
"""

from __future__ import annotations

import argparse
import base64
import re
from pathlib import Path

NAMES = ("demo_phases", "demo_registration", "demo_inpainting", "demo_synthesis")
"""The first pictures of the report, in its order: input, stages 1, 2 and 3."""
SEGMENTATION = "demo_segmentation"


def main() -> None:
    """Decode the embedded pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="the demo's folder")
    parser.add_argument("out", type=Path, help="folder for the pictures")
    arguments = parser.parse_args()
    html = (arguments.demo / "report.html").read_text(encoding="utf-8")
    stage_4 = html.index("Stage 4: the Multimodal Segmenter</h2>")
    pictures = dict(zip(NAMES, _pictures(html[:stage_4]), strict=False))
    pictures[SEGMENTATION] = _pictures(html[stage_4:])[1]  # after the scores
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, content in pictures.items():
        (arguments.out / f"{name}.png").write_bytes(content)


def _pictures(html: str) -> list[bytes]:
    return [base64.b64decode(found) for found in re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", html)]


if __name__ == "__main__":
    main()
