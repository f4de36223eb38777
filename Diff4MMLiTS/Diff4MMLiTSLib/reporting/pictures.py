"""Rows of CT pictures with outlines, scale bars and a legend, drawn into one PNG; no global state."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from ..core.intensity import Window
from .views import Plane2D

ABDOMEN = Window(-115.0, 235.0)
"""Width 350, level 60 HU: the abdominal window."""
DIFFERENCE_HU = 100.0
"""Differences are shown from minus to plus this."""

INK, FAINT, PAPER = "#e8eaed", "#9aa3ad", "#14181d"
TRUTH, PREDICTED, REGION, LIVER = "#56b4e9", "#e69f00", "#f0e442", "#00b386"
"""Outlines: colors that remain apart for every common kind of color vision."""
SERIES = ("#e69f00", "#56b4e9", "#00b386", "#cc79a7", "#f0e442", "#d55e00")
FONT = "DejaVu Sans"
DIVERGING = LinearSegmentedColormap.from_list("difference", ["#8fd3ff", "#2f7fc1", "#14181d", "#c46a00", "#ffc861"])

WIDTH_IN, DPI = 10.0, 130
LABEL_IN, TITLE_IN, GAP_IN, FOOT_IN = 0.32, 0.3, 0.05, 0.42
TALLEST_CELL = 1.4
"""Height of a cell over its width, at most."""
SCALE_BARS_MM = (100.0, 50.0, 20.0, 10.0)
SCALE_BAR_PART = 0.45
"""The scale bar is the longest of these that fills at most this part of the picture's width."""


class Kind(StrEnum):
    """What the values of a picture are."""

    CT = "ct"
    DIFFERENCE = "difference"


@dataclass(frozen=True, eq=False)
class Outline:
    """A contour over a picture.

    Args:
        occupancy: Values (rows, columns), 0 to 1; the contour is drawn at 0.5.
        color: Its color.
        dashed: Whether it is dashed.
    """

    occupancy: Plane2D
    color: str
    dashed: bool = False


@dataclass(frozen=True, eq=False)
class Picture:
    """One slice.

    Args:
        values: CT values or differences in HU, (rows, columns).
        pixel_mm: Size of a pixel.
        outlines: What is drawn over it.
        kind: CT or difference.
        caption: A line written into the picture's lower edge.
    """

    values: Plane2D
    pixel_mm: float
    outlines: tuple[Outline, ...] = ()
    kind: Kind = Kind.CT
    caption: str = ""

    @property
    def width_mm(self) -> float:
        """Width of what is shown."""
        return float(self.values.shape[1] * self.pixel_mm)


@dataclass(frozen=True)
class Labels:
    """The words around the pictures.

    Args:
        columns: A title for each column.
        rows: A label for each row.
        legend: Color by meaning; a meaning that ends in " (dashed)" has a dashed line.
    """

    columns: tuple[str, ...]
    rows: tuple[str, ...]
    legend: Mapping[str, str]


def draw_pictures(rows: Sequence[Sequence[Picture]], labels: Labels) -> bytes:
    """Draw pictures in rows.

    Args:
        rows: The pictures, each row with one per column.
        labels: The words around them.

    Returns:
        A PNG image, 1300 pixels wide.
    """
    cell_in = (WIDTH_IN - LABEL_IN) / len(labels.columns)
    heights = [cell_in * _row_aspect(row) for row in rows]
    total_in = TITLE_IN + sum(heights) + FOOT_IN
    figure = new_figure(total_in)
    top = total_in - TITLE_IN
    for label, row, height in zip(labels.rows, rows, heights, strict=True):
        figure.text(
            LABEL_IN / 2 / WIDTH_IN, (top - height / 2) / total_in, label, rotation=90, ha="center", va="center", color=INK
        )
        for column, picture in enumerate(row):
            left = (LABEL_IN + column * cell_in) / WIDTH_IN
            size = (cell_in - GAP_IN) / WIDTH_IN, (height - GAP_IN) / total_in
            axes = figure.add_axes((left, (top - height) / total_in, *size))
            with_scale = column == 0 or abs(picture.width_mm - row[0].width_mm) > picture.pixel_mm
            _draw(axes, picture, with_scale=with_scale)
        top -= height
    for column, title in enumerate(labels.columns):
        x = (LABEL_IN + (column + 0.5) * cell_in) / WIDTH_IN
        figure.text(x, 1 - 0.5 * TITLE_IN / total_in, title, ha="center", va="center", weight="bold", color=INK)
    _draw_legend(figure, labels.legend)
    if any(picture.kind is Kind.DIFFERENCE for row in rows for picture in row):
        _draw_color_scale(figure, total_in)
    return to_png(figure)


