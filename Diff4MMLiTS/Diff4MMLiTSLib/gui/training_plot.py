"""Loss and validation over the steps of a training, in Slicer's plot."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import slicer

from .plot_nodes import Node, PlotFrame, add_numbers, hidden_node
from .texts import _
from .training_run import Curve
from .widgets import Ui

VIEW, STEP = "Diff4MMLiTSTraining", "step"
COLORS = ((0.20, 0.55, 0.90), (0.95, 0.60, 0.20), (0.35, 0.70, 0.35), (0.75, 0.40, 0.75), (0.60, 0.60, 0.60))
WORDS = {"dice": "Dice", "mae": "error", "hu": "in HU"}
"""Parts of the names of numbers that people write in another way."""
MOST_POINTS = 500
"""Of a curve; more cannot be told apart in a panel."""


class TrainingPlot:
    """A plot inside the panel; its nodes stay while numbers are added to the same curves.

    Args:
        frame: The frame that receives the plot.
    """

    def __init__(self, frame: Ui) -> None:
        self._plot = PlotFrame(frame)
        self._lines: dict[str, tuple[Node, Node]] = {}  # table and series by the name of the curve

    def show(self, curves: Sequence[Curve]) -> None:
        """Show the curves; nothing without one."""
        if [curve.name for curve in curves] == list(self._lines):
            for curve in curves:
                _fill(*self._lines[curve.name], curve)
            self._plot.fit()
            return
        self.clear()
        if curves:
            self._make(curves)

    def clear(self) -> None:
        """Hide the plot and remove its nodes."""
        self._plot.clear()
        self._lines = {}

    def _make(self, curves: Sequence[Curve]) -> None:
        chart, view = hidden_node("vtkMRMLPlotChartNode"), hidden_node("vtkMRMLPlotViewNode", VIEW)
        for curve, color in zip(curves, cycle(COLORS), strict=False):
            table, series = self._lines[curve.name] = _line(curve.name, color)
            _fill(table, series, curve)
            chart.AddAndObservePlotSeriesNodeID(series.GetID())
        chart.SetXAxisTitle(_("Step"))
        chart.SetYAxisTitleVisibility(False)
        view.SetPlotChartNodeID(chart.GetID())
        self._plot.show(view, [chart, view, *(node for line in self._lines.values() for node in line)])
        self._plot.fit()


def curve_title(name: str) -> str:
    """Return the name of a curve as people read it: ``tumor Dice (validation)`` for ``validation/tumor_dice``."""
    part, _slash, number = name.partition("/")
    words = " ".join(WORDS.get(word, word) for word in number.split("_"))
    return _("{number} (validation)").format(number=words) if part == "validation" else f"{part} {words}"


def _line(name: str, color: tuple[float, float, float]) -> tuple[Node, Node]:
    """Return an empty table and the series that draws it; RGB from 0 to 1."""
    table, series = hidden_node("vtkMRMLTableNode"), hidden_node("vtkMRMLPlotSeriesNode")
    series.SetName(curve_title(name))
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
    series.SetXColumnName(STEP)
    series.SetYColumnName(name)
    series.SetColor(*color)
    return table, series


def _fill(table: Node, series: Node, curve: Curve) -> None:
    """Show the numbers of a curve; the plot follows its table."""
    every = max(1, len(curve.steps) // MOST_POINTS)
    before = table.StartModify()  # no plot is drawn while a column is missing
    table.RemoveAllColumns()
    add_numbers(table, STEP, curve.steps[::every])
    add_numbers(table, curve.name, curve.values[::every])
    table.EndModify(before)
    kinds = slicer.vtkMRMLPlotSeriesNode
    series.SetMarkerStyle(kinds.MarkerStyleCircle if len(curve.steps) < 2 else kinds.MarkerStyleNone)
