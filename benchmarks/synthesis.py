"""Measures stage 3 beside its peers and beside ways that must fail: each puts a tumor where a phantom has a true one.

Usage:
  python benchmarks/synthesis.py --out DIR [--model MODEL] [--seeds 1130 1149] [--preset small] [--gold 8]
  python benchmarks/synthesis.py --out DIR --registered COHORT --normal COHORT

Phantoms (odd seeds of the variant ``shifted``) are registered and inpainted, or cohorts are given for which that was
done. Every method gets the normal CT, the true lesion's mask and its family; what it makes is compared with the true
lesion, phase by phase. ``--gold`` lesions are also made with DDPM and 1000 steps. Writes synthesis.md and
synthesis.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import synthesis_peers as peers
from inpainting_cases import RECIPES
from inpainting_classifier import detection_accuracy
from numpy.typing import NDArray
from synthesis_cases import Case, Images, cases_of, inpaint_all, make_cohort
from synthesis_measures import Statistics, features_of, patches_of, places_of, statistics_of

from Diff4MMLiTSLib.core.config import Sampler
from Diff4MMLiTSLib.core.intensity import Window
from Diff4MMLiTSLib.core.phases import ALL_PHASES, Phase
from Diff4MMLiTSLib.core.statistics import Interval, mean_interval, wilcoxon_p
from Diff4MMLiTSLib.phantom.scanner import Preset
from Diff4MMLiTSLib.stages.synthesis import MultimodalCTSynthesizer

MODELS = RECIPES.parent / "Models"
TRUE = "true lesions, registered"
OURS = "Diff4MMLiTS, 20 steps"
GOLD = "Diff4MMLiTS, DDPM 1000 steps"
ALIGNED = 0.7
"""Shifts up to this part of a voxel's diagonal cannot be told on the grid."""
MEASURES = ("contrast_hu", "texture", "structure", "sharpness")
SIGNIFICANT = 0.01
"""Of Wilcoxon's signed-rank test over lesions, against ours."""


@dataclass(frozen=True, eq=False)
class Made:
    """What a method made of one case."""

    statistics: Mapping[Phase, Statistics]
    features: NDArray[np.float64]
    patches: NDArray[np.float32]
    seconds: float


def methods_of(model: MultimodalCTSynthesizer, cases: Sequence[Case]) -> dict[str, peers.Grower]:
    """Return the methods by name; the last three must come out worse."""
    return {
        OURS: peers.ours(model),
        "copy-paste of a true lesion": peers.copy_paste(cases),
        "hand-crafted (after SyntheticTumors)": peers.hand_crafted,
        "ours, told another family": peers.with_shuffled_conditions(model),
        "ours, random denoiser weights": peers.with_random_weights(model),
        "constant offset of -30 HU": peers.blob,
    }


def make(case: Case, grow: peers.Grower, model: MultimodalCTSynthesizer, seed: int) -> Made:
    """Let a method put a tumor into a case, and measure it."""
    started = time.process_time()
    images = grow(case, seed)
    return measure(case, images, model, time.process_time() - started)


def measure(case: Case, images: Images, model: MultimodalCTSynthesizer, seconds: float) -> Made:
    """Measure a tumor in the case's mask, at the same places for every method."""
    places = places_of(case, np.random.default_rng(0))
    features = features_of(case, images, model.autoencoder, Window(*model.card.window_hu))
    return Made(statistics_of(case, images), features, patches_of(case, images, places), seconds)


@dataclass(frozen=True)
class Row:
    """One method: distances to the true lesions, smaller is better, with intervals over lesions."""

    method: str
    contrast_hu: Interval
    texture: Interval
    structure: Interval
    sharpness: Interval
    curve_hu: Interval
    features: Interval
    misaligned: Interval
    diversity: float
    detected: float
    seconds: float
    gaps: Mapping[str, Sequence[float]]

    def worse_than(self, other: Row) -> list[str]:
        """Return the measures in which this method is farther from the true lesions, and not by chance."""
        found = []
        for name, values in self.gaps.items():
            difference = np.subtract(values, other.gaps[name])
            difference = difference[np.isfinite(difference)]
            if difference.any() and difference.mean() > 0 and wilcoxon_p(difference) < SIGNIFICANT:
                found.append(name.removesuffix("_hu"))
        return found


