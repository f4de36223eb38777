"""Loss and validation over the steps of a training, in Slicer's plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer

from .plot_nodes import add_numbers, hidden_node
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
        self._frame = frame
        self._widget: Ui | None = None
        self._chart: Any = None  # Any: MRML is not typed
        self._view: Any = None
        self._nodes: list[Any] = []
        frame.visible = False

    def show(self, curves: Sequence[Curve]) -> None:
        """Show the curves; nothing without one."""
        self.clear()
        self._frame.visible = bool(curves)
        if not curves:
            return
        self._chart, self._view = hidden_node("vtkMRMLPlotChartNode"), hidden_node("vtkMRMLPlotViewNode", VIEW)
        self._nodes = [self._chart, self._view]
        for number, curve in enumerate(curves[: len(COLORS)]):
            self._nodes += self._added(curve, COLORS[number])
        self._chart.SetXAxisTitle(_("Step"))
        self._chart.SetYAxisTitleVisibility(False)
        self._view.SetPlotChartNodeID(self._chart.GetID())
        if self._widget is None:
            self._widget = slicer.qMRMLPlotWidget()
            self._widget.setMRMLScene(slicer.mrmlScene)
            self._frame.layout().addWidget(self._widget)
            self._widget.plotController().setVisible(False)
        self._widget.setMRMLPlotViewNode(self._view)

    def clear(self) -> None:
        """Hide the plot and remove its nodes; the scene may have removed them already."""
        self._frame.visible = False
        for node in self._nodes:
            if slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)
        self._nodes = []

    def _added(self, curve: Curve, color: tuple[float, float, float]) -> list[Any]:
        every = max(1, len(curve.steps) // MOST_POINTS)
        table, series = hidden_node("vtkMRMLTableNode"), hidden_node("vtkMRMLPlotSeriesNode")
        add_numbers(table, "step", curve.steps[::every])
        add_numbers(table, curve.name, curve.values[::every])
        series.SetName(curve.name.replace("/", " "))
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        series.SetXColumnName("step")
        series.SetYColumnName(curve.name)
        is_sparse = len(curve.steps) < 2
        style = (
            slicer.vtkMRMLPlotSeriesNode.MarkerStyleCircle
            if is_sparse
            else slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone
        )
        series.SetMarkerStyle(style)
        series.SetColor(*color)
        self._chart.AddAndObservePlotSeriesNodeID(series.GetID())
        return [table, series]
