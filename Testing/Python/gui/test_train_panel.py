"""The Train tab: dry run, start, Slicer closed, found again, stopped, resumed, and the model in the Segment tab."""

from __future__ import annotations

import json

import interpreter
import module_factory
import pytest
import slicer
from qt_stand_in import QtGui, QtWidgets

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.gui import train_panel
from Diff4MMLiTSLib.gui.training_plot import COLORS, TrainingPlot, curve_title
from Diff4MMLiTSLib.gui.training_run import Curve
from gui.fake_engine import until


@pytest.fixture
def engine(scene, monkeypatch, tmp_path):
    monkeypatch.setenv("DIFF4MMLITS_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", str(interpreter.install(tmp_path, slow_s=0.1)))
    (tmp_path / "recipe.toml").touch()
    return tmp_path


@pytest.fixture
def slicer_opens(engine, monkeypatch):
    opened = []

    def sit_down():
        driver = module_factory.open_module(monkeypatch, engine)
        opened.append(driver)
        driver.ui.tabs.setCurrentWidget(driver.ui.trainTab)
        driver.settle()
        return driver

    yield sit_down
    for driver in opened:
        driver.gui.train.stop()
        driver.close()


def choose(driver, folder):
    driver.ui.recipeEdit.currentPath = str(folder / "recipe.toml")
    driver.ui.runFolderEdit.currentPath = str(folder / "run")
    driver.settle()


def points(driver):
    (plot,) = driver.ui.trainingPlotFrame.findChildren(slicer.qMRMLPlotWidget)
    return len(plot.lines()["segmenter loss"])


def look_until(driver, condition):
    def seen():
        driver.settle(0.05)
        driver.gui.train.look()
        return condition()

    until(seen, timeout_s=60)


def test_a_training_is_started_slicer_closed_reattached_stopped_and_resumed(slicer_opens, engine):
    first = slicer_opens()
    choose(first, engine)
    first.click("startTrainingButton")
    look_until(first, lambda: first.ui.trainingPlotFrame.visible and points(first) >= 2)
    assert not first.ui.startTrainingButton.enabled
    first.widget.cleanup()

    second = slicer_opens()
    assert second.ui.runFolderEdit.currentPath == str(engine / "run")
    assert "goes on when Slicer is closed" in second.ui.trainingMessage.text
    look_until(second, lambda: points(second) >= 4)
    second.click("stopTrainingButton")
    look_until(second, lambda: second.ui.resumeTrainingButton.enabled)
    assert "Stopped at" in second.ui.trainingMessage.text
    second.click("resumeTrainingButton")
    look_until(second, lambda: "Finished" in second.ui.trainingMessage.text)
    assert second.ui.modelSelector.findText("my model") >= 0
    assert "step 40/40" in second.ui.trainingText.toPlainText()


def test_the_dry_run_says_what_it_takes(slicer_opens, engine):
    driver = slicer_opens()
    choose(driver, engine)
    driver.click("rehearseButton")
    driver.wait_for_job()
    assert "about 8.2 min" in driver.ui.trainingText.toPlainText()
    assert not (engine / "run").exists()


def test_a_training_that_failed_before_it_wrote_anything_is_started_again(slicer_opens, engine):
    (engine / "run").mkdir()
    failed = {"event": "error", "code": "bad_input", "message": "0 to validate on. Expected: one.", "hint": "one"}
    (engine / "run.log").write_text('{"event": "started"}\n' + json.dumps(failed) + "\n")
    driver = slicer_opens()
    choose(driver, engine)
    assert driver.ui.trainingMessage.text == "0 to validate on. Expected: one."
    assert driver.ui.startTrainingButton.enabled
    assert not driver.ui.resumeTrainingButton.enabled
    (engine / "run" / "recipe.json").write_text("{}")
    driver.gui.refresh()
    assert not driver.ui.startTrainingButton.enabled
    assert driver.ui.resumeTrainingButton.enabled


