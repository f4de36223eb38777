"""What slicer-core lacks of the application: MRML widgets, parameter nodes, module base classes, the application.

The scene, its nodes and ``slicer.util`` are Slicer's own; everything here is as thin as the module's use of it.
"""

from __future__ import annotations

import enum
import sys
import types
import typing
from contextlib import contextmanager
from pathlib import Path

import qt_stand_in
import shiboken6
import slicer
import vtk
from qt_stand_in import QtCore, QtGui, QtWidgets

PARAMETER_PROPERTY = "SlicerParameterName"


class QMRMLWidget(QtWidgets.QWidget):
    """``qMRMLWidget``: hands the scene on along the connections that the .ui makes."""

    def setMRMLScene(self, scene):  # noqa: N802
        for receiver in getattr(self, "scene_receivers", []):
            receiver.setMRMLScene(scene)


class QMRMLNodeComboBox(QtWidgets.QComboBox):
    """``qMRMLNodeComboBox``: the nodes of some classes in a scene, and maybe none of them."""

    currentNodeChanged = QtCore.Signal(object)  # noqa: N815
    nodeTypes, noneEnabled, noneDisplay = (), False, "None"  # noqa: N815
    showChildNodeTypes = addEnabled = removeEnabled = renameEnabled = True  # noqa: N815

    def __init__(self, parent=None):
        super().__init__(parent)
        self.scene = None
        self.currentIndexChanged.connect(lambda _index: self.currentNodeChanged.emit(self.currentNode()))

    def setMRMLScene(self, scene):  # noqa: N802
        if self.scene is None:
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent):
                scene.AddObserver(event, lambda *_: self.fill() if shiboken6.isValid(self) else None)
        self.scene = scene
        self.fill()

    def fill(self):
        chosen = self.currentNode()
        self.blockSignals(True)
        self.clear()
        if self.noneEnabled:
            self.addItem(self.noneDisplay, "")
        for node_class in self.nodeTypes:
            for node in _nodes(self.scene, node_class):
                self.addItem(node.GetName(), node.GetID())
        self.blockSignals(False)
        self.setCurrentNode(chosen)

    def currentNode(self):  # noqa: N802
        identifier = self.itemData(self.currentIndex)
        return self.scene.GetNodeByID(identifier) if identifier and self.scene else None

    def setCurrentNode(self, node):  # noqa: N802
        self.setCurrentIndex(max(0, self.findData("" if node is None else node.GetID())))


def _nodes(scene, node_class):
    found = scene.GetNodesByClass(node_class)
    found.UnRegister(None)
    return [found.GetItemAsObject(index) for index in range(found.GetNumberOfItems())]


class PlotView:
    """``qMRMLPlotView``: a real chart of VTK, and how often it was fitted to its numbers."""

    def __init__(self):
        self.vtk_chart, self.fitted = vtk.vtkChartXY(), 0

    def chart(self):
        return self.vtk_chart

    def fitToContent(self):  # noqa: N802
        self.fitted += 1


