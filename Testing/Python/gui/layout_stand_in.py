"""Slicer's layout manager as far as the module uses it: real layout and slice nodes, real renderers, no windows."""

from __future__ import annotations

from types import SimpleNamespace
from xml.etree import ElementTree

import slicer
import vtk


class SliceLogic:
    """``vtkMRMLSliceLogic``: the composite node of a view, and fitting its volume."""

    def __init__(self, name):
        self.fitted, self.node = 0, None
        self.composite = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSliceCompositeNode")
        self.composite.UnRegister(None)
        self.composite.SetLayoutName(name)
        self.composite.SetSingletonTag(name)
        self.composite = slicer.mrmlScene.AddNode(self.composite)

    def GetSliceCompositeNode(self):  # noqa: N802
        return self.composite

    def GetSliceNode(self):  # noqa: N802
        return self.node

    def FitSliceToBackground(self):  # noqa: N802
        self.fitted += 1
        self.node.SetFieldOfView(600.0, 500.0, 3.0)


class SliceController:
    """``qMRMLSliceControllerWidget``: the bar above a slice view."""

    def __init__(self):
        self.visible, self.minimum_width = True, None

    def setVisible(self, is_visible):  # noqa: N802
        self.visible = is_visible

    def setMinimumWidth(self, pixels):  # noqa: N802
        self.minimum_width = pixels


class SliceWidget:
    """``qMRMLSliceWidget``."""

    def __init__(self, name, group):
        self.logic, self.renderer = SliceLogic(name), vtk.vtkRenderer()
        self.renderers = vtk.vtkRendererCollection()
        self.renderers.AddItem(self.renderer)
        self.node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSliceNode")
        self.node.UnRegister(None)
        self.node.SetLayoutName(name)
        self.node.SetSingletonTag(name)
        self.node.SetViewGroup(group)
        self.node = slicer.mrmlScene.AddNode(self.node)
        self.logic.node = self.node
        self.controller = SliceController()

    def sliceLogic(self):  # noqa: N802
        return self.logic

    def sliceController(self):  # noqa: N802
        return self.controller

    def sliceView(self):  # noqa: N802
        window = SimpleNamespace(GetRenderers=lambda: self.renderers)
        return SimpleNamespace(renderWindow=lambda: window)

    def texts(self):
        """Return what is written into the view."""
        actors = self.renderer.GetViewProps()
        return [actors.GetItemAsObject(index).GetInput() for index in range(actors.GetNumberOfItems())]


class LayoutManager:
    """``qSlicerLayoutManager``; slice views are made when a layout names them."""

    def __init__(self):
        self.node = slicer.vtkMRMLLayoutNode()
        self.layout, self.widgets = 3, {}

    def layoutLogic(self):  # noqa: N802
        return SimpleNamespace(GetLayoutNode=lambda: self.node)

    def setLayout(self, number):  # noqa: N802
        self.layout = number
        if not self.node.IsLayoutDescription(number):
            return
        for view in ElementTree.fromstring(self.node.GetLayoutDescription(number)).iter("view"):
            name = view.get("singletontag")
            group = int(view.findtext("property[@name='viewgroup']"))
            self.widgets.setdefault(name, SliceWidget(name, group))

    def sliceViewNames(self):  # noqa: N802
        return tuple(self.widgets)

    def sliceWidget(self, name):  # noqa: N802
        return self.widgets[name]