def new_figure(height_in: float) -> Figure:
    """Return an empty figure of the common width in the common style."""
    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure) -> bytes:
    """Return a figure as PNG bytes, with every text in the common font."""
    for text in figure.findobj(Text):
        text.set_fontfamily(FONT)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", facecolor=PAPER, metadata={"Software": "Diff4MMLiTS"})
    return stream.getvalue()


def _row_aspect(row: Sequence[Picture]) -> float:
    tallest = max(picture.values.shape[0] / picture.values.shape[1] for picture in row)
    return float(min(tallest, TALLEST_CELL))


def _draw(axes: Axes, picture: Picture, *, with_scale: bool) -> None:
    axes.set_facecolor("black")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    is_ct = picture.kind is Kind.CT
    axes.imshow(
        picture.values,
        cmap="gray" if is_ct else DIVERGING,
        vmin=ABDOMEN.low_hu if is_ct else -DIFFERENCE_HU,
        vmax=ABDOMEN.high_hu if is_ct else DIFFERENCE_HU,
        interpolation="bilinear",
        aspect="equal",
    )
    for outline in picture.outlines:
        if outline.occupancy.min() < 0.5 < outline.occupancy.max():
            style = "dashed" if outline.dashed else "solid"
            axes.contour(outline.occupancy, levels=[0.5], colors=[outline.color], linewidths=1.3, linestyles=style)
    if with_scale:
        _draw_scale_bar(axes, picture)
    if picture.caption:
        box = {"facecolor": "black", "alpha": 0.55, "edgecolor": "none", "pad": 1.5}
        axes.text(0.98, 0.03, picture.caption, transform=axes.transAxes, ha="right", size=8, color=INK, bbox=box)


def _draw_scale_bar(axes: Axes, picture: Picture) -> None:
    length_mm = next((bar for bar in SCALE_BARS_MM if bar <= SCALE_BAR_PART * picture.width_mm), SCALE_BARS_MM[-1])
    rows, columns = picture.values.shape
    left, bottom = 0.04 * columns, 0.95 * rows
    axes.plot([left, left + length_mm / picture.pixel_mm], [bottom, bottom], color=INK, linewidth=2.2)
    axes.text(left, bottom - 0.02 * rows, f"{length_mm:.0f} mm", color=INK, size=8, va="bottom")
    axes.text(left, 0.05 * rows, "R", color=INK, size=8, va="top")
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)


def _draw_legend(figure: Figure, legend: Mapping[str, str]) -> None:
    handles = [
        Line2D([], [], color=color, linewidth=2, linestyle="--" if meaning.endswith("(dashed)") else "-", label=meaning)
        for meaning, color in legend.items()
    ]
    if handles:
        where = (LABEL_IN / WIDTH_IN, 0.0)
        figure.legend(
            handles=handles, loc="lower left", bbox_to_anchor=where, ncols=4, frameon=False, fontsize=9, labelcolor=INK
        )


def _draw_color_scale(figure: Figure, total_in: float) -> None:
    axes = figure.add_axes((0.70, 0.20 / total_in, 0.26, 0.09 / total_in))
    axes.imshow(np.linspace(-1, 1, 256)[None, :], cmap=DIVERGING, aspect="auto", extent=(-1, 1, 0, 1))
    axes.set_yticks([])
    axes.set_xticks([-1, 0, 1], [f"−{DIFFERENCE_HU:.0f}", "0", f"+{DIFFERENCE_HU:.0f} HU"])
    axes.tick_params(colors=INK, labelsize=8, length=0, pad=1)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
