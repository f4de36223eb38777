"""PySide6 in the clothes of Slicer's Qt: properties as attributes, and the ctk widgets that the module's .ui names.

PythonQt and PySide6 share classes and signals; they differ in how properties are read. Whatever is added here must
behave like Slicer's own widget as far as the module uses it, and no further: the product must never know of it.
"""

from __future__ import annotations

import os
import sys
import types
from xml.etree import ElementTree

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

try:
    from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets
except ImportError as problem:
    raise ImportError(
        f"PySide6 cannot be loaded ({problem}). The tests of the module's windows need it and the libraries of Qt: "
        '"pip install PySide6-Essentials", and on Debian or Ubuntu "apt-get install -y libegl1 libgl1 libxkbcommon0 '
        'libdbus-1-3 libfontconfig1 fonts-dejavu-core"'
    ) from problem

KEPT_METHODS = ("singleShot", "sizeHint", "minimumSizeHint")
"""A static function in Slicer too, and two that Qt itself calls on widgets written in Python."""
QT_MODULES = (QtCore, QtGui, QtWidgets)


def _attribute(name):
    """Return a Python attribute that reads and writes a Qt property, declared or dynamic."""
    return property(
        lambda self: QtCore.QObject.property(self, name),
        lambda self, value: QtCore.QObject.setProperty(self, name, value),
    )


def _contents(module):
    """Return what a module of PySide6 offers; it makes its classes when they are first asked for."""
    return {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}


def _turn_properties_into_attributes():
    for module in QT_MODULES:
        for cls in _contents(module).values():
            meta = getattr(cls, "staticMetaObject", None)
            if not isinstance(cls, type) or meta is None or not issubclass(cls, QtCore.QObject):
                continue
            for index in range(meta.propertyOffset(), meta.propertyCount()):
                name = meta.property(index).name()
                if name not in KEPT_METHODS:
                    setattr(cls, name, _attribute(name))
    QtCore.QObject.name = _attribute("objectName")


class CtkCollapsibleButton(QtWidgets.QGroupBox):
    """``ctkCollapsibleButton``: a container with a title that hides its contents."""

    contentsCollapsed = QtCore.Signal(bool)  # noqa: N815
    TITLE_HEIGHT, NO_LIMIT = 24, 16777215

    def __init__(self, parent=None):
        super().__init__(parent)
        self._collapsed, self._text = False, ""

    @property
    def text(self):
        return self._text

    @text.setter
    def text(self, value):
        self._text = value
        self.title = ("▸ " if self._collapsed else "▾ ") + value

    @property
    def collapsed(self):
        return self._collapsed

    @collapsed.setter
    def collapsed(self, value):
        self._collapsed = bool(value)
        self.text = self._text
        self.setMaximumHeight(self.TITLE_HEIGHT if value else self.NO_LIMIT)
        self.contentsCollapsed.emit(self._collapsed)


class CtkSliderWidget(QtWidgets.QWidget):
    """``ctkSliderWidget``: a slider and a spin box with one value."""

    valueChanged = QtCore.Signal(float)  # noqa: N815
    STEPS = 1000

    def __init__(self, parent=None):
        super().__init__(parent)
        self.slider, self.box = QtWidgets.QSlider(QtCore.Qt.Horizontal), QtWidgets.QDoubleSpinBox()
        self.slider.setMaximum(self.STEPS)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.slider, 1)
        layout.addWidget(self.box)
        self.setFocusProxy(self.slider)
        self.slider.valueChanged.connect(self._slide)
        self.box.valueChanged.connect(self._spin)

    def _slide(self, step):
        if self.slider.hasFocus() or self.slider.isSliderDown():
            self.box.setValue(self.minimum + (self.maximum - self.minimum) * step / self.STEPS)

    def _spin(self, value):
        span = (self.maximum - self.minimum) or 1.0
        self.slider.setValue(round((value - self.minimum) / span * self.STEPS))
        self.valueChanged.emit(value)


for _name in ("value", "minimum", "maximum", "decimals", "singleStep", "suffix"):
    setattr(
        CtkSliderWidget,
        _name,
        property(
            lambda self, name=_name: getattr(self.box, name),
            lambda self, value, name=_name: setattr(self.box, name, value),
        ),
    )