class QMRMLPlotWidget(QtWidgets.QWidget):
    """``qMRMLPlotWidget``: draws the lines of the chart that its view node shows."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self.view_node, self.view = None, PlotView()

    def plotView(self):  # noqa: N802
        return self.view

    def setMRMLScene(self, _scene):  # noqa: N802
        pass

    def setMRMLPlotViewNode(self, node):  # noqa: N802
        self.view_node = node
        node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self.update() if shiboken6.isValid(self) else None)

    def plotController(self):  # noqa: N802
        return QtWidgets.QWidget(self)

    def lines(self):
        """Return the values of each line, by series name."""
        chart = self.view_node.GetPlotChartNode() if self.view_node else None
        found = {}
        for index in range(chart.GetNumberOfPlotSeriesNodes() if chart else 0):
            series = chart.GetNthPlotSeriesNode(index)
            column = series.GetTableNode().GetTable().GetColumnByName(series.GetYColumnName())
            found[series.GetName()] = [column.GetValue(row) for row in range(column.GetNumberOfTuples())]
        return found

    def paintEvent(self, _event):  # noqa: N802
        painter, lines = QtGui.QPainter(self), self.lines()
        values = [value for line in lines.values() for value in line] or [0.0]
        margin = 0.05 * (max(values) - min(values)) or 1.0
        low, high = min(values) - margin, max(values) + margin
        box = self.rect.adjusted(40, 22, -8, -20)
        painter.setPen(self.palette.color(QtGui.QPalette.Text))
        painter.drawRect(box)
        title = self.view_node.GetPlotChartNode().GetYAxisTitle() if lines else ""
        painter.drawText(2, box.top() + 8, f"{high:.3g} {title or ''}")
        painter.drawText(2, box.bottom(), f"{low:.3g}")
        for number, (name, line) in enumerate(lines.items()):
            step = box.width() / len(line)
            painter.setPen(QtGui.QPen(QtGui.QColor(("#dd8265", "#338ce6", "#59b359")[number % 3]), 2))
            painter.drawText(box.left() + 130 * number, 15, name)
            points = [
                QtCore.QPointF(
                    box.left() + step * (index + 0.5),
                    box.bottom() - 6 - (box.height() - 12) * (value - low) / (high - low),
                )
                for index, value in enumerate(line)
            ]
            painter.drawPolyline(points)
        painter.setPen(self.palette.color(QtGui.QPalette.Text))
        for index, label in enumerate(self.labels()):
            painter.drawText(int(box.left() + step * (index + 0.5)) - 12, self.height - 4, label)

    def labels(self):
        """Return the names below the horizontal axis; Slicer writes none of its own accord."""
        names = self.view.chart().GetAxis(vtk.vtkAxis.BOTTOM).GetTickLabels()
        return [names.GetValue(index) for index in range(names.GetNumberOfValues())] if names else []


class Wrapper:
    """The typed view of a parameter node that ``parameterNodeWrapper`` makes of a class with annotations."""

    def __init__(self, node):
        self.__dict__["parameterNode"] = node
        self.__dict__["bindings"] = {}

    def __getattr__(self, name):
        kind = _kinds(type(self)).get(name)
        if kind is None:
            return getattr(self.parameterNode, name)
        if issubclass(kind, slicer.vtkMRMLNode):
            return self.parameterNode.GetNodeReference(name)
        text = self.parameterNode.GetParameter(name)
        if not text:
            return getattr(type(self), f"_default_{name}")
        readers = {bool: lambda word: word == "True", float: float, int: int, str: str}
        return kind[text] if issubclass(kind, enum.Enum) else readers[kind](text)

    def __setattr__(self, name, value):
        kind = _kinds(type(self))[name]
        if issubclass(kind, slicer.vtkMRMLNode):
            self.parameterNode.SetNodeReferenceID(name, value.GetID() if value else None)
        else:
            self.parameterNode.SetParameter(name, value.name if isinstance(value, enum.Enum) else str(kind(value)))

    def connectGui(self, ui):  # noqa: N802
        bound = {w.property(PARAMETER_PROPERTY): w for w in vars(ui).values() if w.property(PARAMETER_PROPERTY)}
        for name, widget in bound.items():
            kind = _kinds(type(self))[name]
            signal, read, write = _connector(widget, kind)
            write(getattr(self, name))
            take = lambda *_, n=name, r=read: setattr(self, n, r())  # noqa: E731
            signal.connect(take)
            self.bindings[name] = (signal, write, take)
        self.__dict__["tag"] = self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._show())
        return 1

    def disconnectGui(self, _tag):  # noqa: N802
        for signal, _write, connection in self.bindings.values():
            signal.disconnect(connection)
        self.bindings.clear()
        self.parameterNode.RemoveObserver(self.tag)

    def _show(self):
        for name, (_signal, write, _connection) in self.bindings.items():
            write(getattr(self, name))


def _kinds(cls):
    hints = typing.get_type_hints(cls, include_extras=True)
    return {name: typing.get_args(kind)[0] if typing.get_args(kind) else kind for name, kind in hints.items()}


def _connector(widget, kind):
    """Return signal, reader and writer of a bound widget; the pairs are those that Slicer supports."""
    if isinstance(widget, QMRMLNodeComboBox):
        return widget.currentNodeChanged, widget.currentNode, widget.setCurrentNode
    if isinstance(widget, qt_stand_in.CtkSliderWidget) and kind is float:
        return widget.valueChanged, lambda: widget.value, lambda value: setattr(widget, "value", value)
    if isinstance(widget, QtWidgets.QComboBox) and issubclass(kind, enum.Enum):
        members = list(kind)
        widget.clear()
        widget.addItems([member.label() if hasattr(member, "label") else member.name for member in members])
        return (
            widget.currentIndexChanged,
            lambda: members[widget.currentIndex],
            lambda value: setattr(widget, "currentIndex", members.index(value)),
        )
    raise AssertionError(f"Slicer binds no {kind} to {type(widget).__name__}")


def parameter_node_wrapper(cls):
    """Stand for ``slicer.parameterNodeWrapper.parameterNodeWrapper``."""
    defaults = {f"_default_{name}": getattr(cls, name) for name in _kinds(cls) if hasattr(cls, name)}
    return type(
        cls.__name__, (Wrapper,), {**defaults, "__annotations__": cls.__annotations__, "__module__": cls.__module__}
    )


class WithinRange:
    """``WithinRange``: an annotation that sets the limits of a slider."""

    def __init__(self, minimum, maximum):
        self.minimum, self.maximum = minimum, maximum


class Module:
    """``ScriptedLoadableModule``."""

    def __init__(self, parent):
        self.parent = parent


class ModuleWidget:
    """``ScriptedLoadableModuleWidget``: a panel with a layout, and the paths of the module's resources."""

    resources = Path(__file__).parents[3] / "Diff4MMLiTS" / "Resources"

    def __init__(self, parent=None):
        self.parent = parent or QMRMLWidget()
        self.parent.setLayout(QtWidgets.QVBoxLayout())
        self.parent.isEntered = True
        self.layout = self.parent.layout()

    def setup(self):
        """Nothing: developer mode is off."""

    def resourcePath(self, name):  # noqa: N802
        return str(self.resources / name)


