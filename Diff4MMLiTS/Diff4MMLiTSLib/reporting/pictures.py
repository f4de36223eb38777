"""Rows of CT pictures with outlines, scale bars and a legend, drawn into one PNG; no global state."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from ..core.intensity import Window
from .views import Plane2D

ABDOMEN = Window(-115.0, 235.0)
"""Width 350, level 60 HU: the abdominal window."""

INK, FAINT, PAPER = "#e8eaed", "#9aa3ad", "#14181d"
TRUTH, PREDICTED, REGION, LIVER = "#56b4e9", "#e69f00", "#f0e442", "#00b386"
"""Outlines: colors that remain apart for every common kind of color vision."""
SERIES = ("#e69f00", "#56b4e9", "#00b386", "#cc79a7", "#f0e442", "#d55e00")
FONT = "DejaVu Sans"
DIVERGING = LinearSegmentedColormap.from_list("difference", ["#8fd3ff", "#2f7fc1", "#000000", "#c46a00", "#ffc861"])

WIDTH_IN, DPI = 10.0, 130
LABEL_IN, TITLE_IN, GAP_IN = 0.32, 0.3, 0.05
WIDEST_CELL_IN = 4.0
LEGEND_ENTRY_IN, LEGEND_LINE_IN = 2.2, 0.22
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
        difference_hu: Differences are shown from minus to plus this.
    """

    columns: tuple[str, ...]
    rows: tuple[str, ...]
    legend: Mapping[str, str]
    difference_hu: float = 100.0


def draw_pictures(rows: Sequence[Sequence[Picture]], labels: Labels) -> bytes:
    """Draw pictures in rows.

    Args:
        rows: The pictures, each row with one per column.
        labels: The words around them.

    Returns:
        A PNG image, 1300 pixels wide; narrower when there are only one or two columns.
    """
    sheet = _lay_out(rows, labels)
    figure = new_figure(sheet.height_in, sheet.width_in)
    top = sheet.height_in - TITLE_IN
    for label, row, height in zip(labels.rows, rows, sheet.rows_in, strict=True):
        _write(figure, sheet, label, center_in=(LABEL_IN / 2, top - height / 2), is_title=False)
        for column, picture in enumerate(row):
            left = LABEL_IN + column * sheet.cell_in
            corner = left / sheet.width_in, (top - height) / sheet.height_in
            size = (sheet.cell_in - GAP_IN) / sheet.width_in, (height - GAP_IN) / sheet.height_in
            axes = figure.add_axes((*corner, *size))
            with_scale = column == 0 or abs(picture.width_mm - row[0].width_mm) > picture.pixel_mm
            _draw(axes, picture, labels.difference_hu, with_scale=with_scale)
        top -= height
    for column, title in enumerate(labels.columns):
        middle = LABEL_IN + (column + 0.5) * sheet.cell_in
        _write(figure, sheet, title, center_in=(middle, sheet.height_in - TITLE_IN / 2), is_title=True)
    _draw_legend(figure, sheet, labels.legend)
    if any(picture.kind is Kind.DIFFERENCE for row in rows for picture in row):
        _draw_color_scale(figure, sheet, labels.difference_hu)
    return to_png(figure)


@dataclass(frozen=True)
class _Sheet:
    """Sizes of a figure in inches."""

    width_in: float
    height_in: float
    cell_in: float
    rows_in: tuple[float, ...]
    legend_columns: int


def _lay_out(rows: Sequence[Sequence[Picture]], labels: Labels) -> _Sheet:
    columns = len(labels.columns)
    cell_in = min((WIDTH_IN - LABEL_IN) / columns, WIDEST_CELL_IN)
    width_in = LABEL_IN + columns * cell_in
    rows_in = tuple(cell_in * _row_aspect(row) for row in rows)
    has_scale = any(picture.kind is Kind.DIFFERENCE for row in rows for picture in row)
    legend_columns = max(1, int(width_in * (0.65 if has_scale else 1.0) / LEGEND_ENTRY_IN))
    lines = max(math.ceil(len(labels.legend) / legend_columns), 2 if has_scale else 0)
    foot_in = LEGEND_LINE_IN * lines + (0.08 if lines else 0.0)
    return _Sheet(width_in, TITLE_IN + sum(rows_in) + foot_in, cell_in, rows_in, legend_columns)


def _write(figure: Figure, sheet: _Sheet, text: str, *, center_in: tuple[float, float], is_title: bool) -> None:
    x, y = center_in[0] / sheet.width_in, center_in[1] / sheet.height_in
    rotation, weight = (0, "bold") if is_title else (90, "normal")
    figure.text(x, y, text, rotation=rotation, weight=weight, ha="center", va="center", color=INK)


def new_figure(height_in: float, width_in: float = WIDTH_IN) -> Figure:
    """Return an empty figure in the common style."""
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, facecolor=PAPER)
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


def _draw(axes: Axes, picture: Picture, difference_hu: float, *, with_scale: bool) -> None:
    axes.set_facecolor("black")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    is_ct = picture.kind is Kind.CT
    axes.imshow(
        picture.values,
        cmap="gray" if is_ct else DIVERGING,
        vmin=ABDOMEN.low_hu if is_ct else -difference_hu,
        vmax=ABDOMEN.high_hu if is_ct else difference_hu,
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
    shade = [withStroke(linewidth=2.5, foreground="black")]
    right = left + length_mm / picture.pixel_mm
    axes.plot([left, right], [bottom, bottom], color=INK, linewidth=2.2, solid_capstyle="butt", path_effects=shade)
    style: dict[str, Any] = {"color": INK, "size": 8, "path_effects": shade}  # matplotlib's own keywords
    axes.text(left, bottom - 0.02 * rows, f"{length_mm:.0f} mm", va="bottom", **style)
    axes.text(left, 0.05 * rows, "R", va="top", **style)
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)


def _draw_legend(figure: Figure, sheet: _Sheet, legend: Mapping[str, str]) -> None:
    handles = [
        Line2D([], [], color=color, linewidth=2, linestyle="--" if meaning.endswith("(dashed)") else "-", label=meaning)
        for meaning, color in legend.items()
    ]
    if handles:
        figure.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(LABEL_IN / sheet.width_in, 0.0),
            ncols=sheet.legend_columns,
            frameon=False,
            fontsize=9,
            labelcolor=INK,
            borderaxespad=0.2,
        )


def _draw_color_scale(figure: Figure, sheet: _Sheet, difference_hu: float) -> None:
    axes = figure.add_axes((0.70, 0.24 / sheet.height_in, 0.26, 0.09 / sheet.height_in))
    axes.imshow(np.linspace(-1, 1, 256)[None, :], cmap=DIVERGING, aspect="auto", extent=(-1, 1, 0, 1))
    axes.set_yticks([])
    axes.set_xticks([-1, 0, 1], [f"−{difference_hu:.0f}", "0", f"+{difference_hu:.0f} HU"])
    axes.tick_params(colors=INK, labelsize=8, length=0, pad=2)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
