"""Measures what feeding a training costs: preparing studies, reading them from the cache, and waiting for patches.

Usage:
  diff4mmlits phantom RAW --count 4 --seed 0 --preset small
  diff4mmlits register RAW REGISTERED
  python benchmarks/training.py REGISTERED --out OUT [--recipe demo.toml] [--steps 20]

REGISTERED holds registered studies with labels. Per number of threads that prepare patches ("workers"), the segmenter
of the recipe takes the same steps; "wait" is the part of a step in which it has no items yet (``data_wait_fraction``
in ``metrics.jsonl``). Processor seconds are given besides wall-clock seconds: on a shared machine only they compare.
Writes training.md and training.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from Diff4MMLiTSLib.core.config import DemoConfig, SegmenterTrainConfig, TrainConfig, load_config
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.training.cache import cache_bytes
from Diff4MMLiTSLib.training.cohorts import load_cohort
from Diff4MMLiTSLib.training.datasets import WorkingStudy, data_hash
from Diff4MMLiTSLib.training.segmenter_task import segmenter_task
from Diff4MMLiTSLib.training.trainer import LOG_EVERY, train

WORKERS = (0, 1, 2, 4)
DEMO = Path(__file__).parents[1] / "Diff4MMLiTS" / "Resources" / "Recipes" / "demo.toml"


@dataclass(frozen=True)
class Timing:
    """How long something took.

    Args:
        what: Its name.
        wall_s: By the clock.
        processor_s: Of this process, all threads together.
        wait: Part of a step's time without items; None where there are no steps.
    """

    what: str
    wall_s: float
    processor_s: float
    wait: float | None = None


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, default=DEMO, help="of the demo, or of train")
    parser.add_argument("--steps", type=int, default=20, help=f"at least {LOG_EVERY}")
    options = parser.parse_args()
    config = segmenter_settings(options.recipe)
    with tempfile.TemporaryDirectory() as folder:
        studies, timings = measure_loading(options.cohort, config, Path(folder) / "cache")
        size = cache_bytes(Path(folder) / "cache")
        for workers in WORKERS:
            run = Path(folder) / f"run-{workers}"
            timings.append(measure_steps(studies, config, workers=workers, steps=options.steps, run=run))
    write(
        options.out, timings, f"{size[0]} studies, {size[1] / 1e6:.1f} MB prepared, {torch.get_num_threads()} threads"
    )


def segmenter_settings(recipe: Path) -> SegmenterTrainConfig:
    """Return the segmenter's settings of the demo's recipe, or of one for ``train``."""
    if "[recipe" in recipe.read_text(encoding="utf-8"):
        return load_config(DemoConfig, recipe).recipe.train_segmenter
    return load_config(TrainConfig, recipe).train_segmenter


def measure_loading(
    cohort: Path, config: SegmenterTrainConfig, cache: Path
) -> tuple[tuple[WorkingStudy, ...], list[Timing]]:
    """Load a cohort without a cache, into an empty one, and from it; all three must be the same."""
    found: list[tuple[WorkingStudy, ...]] = []
    timings = []
    for what, folder in (("prepared", None), ("prepared and kept", cache), ("from the cache", cache)):

        def load(folder: Path | None = folder) -> None:
            spacing_mm = config.spacing_mm
            found.append(load_cohort([cohort], spacing_mm=spacing_mm, margin_mm=None, progress=silent(), cache=folder))

        timings.append(timed(what, load))
    assert len({data_hash(studies) for studies in found}) == 1
    return found[-1], timings


def measure_steps(
    studies: tuple[WorkingStudy, ...], config: SegmenterTrainConfig, *, workers: int, steps: int, run: Path
) -> Timing:
    """Train the segmenter for some steps; the first of them are not counted."""
    loop = config.loop.model_copy(update={"steps": steps, "workers": workers, "validate_every": 0})
    task = segmenter_task(config, studies, [replace(studies[0], study_id="measured", source_study="")])
    task = replace(task, validate=lambda: {"score": 0.0})
    timing = timed(
        f"{steps} steps, {workers} workers",
        lambda: train(task, config=loop, run=run, resume=False, device="cpu", progress=silent()),
    )
    last = json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    return replace(timing, wait=last["data_wait_fraction"])


def timed(what: str, work: Callable[[], object]) -> Timing:
    """Return how long some work took."""
    wall, processor = time.monotonic(), time.process_time()
    work()
    return Timing(what, time.monotonic() - wall, time.process_time() - processor)


def write(out: Path, timings: list[Timing], title: str) -> None:
    """Write the table for people and for programs."""
    out.mkdir(parents=True, exist_ok=True)
    lines = [title, "", "| what | wall s | processor s | wait |", "|---|---|---|---|"]
    for timing in timings:
        wait = "" if timing.wait is None else f"{timing.wait:.1%}"
        lines.append(f"| {timing.what} | {timing.wall_s:.2f} | {timing.processor_s:.2f} | {wait} |")
    (out / "training.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (out / "training.json").write_text(json.dumps([asdict(timing) for timing in timings], indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
