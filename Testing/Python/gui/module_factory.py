"""The module as Slicer builds it, in a scene with the nodes that the application always has."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path

import shiboken6
import slicer
import slicer_stand_in
from qt_stand_in import QtCore, QtGui, QtWidgets, settle

slicer_stand_in.install()  # before anything of the product is imported

ROOT = Path(__file__).parents[3]
MODULE_FILE = ROOT / "Diff4MMLiTS" / "Diff4MMLiTS.py"
APPLICATION_NODES = (
    ("vtkMRMLSelectionNode", "Singleton"),
    ("vtkMRMLInteractionNode", "Singleton"),
    ("vtkMRMLSliceNode", "Red"),
    ("vtkMRMLSliceCompositeNode", "Red"),
)


def module_script():
    """Return the module's script, imported as Slicer does: by its path."""
    spec = importlib.util.spec_from_file_location("Diff4MMLiTS", MODULE_FILE)
    script = importlib.util.module_from_spec(spec)
    sys.modules["Diff4MMLiTS"] = script
    spec.loader.exec_module(script)
    return script


def add_application_nodes(scene):
    """Add what a scene of the application has even when it is empty."""
    for kind, tag in APPLICATION_NODES:
        if scene.GetSingletonNode(tag, kind):
            continue
        node = scene.CreateNodeByClass(kind)
        node.UnRegister(None)
        node.SetSingletonTag(tag)
        if kind.startswith("vtkMRMLSlice"):
            node.SetName(tag)
            node.SetLayoutName(tag)
        scene.AddNode(node)


def add_model(folder, name="tiny", kind="segmenter"):
    """Add a model of which only the card will be read."""
    card = {
        "format": 1,
        "kind": kind,
        "name": name,
        "phases": ["NC", "AP", "PVP", "DELAY"],
        "license": "Apache-2.0",
        "intended_use": "For trying the software, not for patients.",
        "training_data": "200 digital phantoms.",
        "networks": {"segmenter": {}},
    }
    (folder / name).mkdir(parents=True)
    (folder / name / "model.json").write_text(json.dumps(card), encoding="utf-8")
    (folder / name / "segmenter.safetensors").write_bytes(b"weights")
    return folder / name


class Driver:
    """A user in front of the module.

    Args:
        widget: The module's widget after ``setup``.
    """

    def __init__(self, widget):
        self.widget, self.gui, self.ui = widget, widget.gui, widget.gui.ui

    def click(self, name):
        """Press a button as a mouse does; a disabled button is an error of the test."""
        button = getattr(self.ui, name)
        assert button.enabled, f"{name} is disabled: {button.toolTip}"
        button.click()
        self.settle()

    def choose(self, name, text):
        """Choose an entry of a combo box by its text."""
        combo = getattr(self.ui, name)
        index = combo.findText(text)
        assert index >= 0, f"{name} has no '{text}'"
        combo.setCurrentIndex(index)
        self.settle()

    def rows(self, name):
        """Return the texts of a table."""
        table = getattr(self.ui, name)
        return [[table.item(r, c).text() for c in range(table.columnCount)] for r in range(table.rowCount)]

    def phases(self):
        """Return the chosen phase of each volume, by the volume's name."""
        table = self.ui.phaseTable
        return {table.item(r, 1).text(): table.cellWidget(r, 0).currentText for r in range(table.rowCount)}

    def choose_phase(self, volume_name, text):
        """Choose the phase of a volume."""
        table = self.ui.phaseTable
        (row,) = [r for r in range(table.rowCount) if table.item(r, 1).text() == volume_name]
        table.cellWidget(row, 0).setCurrentText(text)
        self.settle()

    def unexplained(self):
        """Return the disabled controls that do not say why; a parent that is disabled says it for its children."""
        controls = (QtWidgets.QPushButton, QtWidgets.QComboBox, QtWidgets.QAbstractSpinBox, QtWidgets.QLineEdit)
        named = [getattr(self.ui, name) for name in vars(self.ui) if not name.startswith("_")]
        mine = [each for each in named if isinstance(each, controls) or type(each).__name__.startswith("Ctk")]
        disabled = [each for each in mine if not each.enabled and each.parentWidget().enabled]
        return [each.objectName for each in disabled if each.toolTip in ("", each.property("tipWhenEnabled"))]

    def close(self):
        """Close the application's window with the module in it."""
        self.widget.cleanup()
        shiboken6.delete(self.widget.parent)

    def settle(self, seconds=0.12):
        """Let timers and events run."""
        settle(QtWidgets.QApplication.instance(), seconds)

    def wait_for_job(self, timeout_s=120):
        """Wait until the job is over, as a user would who watches the bar."""
        end = time.monotonic() + timeout_s
        while self.gui.bar.busy:
            assert time.monotonic() < end, f"still running: {self.ui.jobMessage.text}"
            self.settle(0.1)
        assert not self.ui.errorFrame.visible, self.ui.errorLabel.text
        self.settle()

    def picture(self, folder, name, size=(470, 780)):
        """Save a picture of the panel and return how much of it is not background, 0 to 1."""
        top, frame = self.gui.top, self.widget.parent
        frame.resize(size[0], max(size[1], frame.layout().totalHeightForWidth(size[0]), frame.sizeHint().height()))
        self.settle()
        image = top.grab().toImage()
        flat = QtCore.Qt.ThresholdDither | QtCore.Qt.AvoidDither
        assert image.convertToFormat(QtGui.QImage.Format_Indexed8, flat).save(str(folder / name))
        corner = image.pixel(1, image.height() - 2)
        pixels = [image.pixel(x, y) for x in range(0, image.width(), 7) for y in range(0, image.height(), 7)]
        return sum(pixel != corner for pixel in pixels) / len(pixels)


def settings_in(folder):
    """Return empty settings in a file of their own."""
    return QtCore.QSettings(str(folder / "settings.ini"), QtCore.QSettings.IniFormat)


def open_module(monkeypatch, folder, *, bundled=None):
    """Return a driver of the opened module, which sees no models but those that a test adds or names as ``bundled``."""
    monkeypatch.setattr("Diff4MMLiTSLib.gui.models.BUNDLED", bundled or folder / "no bundled models")
    application = slicer_stand_in.Application()
    application.settings, application.temporaryPath = settings_in(folder), str(folder)
    monkeypatch.setattr(slicer, "app", application, raising=False)
    add_application_nodes(slicer.mrmlScene)
    widget = module_script().Diff4MMLiTSWidget()
    widget.setup()
    widget.parent.show()
    return Driver(widget)
