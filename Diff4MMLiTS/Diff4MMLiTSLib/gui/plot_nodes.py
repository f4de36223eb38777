"""Nodes of Slicer's plots that belong to the panel: hidden, not saved, with numbers in columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer
import vtk

Node = Any
"""A node; Any: MRML is not typed."""


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