class ModuleLogic:
    """``ScriptedLoadableModuleLogic``: gives the singleton parameter node."""

    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self):  # noqa: N802
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(self.moduleName)
            node.SetModuleName(self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        return node


class Application(QtCore.QObject):
    """``slicer.app`` as far as the module asks it."""

    startupCompleted = QtCore.Signal()  # noqa: N815
    aboutToQuit = QtCore.Signal()  # noqa: N815
    applicationName = "Slicer"  # noqa: N815

    def testingEnabled(self):  # noqa: N802
        return False

    def translate(self, _context, text):
        return text

    def userSettings(self):  # noqa: N802
        return self.settings

    def processEvents(self):  # noqa: N802
        QtWidgets.QApplication.processEvents()


def install():
    """Complete the modules of Slicer and return the Qt application."""
    application = qt_stand_in.install()
    if hasattr(slicer, "qMRMLWidget"):
        return application
    slicer.qMRMLWidget, slicer.qMRMLNodeComboBox, slicer.qMRMLPlotWidget = (
        QMRMLWidget,
        QMRMLNodeComboBox,
        QMRMLPlotWidget,
    )
    qt_stand_in.UiLoader.widgets |= {
        "qMRMLWidget": QMRMLWidget,
        "qMRMLNodeComboBox": QMRMLNodeComboBox,
        "qMRMLPlotWidget": QMRMLPlotWidget,
    }
    _module("slicer.i18n", tr=lambda text: text, translate=lambda _context, text: text)
    _module("slicer.parameterNodeWrapper", parameterNodeWrapper=parameter_node_wrapper, WithinRange=WithinRange)
    _module(
        "slicer.ScriptedLoadableModule",
        ScriptedLoadableModule=Module,
        ScriptedLoadableModuleWidget=ModuleWidget,
        ScriptedLoadableModuleLogic=ModuleLogic,
        ScriptedLoadableModuleTest=object,
    )
    return application


def _module(name, **contents):
    module = types.ModuleType(name)
    vars(module).update(contents)
    sys.modules[name] = module
    setattr(slicer, name.rsplit(".", 1)[1], module)


@contextmanager
def answered(monkeypatch, **answers):
    """Answer the named functions of ``slicer.util`` (a question to the user) and collect what was asked."""
    asked = []
    with monkeypatch.context() as patch:
        for name, answer in answers.items():
            patch.setattr(slicer.util, name, lambda text, *_, a=answer, **__: (asked.append(text), a)[1])
        yield asked