def compare(name: str, made: Sequence[Made], true: Sequence[Made], cases: Sequence[Case]) -> Row:
    """Return the row of a method that made the same cases."""
    scale = np.std([item.features for item in true], axis=0) + 1e-3
    studies = np.repeat([case.number for case in cases], [len(item.patches) for item in made])
    pairs = list(zip(made, true, strict=True))
    gaps = {measure: [_gap(m, t, measure) for m, t in pairs] for measure in MEASURES}
    gaps["curve_hu"] = [_curve_gap(m, t) for m, t in pairs]
    gaps["features"] = [float(np.sqrt(np.mean(((m.features - t.features) / scale) ** 2))) for m, t in pairs]
    gaps["misaligned"] = [_misaligned(item, case) for item, case in zip(made, cases, strict=True)]
    return Row(
        method=name,
        **{measure: _interval(values) for measure, values in gaps.items()},
        diversity=_spread(made) / max(_spread(true), 1e-6),
        detected=detection_accuracy(_joined(true), _joined(made), studies) if made is not true else float("nan"),
        seconds=float(np.mean([item.seconds for item in made])),
        gaps=gaps,
    )


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown."""
    names = ["contrast HU", "texture", "structure", "sharpness", "curve HU", "features", "misaligned"]
    names += ["diversity", "detected", "s", f"worse than ours in (p < {SIGNIFICANT:g})"]
    lines = ["| method | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    ours = next((row for row in rows if row.method == OURS), None)
    for row in rows:
        measured = (row.contrast_hu, row.texture, row.structure, row.sharpness)
        measured += (row.curve_hu, row.features, row.misaligned)
        digits = (1, 2, 2, 2, 1, 2, 2)
        cells = [f"{m.mean:.{d}f} ({m.low:.{d}f}–{m.high:.{d}f})" for m, d in zip(measured, digits, strict=True)]
        cells += [f"{row.diversity:.2f}", f"{row.detected:.0%}" if np.isfinite(row.detected) else "–"]
        is_comparable = ours is not None and row.contrast_hu.count == ours.contrast_hu.count  # the same lesions
        cells += [f"{row.seconds:.1f}", ", ".join(row.worse_than(ours)) if ours and is_comparable else "–"]
        lines.append(f"| {row.method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _joined(made: Sequence[Made]) -> NDArray[np.float32]:
    return np.concatenate([item.patches for item in made])


def _gap(made: Made, true: Made, name: str) -> float:
    """Return the mean absolute difference of a measure over the phases."""
    gaps = [abs(getattr(made.statistics[p], name) - getattr(true.statistics[p], name)) for p in made.statistics]
    return float(np.nanmean(gaps)) if np.isfinite(gaps).any() else float("nan")


def _curve_gap(made: Made, true: Made) -> float:
    """Return the distance of the enhancement curves, the mean contrast taken away: their shape alone."""
    curves = [np.array([item.statistics[p].contrast_hu for p in made.statistics]) for item in (made, true)]
    first, second = (curve - curve.mean() for curve in curves)
    return float(np.sqrt(np.mean((first - second) ** 2)))


def _misaligned(made: Made, case: Case) -> float:
    """Return the part of the phases in which the tumor is seen elsewhere than in its mask."""
    limit = ALIGNED * float(np.linalg.norm(case.study.grid.spacing_mm))
    shifts = np.array([s.shift_mm for s in made.statistics.values()])
    shifts = shifts[np.isfinite(shifts)]
    return float((shifts > limit).mean()) if shifts.size else float("nan")


def _spread(made: Sequence[Made]) -> float:
    """Return the mean deviation, over the lesions, of the contrast in a phase."""
    values = [[m.statistics[p].contrast_hu for m in made if p in m.statistics] for p in ALL_PHASES]
    return float(np.mean([np.std(part) for part in values if len(part) > 1]))


def _interval(values: Sequence[float]) -> Interval:
    known = np.array([value for value in values if np.isfinite(value)])
    return mean_interval(known, np.random.default_rng(0))


def _run(cases: Sequence[Case], model: MultimodalCTSynthesizer, gold: int, save: Callable[[list[Row]], None]) -> None:
    """Make and compare everything; rows are saved after each method."""
    true = [measure(case, peers.images_of(case.study.phases), model, 0.0) for case in cases]
    rows = [compare(TRUE, true, true, cases)]
    for name, grow in methods_of(model, cases).items():
        made = [make(case, grow, model, seed) for seed, case in enumerate(cases)]
        rows.append(compare(name, made, true, cases))
        save(rows)
    if gold:
        chosen, grow = cases[:gold], peers.ours(model, Sampler.DDPM, 1000)
        for name, method in ((GOLD, grow), (f"{OURS} (the same lesions)", peers.ours(model))):
            made = [make(case, method, model, seed) for seed, case in enumerate(chosen)]
            rows.append(compare(name, made, true[:gold], chosen))
            save(rows)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=MODELS / "phantom-synthesizer")
    parser.add_argument("--inpainter", type=Path, default=MODELS / "phantom-inpainter")
    parser.add_argument("--seeds", type=int, nargs=2, default=(1130, 1149))
    parser.add_argument("--preset", type=Preset, default=Preset.SMALL)
    parser.add_argument("--registered", type=Path)
    parser.add_argument("--normal", type=Path)
    parser.add_argument("--lesions", type=int, default=10_000, help="stop after so many")
    parser.add_argument("--gold", type=int, default=0)
    options = parser.parse_args()
    registered = options.registered or options.out / "registered"
    if not options.registered:
        make_cohort(range(options.seeds[0], options.seeds[1] + 1), options.preset, registered)
    normal = options.normal or options.out / "normal"
    if not options.normal:
        inpaint_all(registered, normal, options.inpainter)
    cases = [case for _, case in zip(range(options.lesions), cases_of(registered, normal), strict=False)]
    options.out.mkdir(parents=True, exist_ok=True)

    def save(rows: list[Row]) -> None:
        head = f"{len(cases)} lesions of {len({case.number for case in cases})} studies\n\n"
        (options.out / "synthesis.md").write_text(head + table(rows), encoding="utf-8")
        (options.out / "synthesis.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))
        print(table(rows), flush=True)

    _run(cases, MultimodalCTSynthesizer.load(options.model), options.gold, save)


if __name__ == "__main__":
    main()
