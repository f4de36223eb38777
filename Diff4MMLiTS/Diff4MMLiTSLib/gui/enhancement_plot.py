"""The enhancement curve of a lesion beside that of the liver, in Slicer's plot."""

from __future__ import annotations

from collections.abc import Mapping

import slicer

from ..core.phases import Phase, in_order
from .plot_nodes import PlotFrame, add_numbers, add_strings, hidden_node
from .texts import _
from .widgets import Ui

LINE_COLORS = {"Liver": (0.87, 0.51, 0.40), "Lesion": (0.20, 0.55, 0.90)}
"""The liver as in Slicer's terminology; a blue that is told from it on dark and light background alike."""
PHASE_COLUMN = "Phase"


class EnhancementPlot:
    """A small plot inside the panel; its nodes are made with the first curve.

    Args:
        frame: The frame that receives the plot.
    """

    def __init__(self, frame: Ui) -> None:
        self._plot = PlotFrame(frame)

    def show(self, name: str, lesion: Mapping[Phase, float], liver: Mapping[Phase, float]) -> None:
        """Show the curves, HU by phase; nothing when there is only one phase.

        Args:
            name: What the lesion is called.
            lesion: Mean of the lesion.
            liver: Mean of the liver without tumors.
        """
        phases = in_order(set(lesion) & set(liver))
        if len(phases) < 2:
            self.clear()
            return
        nodes = self._plot.nodes or _made_nodes()
        table, chart, view = nodes[:3]
        before = table.StartModify()  # no plot is drawn while a column is missing
        table.RemoveAllColumns()
        add_strings(table, PHASE_COLUMN, [str(phase) for phase in phases])
        for column, curve in (("Liver", liver), ("Lesion", lesion)):
            add_numbers(table, column, [curve[phase] for phase in phases])
        table.EndModify(before)
        chart.GetNthPlotSeriesNode(1).SetName(name)
        chart.SetTitle(_("Enhancement of {lesion}").format(lesion=name))
        chart.Modified()
        view.SetPlotChartNodeID(chart.GetID())
        view.Modified()
        self._plot.show(view, nodes)
        self._plot.name_ticks(list(map(str, phases)))
        self._plot.fit()

    def clear(self) -> None:
        """Hide the plot and remove its nodes."""
        self._plot.clear()


def _made_nodes() -> tuple[slicer.vtkMRMLNode, ...]:
    """Return table, chart and view, and one series per curve."""
    table, chart, view = (
        hidden_node(kind) for kind in ("vtkMRMLTableNode", "vtkMRMLPlotChartNode", "vtkMRMLPlotViewNode")
    )
    series = [_series(table, column) for column in LINE_COLORS]
    for node in series:
        chart.AddAndObservePlotSeriesNodeID(node.GetID())
    chart.SetYAxisTitle("HU")
    chart.SetXAxisTitleVisibility(False)
    return table, chart, view, *series


def _series(table: slicer.vtkMRMLTableNode, column: str) -> slicer.vtkMRMLPlotSeriesNode:
    series = hidden_node("vtkMRMLPlotSeriesNode")
    series.SetName(_("Liver") if column == "Liver" else column)
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeLine)
    series.SetYColumnName(column)
    series.SetLabelColumnName(PHASE_COLUMN)
    series.SetColor(*LINE_COLORS[column])
    return series
