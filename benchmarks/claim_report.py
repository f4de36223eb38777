"""What ``claim.py`` found: a row per arm, with intervals over studies and paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from Diff4MMLiTSLib.core.statistics import Interval, PairedComparison, compare_paired, mean_interval
from Diff4MMLiTSLib.reporting.scores import Evaluation

BASELINE = "c"
"""The arm that the others are compared with."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """An arm's scores on one split (fractions, and ml), means over its seeds; intervals are over studies."""

    name: str
    words: str
    seeds: tuple[int, ...]
    dsc: Interval
    dsc_of_seeds: tuple[float, ...]
    jaccard: Interval
    recall: float
    precision: float
    false_ml: float
    """In studies without tumors."""
    liver: float
    against_c: PairedComparison | None


def rows_of(found: Mapping[str, Sequence[Evaluation]], words: Mapping[str, str], seeds: Sequence[int]) -> list[Row]:
    """Compare the arms, each with ``c`` where it is among them, study by study.

    Args:
        found: By arm, its evaluations, one per seed, on the same studies.
        words: What the tables call the arms.
        seeds: Seeds of the evaluations.
    """
    base = _per_study(found[BASELINE], "dsc") if BASELINE in found else None
    return [_row(name, words[name], seeds, evaluations, base) for name, evaluations in found.items()]


def _row(
    name: str, words: str, seeds: Sequence[int], evaluations: Sequence[Evaluation], base: FloatArray | None
) -> Row:
    dsc, jaccard = _per_study(evaluations, "dsc"), _per_study(evaluations, "jaccard")
    detections = [evaluation.detection() for evaluation in evaluations]
    is_compared = base is not None and name != BASELINE
    return Row(
        name=name,
        words=words,
        seeds=tuple(seeds),
        dsc=mean_interval(dsc, np.random.default_rng(0)),
        dsc_of_seeds=tuple(evaluation.interval("tumor", "dsc").mean for evaluation in evaluations),
        jaccard=mean_interval(jaccard, np.random.default_rng(0)),
        recall=sum(d.found for d in detections) / max(1, sum(d.truth for d in detections)),
        precision=sum(d.right for d in detections) / max(1, sum(d.predicted for d in detections)),
        false_ml=float(np.mean([_false_ml(evaluation) for evaluation in evaluations])),
        liver=float(np.mean([evaluation.interval("liver", "dsc").mean for evaluation in evaluations])),
        against_c=compare_paired(dsc, base, np.random.default_rng(0)) if is_compared else None,
    )


def _per_study(evaluations: Sequence[Evaluation], metric: str) -> FloatArray:
    """Return the mean over seeds of every study with tumors, in the order of their ids."""
    scores = [evaluation.metric("tumor", metric) for evaluation in evaluations]
    return np.array([np.mean([score[study] for score in scores]) for study in sorted(scores[0])])


def _false_ml(evaluation: Evaluation) -> float:
    """Return the mean volume that is called tumor in studies without tumors."""
    volumes = [sum(lesion.volume_ml for lesion in study.false_positives) for study in evaluation.tumor_free]
    return float(np.mean(volumes)) if volumes else float("nan")


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown."""
    columns = (
        "tumor DSC",
        "of each seed",
        "Jaccard",
        "recall",
        "precision",
        "false, ml",
        "liver DSC",
        "DSC minus c",
        "p",
    )
    lines = ["| arm | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in rows:
        paired = row.against_c
        cells = (
            f"{row.name}: {row.words}",
            _interval_text(row.dsc),
            ", ".join(f"{value:.3f}" for value in row.dsc_of_seeds),
            _interval_text(row.jaccard),
            f"{row.recall:.2f}",
            f"{row.precision:.2f}",
            f"{row.false_ml:.1f}",
            f"{row.liver:.3f}",
            _interval_text(paired.difference) if paired else "–",
            f"{paired.wilcoxon_p:.3g}" if paired else "–",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def pooled_table(splits: Sequence[Mapping[str, Sequence[Evaluation]]]) -> str:
    """Return the differences between all arms over several splits as Markdown.

    Args:
        splits: By arm, its evaluations, of the same patients in every split (a phantom's variants are one patient).
    """
    scores = {name: np.mean([_per_study(found[name], "dsc") for found in splits], axis=0) for name in splits[0]}
    lines = ["| difference of tumor DSC, per patient | mean | Wilcoxon p | permutation p |", "|---|---|---|---|"]
    for second, first in combinations(scores, 2):
        paired = compare_paired(scores[first], scores[second], np.random.default_rng(0))
        numbers = f"{_interval_text(paired.difference)} | {paired.wilcoxon_p:.2g} | {paired.permutation_p:.2g}"
        lines.append(f"| {first} - {second} | {numbers} |")
    return "\n".join(lines) + "\n"


def draw(splits: Mapping[str, Sequence[Row]], path: Path) -> None:
    """Draw every arm's tumor DSC and its difference to ``c``, with their intervals, one color per split.

    Args:
        splits: Rows by the split's name, the same arms in each.
        path: PNG to write.
    """
    figure, (scores, differences) = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    for offset, (color, (split, rows)) in enumerate(zip(("tab:blue", "tab:orange"), splits.items(), strict=False)):
        for height, row in enumerate(reversed(rows)):
            at = height + 0.12 - 0.24 * offset
            paired = row.against_c.difference if row.against_c else None
            for axis, interval in ((scores, row.dsc), (differences, paired)):
                if interval is not None:
                    axis.plot([interval.low, interval.high], [at, at], color=color, linewidth=2, alpha=0.6)
                    axis.plot(interval.mean, at, "o", color=color, label=split if height == 0 else None)
    rows = list(reversed(next(iter(splits.values()))))
    scores.set(yticks=range(len(rows)), yticklabels=[f"{row.name}: {row.words}" for row in rows], xlabel="tumor DSC")
    differences.set(xlabel="difference of tumor DSC to c")
    differences.axvline(0, color="gray", linewidth=1)
    scores.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _interval_text(interval: Interval) -> str:
    return f"{interval.mean:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def record_of(row: Row) -> Mapping[str, object]:
    """Return a row as plain JSON values."""
    paired = row.against_c
    values = {name: value for name, value in vars(row).items() if name != "against_c"}
    values |= {name: vars(values[name]) for name in ("dsc", "jaccard")}
    against = {"difference": vars(paired.difference), "wilcoxon_p": paired.wilcoxon_p} if paired else None
    return {**values, "against_c": against}
