"""Slicer's plots inside a panel: their frame, and their nodes, hidden, not saved, with numbers in columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer
import vtk

from .widgets import Ui

Node = Any
"""A node; Any: MRML is not typed."""
TITLE_POINTS, TEXT_POINTS = 12, 9
"""Sizes of the texts of a chart; Slicer's own are for a whole view, and would cover the curves of a small frame."""


class PlotFrame:
    """Where a plot is seen in a panel, and the nodes that it is made of; hidden while there is nothing to show.

    Args:
        frame: The frame that receives the plot; Slicer's widget is made with the first one.
    """

    def __init__(self, frame: Ui) -> None:
        self._frame = frame
        self._widget: Ui | None = None
        self.nodes: tuple[Node, ...] = ()
        frame.visible = False

    def show(self, view: Node, nodes: Sequence[Node]) -> None:
        """Show a plot view.

        Args:
            view: The plot view node, whose chart is seen.
            nodes: All nodes that go when the plot is cleared.
        """
        if self._widget is None:
            self._widget = slicer.qMRMLPlotWidget()
            self._widget.setMRMLScene(slicer.mrmlScene)
            self._frame.layout().addWidget(self._widget)
            self._widget.plotController().setVisible(False)
        self._widget.setMRMLPlotViewNode(view)
        self._widget.plotView().chart().GetLegend().SetInline(False)  # beside the curves, not over them
        self.nodes = tuple(nodes)
        self._frame.visible = True

    def name_ticks(self, names: Sequence[str]) -> None:
        """Write names below the horizontal axis at 0, 1, 2, …, where Slicer writes numbers; the plot is shown."""
        positions, labels = vtk.vtkDoubleArray(), vtk.vtkStringArray()
        for position, name in enumerate(names):
            positions.InsertNextValue(position)
            labels.InsertNextValue(name)
        if self._widget is not None:
            self._widget.plotView().chart().GetAxis(vtk.vtkAxis.BOTTOM).SetCustomTickPositions(positions, labels)

    def fit(self) -> None:
        """Fit the axes to the numbers, which Slicer does for a new chart only."""
        if self._widget is not None:
            self._widget.plotView().fitToContent()

    def clear(self) -> None:
        """Hide the plot and remove its nodes; the scene may have removed them already."""
        self._frame.visible = False
        for node in self.nodes:
            if slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)
        self.nodes = ()


def hidden_node(kind: str, view_name: str = "Diff4MMLiTS") -> Node:
    """Add a node that the user does not see in selectors and that is not saved.

    Args:
        kind: Class of the node.
        view_name: Of a plot view, in which one chart is shown.
    """
    node = slicer.mrmlScene.CreateNodeByClass(kind)
    node.UnRegister(None)
    node.SetHideFromEditors(True)
    node.SaveWithSceneOff()
    if kind == "vtkMRMLPlotViewNode":
        node.SetLayoutName(view_name)
        node.SetSingletonTag(view_name)
    if kind == "vtkMRMLPlotChartNode":
        node.SetTitleFontSize(TITLE_POINTS)
        for set_size in (node.SetLegendFontSize, node.SetAxisTitleFontSize, node.SetAxisLabelFontSize):
            set_size(TEXT_POINTS)
    return slicer.mrmlScene.AddNode(node)


def add_strings(table: Node, name: str, values: Sequence[str]) -> None:
    """Add a column of texts to a table."""
    _add(table, vtk.vtkStringArray(), name, values)


def add_numbers(table: Node, name: str, values: Sequence[float]) -> None:
    """Add a column of numbers to a table."""
    _add(table, vtk.vtkDoubleArray(), name, values)


def _add(table: Node, column: Any, name: str, values: Sequence[object]) -> None:  # noqa: ANN401 (vtk is not typed)
    column.SetName(name)
    for value in values:
        column.InsertNextValue(value)
    table.AddColumn(column)
