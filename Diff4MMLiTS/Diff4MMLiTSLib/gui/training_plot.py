"""Loss and validation over the steps of a training, in Slicer's plot."""

from __future__ import annotations

from collections.abc import Sequence

import slicer

from .plot_nodes import Node, PlotFrame, add_numbers, hidden_node
from .texts import _
from .training_run import Curve
from .widgets import Ui

VIEW = "Diff4MMLiTSTraining"
COLORS = ((0.20, 0.55, 0.90), (0.95, 0.60, 0.20), (0.35, 0.70, 0.35), (0.75, 0.40, 0.75), (0.60, 0.60, 0.60))
MOST_POINTS = 500
"""Of a curve; more cannot be told apart in a panel."""


class TrainingPlot:
    """A plot inside the panel that is drawn anew whenever there are new numbers.

    Args:
        frame: The frame that receives the plot.
    """

    def __init__(self, frame: Ui) -> None:
        self._plot = PlotFrame(frame)

    def show(self, curves: Sequence[Curve]) -> None:
        """Show the curves; nothing without one."""
        self.clear()
        if not curves:
            return
        chart, view = hidden_node("vtkMRMLPlotChartNode"), hidden_node("vtkMRMLPlotViewNode", VIEW)
        nodes = [chart, view]
        for curve, color in zip(curves, COLORS, strict=False):  # a training has no more curves than colors
            table, series = _series(curve, color)
            chart.AddAndObservePlotSeriesNodeID(series.GetID())
            nodes += [table, series]
        chart.SetXAxisTitle(_("Step"))
        chart.SetYAxisTitleVisibility(False)
        view.SetPlotChartNodeID(chart.GetID())
        self._plot.show(view, nodes)

    def clear(self) -> None:
        """Hide the plot and remove its nodes."""
        self._plot.clear()


def _series(curve: Curve, color: tuple[float, float, float]) -> tuple[Node, Node]:
    """Return the table of a curve and its series; RGB from 0 to 1."""
    every = max(1, len(curve.steps) // MOST_POINTS)
    table, series = hidden_node("vtkMRMLTableNode"), hidden_node("vtkMRMLPlotSeriesNode")
    add_numbers(table, "step", curve.steps[::every])
    add_numbers(table, curve.name, curve.values[::every])
    series.SetName(curve.name.replace("/", " "))
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
    series.SetXColumnName("step")
    series.SetYColumnName(curve.name)
    kinds = slicer.vtkMRMLPlotSeriesNode
    series.SetMarkerStyle(kinds.MarkerStyleCircle if len(curve.steps) < 2 else kinds.MarkerStyleNone)
    series.SetColor(*color)
    return table, series
