"""Charts: curves of a training run, and scores of methods with their confidence intervals."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from ..core.errors import InputError
from ..core.statistics import Interval
from .pictures import FAINT, INK, SERIES, new_figure, to_png

PANELS_PER_ROW = 3
CURVE_ROW_IN = 2.9
SCORE_ROW_IN = 0.42
MARKERS = "osD^vP"


@dataclass(frozen=True)
class Curve:
    """One number over the steps of a training run.

    Args:
        label: What it is, for the legend.
        steps: Optimizer steps, ascending.
        values: The number at each of them.
    """

    label: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class CurvePanel:
    """Curves that share their axes.

    Args:
        title: Title of the panel.
        curves: The curves, at most six.
        logarithmic: Whether the vertical axis is logarithmic, for losses.
    """

    title: str
    curves: tuple[Curve, ...]
    logarithmic: bool = False


@dataclass(frozen=True)
class ScorePanel:
    """One metric of several methods.

    Args:
        title: The metric, with its unit.
        scores: Mean and interval by method, in the order of display; the same methods in every panel.
    """

    title: str
    scores: tuple[tuple[str, Interval], ...]


def read_curves(metrics_file: Path) -> dict[str, Curve]:
    """Read the ``metrics.jsonl`` of a training run.

    Returns:
        A curve for each number that was logged, by its name.

    Raises:
        InputError: There is no such file, or it holds something else.
    """
    try:
        lines = [json.loads(line) for line in metrics_file.read_text(encoding="utf-8").splitlines() if line]
        points: dict[str, list[tuple[int, float]]] = {}
        for line in lines:
            for name, value in line.items():
                if name not in ("step", "seconds"):
                    points.setdefault(name, []).append((int(line["step"]), float(value)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"'{metrics_file.parent.name}/{metrics_file.name}' holds no metrics", expected="the log of a training run"
        ) from None
    return {
        name: Curve(name, tuple(step for step, _ in rows), tuple(value for _, value in rows))
        for name, rows in points.items()
    }


def curves_figure(panels: Sequence[CurvePanel]) -> bytes:
    """Draw training curves, three panels in a row.

    Returns:
        A PNG image.

    Raises:
        InputError: There is no panel.
    """
    if not panels:
        raise InputError("No curve to show", expected="at least one panel")
    rows = math.ceil(len(panels) / PANELS_PER_ROW)
    columns = min(len(panels), PANELS_PER_ROW)
    figure = new_figure(CURVE_ROW_IN * rows)
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, number + 1)
        _style(axes, panel.title)
        for index, curve in enumerate(panel.curves):
            sparse = MARKERS[index % len(MARKERS)] if len(curve.steps) <= 12 else None
            color = SERIES[index % len(SERIES)]
            axes.plot(curve.steps, curve.values, color=color, linewidth=1.6, marker=sparse, ms=4, label=curve.label)
        if panel.logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("optimizer step", color=FAINT, fontsize=8)
        if panel.curves:
            axes.legend(fontsize=8, frameon=False, labelcolor=INK)
    figure.tight_layout(pad=1.0)
    return to_png(figure)


def scores_figure(panels: Sequence[ScorePanel]) -> bytes:
    """Draw means as points and their 95 % intervals as lines, a method per row and a metric per panel.

    Returns:
        A PNG image.

    Raises:
        InputError: There is no score, or panels name different methods.
    """
    names = [[name for name, _ in panel.scores] for panel in panels]
    if not names or not names[0] or any(other != names[0] for other in names):
        raise InputError("No scores to show", expected="the same methods, at least one, in every panel")
    figure = new_figure(1.0 + SCORE_ROW_IN * len(names[0]))
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        _style(axes, panel.title)
        for row, (_, interval) in enumerate(panel.scores):
            _draw_score(axes, row, interval)
        axes.set_ylim(len(panel.scores) - 0.45, -0.65)
        axes.margins(x=0.12)
        axes.set_yticks(range(len(panel.scores)), names[0] if number == 0 else [""] * len(names[0]))
        axes.tick_params(axis="y", labelsize=10, labelcolor=INK)
        axes.grid(visible=False, axis="y")
    figure.tight_layout(pad=1.0)
    return to_png(figure)


def _draw_score(axes: Axes, row: int, interval: Interval) -> None:
    if not math.isfinite(interval.mean):
        axes.text(0.5, row, "not defined", transform=axes.get_yaxis_transform(), color=FAINT, ha="center", va="center")
        return
    color = SERIES[row % len(SERIES)]
    if math.isfinite(interval.low):
        axes.plot([interval.low, interval.high], [row, row], color=color, linewidth=2.5, solid_capstyle="butt")
    axes.plot([interval.mean], [row], marker=MARKERS[row % len(MARKERS)], color=color, markersize=7)
    digits = 2 if abs(interval.mean) < 10 else 1
    axes.annotate(
        f"{interval.mean:.{digits}f}",
        (interval.mean, row),
        xytext=(0, 7),
        textcoords="offset points",
        ha="center",
        fontsize=8,
        color=INK,
    )


def _style(axes: Axes, title: str) -> None:
    axes.set_facecolor("#1b2027")
    axes.set_title(title, fontsize=10, color=INK, weight="bold")
    axes.tick_params(colors=FAINT, labelsize=8)
    axes.grid(visible=True, color="#2c333c", linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#3a424c")
