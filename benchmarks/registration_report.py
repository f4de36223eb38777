"""Turns what ``benchmarks/registration.py`` measured into tables and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

WHOLE = 0.98
HEAD = "| method | inputs | pairs | median mm | 95 % mm | max mm | seconds |\n|---|---|---|---|---|---|---|\n"


@dataclass(frozen=True)
class Row:
    """One method on one pair: errors at points of the liver and, for this project, what it says about itself.

    Errors are known at the points that the moving phase shows, which are ``scanned_fraction`` of the liver.
    """

    case: str
    phase: str
    method: str
    seconds: float
    displacement_mm: list[float]
    error_mm: list[float]
    qa: dict[str, object]
    scanned_fraction: float = 1.0

    @property
    def is_good(self) -> bool:
        """Whether 95 % of the liver lie within 4 mm."""
        return float(np.percentile(self.error_mm, 95)) <= 4.0

    @property
    def is_whole(self) -> bool:
        """Whether the moving phase shows all but 2 % of the liver."""
        return self.scanned_fraction >= WHOLE

    def describe(self) -> str:
        """Return the row as one line."""
        median, tail = np.percentile(self.error_mm, [50, 95])
        said = f"{self.qa.get('verdict', '')} {self.qa.get('reasons', '')}"
        return f"{self.case} {self.phase} {self.method}: {median:.2f} {tail:.2f} {self.seconds:.1f} s {said}"


@dataclass(frozen=True)
class Said:
    """The verdict on one broken or wrongly named phase."""

    case: str
    phase: str
    fault: str
    verdict: str
    reasons: list[str]
    measures: dict[str, float]


def table(rows: list[Row]) -> str:
    """Return the comparison as Markdown: all methods on the pairs that all saw, then those that saw more, by phase."""
    methods = list(dict.fromkeys(row.method for row in rows))
    pairs = {method: {(row.case, row.phase) for row in rows if row.method == method} for method in methods}
    shared = set.intersection(*pairs.values())
    text = HEAD
    for method in methods:
        text += _line(
            method, "shared", [row for row in rows if row.method == method and (row.case, row.phase) in shared]
        )
    for method in (method for method in methods if len(pairs[method]) > len(shared)):
        own = [row for row in rows if row.method == method]
        for phase in ("all", *dict.fromkeys(row.phase for row in own)):
            text += _line(method, phase, [row for row in own if phase in ("all", row.phase)])
    return text


def _line(method: str, inputs: str, rows: list[Row]) -> str:
    error = np.concatenate([row.error_mm for row in rows]) if rows else np.array([np.nan])
    seconds = np.median([row.seconds for row in rows]) if rows else np.nan
    median, tail = np.percentile(error, [50, 95])
    return f"| {method} | {inputs} | {len(rows)} | {median:.2f} | {tail:.2f} | {error.max():.1f} | {seconds:.1f} |\n"


def verdict_table(rows: list[Row], said: list[Said], method: str) -> str:
    """Return how often good, broken and wrongly named phases pass; folding and lesions of the good ones."""
    own = [row for row in rows if row.method == method]
    text = "\n| phases | pass | review | reject |\n|---|---|---|---|\n"
    for name, whole, good in (
        ("registered well (95 % of the liver within 4 mm), whole liver scanned", True, True),
        ("registered well, more than 2 % of the liver not scanned", False, True),
        ("registered less well", None, False),
    ):
        chosen = [row for row in own if row.is_good is good and whole in (None, row.is_whole)]
        text += _counts(name, [str(row.qa["verdict"]) for row in chosen])
    for fault in dict.fromkeys(each.fault for each in said if not each.fault.startswith("called")):
        text += _counts(fault, [each.verdict for each in said if each.fault == fault])
    for right in (True, False):
        names = [
            each.verdict
            for each in said
            if each.fault.startswith("called") and (each.fault == f"called {each.phase}") is right
        ]
        text += _counts("name check: right name" if right else "name check: wrong name", names)
    changes = np.array([pair for row in own for pair in row.qa.get("lesion_changes", ())])  # type: ignore[attr-defined]
    folding = max(float(str(row.qa.get("folding_fraction", 0))) for row in own)
    text += f"\nLargest folded fraction {folding:.5f}. "
    if len(changes):
        found, true = np.abs(changes).T
        error = np.abs((1 + changes[:, 0]) / (1 + changes[:, 1]) - 1)
        text += f"Volume of {len(changes)} lesions of 10 mm and more, median (95 %): changed by "
        text += ", ".join(
            f"{np.median(part):.3f} ({np.percentile(part, 95):.3f}) {name}"
            for part, name in ((found, "as found"), (true, "in truth"), (error, "too much or too little"))
        )
    return text + "\n"


def _counts(name: str, verdicts: list[str]) -> str:
    counts = " | ".join(str(verdicts.count(verdict)) for verdict in ("pass", "review", "reject"))
    return f"| {name} | {counts} |\n" if verdicts else ""


def draw(rows: list[Row], path: Path) -> None:
    """Draw the error against the true displacement: all methods on the pairs that all saw, then ours on all pairs."""
    methods = list(dict.fromkeys(row.method for row in rows))
    shared = set.intersection(*({(row.case, row.phase) for row in rows if row.method == method} for method in methods))
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), constrained_layout=True)
    for method in methods:
        chosen = [row for row in rows if row.method == method and (row.case, row.phase) in shared]
        _curve(axes, chosen, f"{method}", "o-")
    own = [row for row in rows if row.method == methods[-1]]
    _curve(axes, own, f"{methods[-1]}, all {len(own)} pairs", "k--")
    for axis, name in zip(axes, ("Median", "95 %"), strict=True):
        axis.set(xlabel="true displacement of the liver point (mm)", ylabel=f"{name} error (mm)", yscale="log")
        axis.set_yticks([0.2, 0.5, 1, 2, 5, 10, 20], ["0.2", "0.5", "1", "2", "5", "10", "20"])
        axis.grid(alpha=0.3)
    axes[0].set_title(f"{len(shared)} pairs that all methods saw", fontsize=9)
    axes[0].legend(fontsize=7)
    figure.savefig(path, dpi=110)


def _curve(axes: Sequence[Axes], rows: list[Row], label: str, style: str) -> None:
    size = np.concatenate([row.displacement_mm for row in rows])
    error = np.concatenate([row.error_mm for row in rows])
    edges = np.unique(np.quantile(size, np.linspace(0, 1, 7)))
    bins = [error[(size >= low) & (size <= high)] for low, high in pairwise(edges)]
    middle = (edges[:-1] + edges[1:]) / 2
    for axis, share in zip(axes, (50, 95), strict=True):
        axis.plot(middle, [np.percentile(part, share) for part in bins], style, ms=4, label=label)