class CtkPathLineEdit(QtWidgets.QWidget):
    """``ctkPathLineEdit``: a line with a button that browses; an empty path is no valid input, and no changed path."""

    currentPathChanged = QtCore.Signal(str)  # noqa: N815
    validInputChanged = QtCore.Signal(bool)  # noqa: N815
    Dirs = 1

    def __init__(self, parent=None):
        super().__init__(parent)
        self.line, self.button = QtWidgets.QLineEdit(), QtWidgets.QToolButton()
        self.button.setText("…")
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.line, 1)
        layout.addWidget(self.button)
        self.setFocusProxy(self.line)
        self.is_valid = False
        self.line.textChanged.connect(self._changed)

    def _changed(self, text):
        before, self.is_valid = self.is_valid, bool(text)
        if text:
            self.currentPathChanged.emit(text)
        if self.is_valid != before:
            self.validInputChanged.emit(self.is_valid)

    @property
    def currentPath(self):  # noqa: N802
        return self.line.text

    @currentPath.setter
    def currentPath(self, value):  # noqa: N802
        self.line.text = value


class FileDialog(QtWidgets.QFileDialog):
    """``QFileDialog`` as PythonQt has it: its questions return one text; tests give the answer."""

    answer = ""

    @classmethod
    def getExistingDirectory(cls, *_arguments):  # noqa: N802
        return cls.answer

    getOpenFileName = getSaveFileName = getExistingDirectory  # noqa: N815


CTK_WIDGETS = {
    "ctkCollapsibleButton": CtkCollapsibleButton,
    "ctkSliderWidget": CtkSliderWidget,
    "ctkPathLineEdit": CtkPathLineEdit,
}


class UiLoader(QtUiTools.QUiLoader):
    """``QUiLoader`` that builds the stand-ins and makes the connections that PySide6 has no types for."""

    widgets: dict[str, type] = {}  # noqa: RUF012

    def createWidget(self, class_name, parent=None, name=""):  # noqa: N802
        if class_name in self.widgets:
            widget = self.widgets[class_name](parent)
            widget.setObjectName(name)
            return widget
        if class_name.startswith(("qMRML", "ctk", "qSlicer")):
            raise AssertionError(f"The .ui names {class_name}, which has no stand-in")
        return super().createWidget(class_name, parent, name)

    def load(self, device, parent=None):
        tree = ElementTree.fromstring(bytes(device.readAll()))
        device.seek(0)
        plain = _without_scene_connections(tree)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(plain))
        buffer.open(QtCore.QIODevice.ReadOnly)
        top = super().load(buffer, parent)
        assert top is not None, self.errorString()
        _set_custom_properties(tree, top)
        top.scene_receivers = [
            top.findChild(QtWidgets.QWidget, connection.findtext("receiver"))
            for connection in tree.iter("connection")
            if connection.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)"
        ]
        return top


def _without_scene_connections(tree):
    plain = ElementTree.fromstring(ElementTree.tostring(tree))
    connections = plain.find("connections")
    for connection in [] if connections is None else list(connections):
        if "vtkMRMLScene" in connection.findtext("signal"):
            connections.remove(connection)
    return plain


def _set_custom_properties(tree, top):
    """Set what Qt's loader can only store as a dynamic property: properties that a stand-in has in Python."""
    for element in tree.iter("widget"):
        if element.get("class") not in UiLoader.widgets:
            continue
        name = element.get("name")
        widget = top if top.objectName == name else top.findChild(QtWidgets.QWidget, name)
        for item in element.findall("property"):
            stand_in_has = hasattr(type(widget), item.get("name"))
            if item.get("stdset") is None and stand_in_has and item.get("name") not in ("geometry", "toolTip"):
                value = _value_of(item[0])
                if value is not None:
                    setattr(widget, item.get("name"), value)


def _value_of(element):
    if element.tag == "stringlist":
        return [string.text for string in element]
    readers = {"bool": lambda text: text == "true", "double": float, "number": int, "string": str}
    return readers[element.tag](element.text or "") if element.tag in readers else None


def install():
    """Put ``qt`` and ``ctk`` into ``sys.modules`` and return the application."""
    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    if "qt" in sys.modules:
        return application
    _turn_properties_into_attributes()
    qt, ctk = types.ModuleType("qt"), types.ModuleType("ctk")
    for module in QT_MODULES:
        vars(qt).update(_contents(module))
    qt.QUiLoader, qt.QFileDialog = UiLoader, FileDialog
    vars(ctk).update(CTK_WIDGETS)
    UiLoader.widgets |= CTK_WIDGETS
    sys.modules |= {"qt": qt, "ctk": ctk}
    return application


def settle(application, seconds=0.0):
    """Let timers and events run for a while; on a slow machine at least often enough for a short timer to fire."""
    deadline = QtCore.QDeadlineTimer(int(seconds * 1000))
    rounds = 0
    while rounds < 4 or not deadline.hasExpired():
        application.processEvents(QtCore.QEventLoop.AllEvents, 20)
        QtCore.QThread.msleep(15)
        rounds += 1
    application.processEvents()