def test_the_tab_says_what_to_choose(slicer_opens, engine):
    driver = slicer_opens()
    assert "Choose a recipe" in driver.ui.trainingMessage.text
    driver.ui.runFolderEdit.currentPath = str(engine / "run")
    assert "Choose a recipe" in driver.ui.trainingMessage.text
    choose(driver, engine)
    assert driver.ui.trainingMessage.text == ""
    driver.ui.runFolderEdit.currentPath = ""
    assert "run folder" in driver.ui.trainingMessage.text
    assert not driver.ui.startTrainingButton.enabled


def test_the_table_of_a_dry_run_keeps_its_columns(slicer_opens):
    driver = slicer_opens()
    driver.ui.tabs.setCurrentWidget(driver.ui.trainTab)
    driver.widget.parent.resize(470, 760)
    driver.settle()
    text = driver.ui.trainingText
    assert QtGui.QFontInfo(text.font).fixedPitch()
    line = "validation     14.6 s        4.4 s    26.0 s      4.1 s"
    assert QtGui.QFontMetrics(text.font).horizontalAdvance(line) <= text.viewport().width
    assert text.lineWrapMode == QtWidgets.QPlainTextEdit.WidgetWidth  # longer lines are read without scrolling


def test_every_button_says_why_it_cannot_be_pressed(slicer_opens):
    driver = slicer_opens()
    for name in ("rehearseButton", "startTrainingButton", "stopTrainingButton", "resumeTrainingButton"):
        button = getattr(driver.ui, name)
        assert not button.enabled
        assert button.toolTip.endswith(".")


def test_a_folder_without_a_name_is_refused_by_the_field(slicer_opens, engine):
    driver = slicer_opens()
    driver.ui.recipeEdit.currentPath = str(engine / "recipe.toml")
    driver.ui.runFolderEdit.currentPath = "/"
    driver.settle()
    assert "cannot be a run folder" in driver.ui.trainingMessage.text
    assert driver.ui.trainingMessage.visible
    assert "cannot be a run folder" in driver.ui.startTrainingButton.toolTip
    driver.ui.runFolderEdit.currentPath = str(engine / "run")
    driver.settle()
    assert driver.ui.startTrainingButton.enabled


def test_a_model_that_could_not_be_added_is_added_the_next_time(slicer_opens, engine, monkeypatch):
    module_factory.add_model(engine / "run", "model")

    def fail(_folder):
        raise InputError("No space", expected="more")

    with monkeypatch.context() as patch:
        patch.setattr(train_panel, "import_model", fail)
        first = slicer_opens()
        choose(first, engine)
        assert "No space" in first.ui.trainingMessage.text
        first.widget.cleanup()
    second = slicer_opens()
    choose(second, engine)
    assert second.ui.modelSelector.findText("model") >= 0


def test_the_plot_keeps_its_nodes_while_the_same_curves_grow(slicer_opens):
    frame = slicer_opens().ui.trainingPlotFrame
    plot = TrainingPlot(frame)
    names = [f"validation/{number}" for number in range(len(COLORS) + 2)]
    plot.show([Curve(name, (1,), (0.5,)) for name in names])
    (widget,) = frame.findChildren(slicer.qMRMLPlotWidget)
    assert not widget.view.chart().GetLegend().GetInline()
    before = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode")}
    assert len(before) == len(names)
    fitted = widget.view.fitted
    plot.show([Curve(name, (1, 2, 3), (0.5, 0.4, 0.3)) for name in names])
    assert widget.view.fitted == fitted + 1
    series = slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode")
    assert {node.GetID() for node in series} == before
    assert [node.GetTableNode().GetTable().GetNumberOfRows() for node in series] == [3] * len(names)
    assert series[0].GetColor() == series[len(COLORS)].GetColor()
    plot.clear()
    assert slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode") == []


def test_curves_have_names_that_people_read():
    names = ["segmenter/loss", "validation/tumor_dice", "validation/score", "validation/mae_hu"]
    assert list(map(curve_title, names)) == [
        "segmenter loss",
        "tumor Dice (validation)",
        "score (validation)",
        "error in HU (validation)",
    ]
