"""Pictures of every tab, as a user sees them; `make screenshots` renews those that the documentation shows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import interpreter
import module_factory
import pytest
from abdomen_scene import add_phases
from pair_factory import add_pairs
from qt_stand_in import QtGui, QtWidgets

from Diff4MMLiTSLib.gui.models import models_folder

SHOWN_AS = Path(__file__).parents[3] / "Resources" / "Screenshots"


@pytest.fixture
def folder(tmp_path):
    if not os.environ.get("DIFF4MMLITS_SCREENSHOTS"):
        return tmp_path
    SHOWN_AS.mkdir(parents=True, exist_ok=True)
    return SHOWN_AS


@pytest.fixture
def module(scene, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    module_factory.add_model(models_folder())
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", str(interpreter.install(tmp_path)))
    driver = module_factory.open_module(monkeypatch, tmp_path)
    add_phases("native", "arterial", "portal venous", "delayed")
    driver.settle()
    yield driver
    driver.close()


@pytest.fixture
def dark():
    application = QtWidgets.QApplication.instance()
    before = application.palette()
    palette = QtGui.QPalette(QtGui.QColor(50, 50, 50), QtGui.QColor(38, 38, 38))
    application.setPalette(palette)
    yield
    application.setPalette(before)


def segment(module):
    module.click("applyButton")
    module.wait_for_job()
    module.ui.lesionTable.selectRow(0)
    module.settle()


def test_the_segment_tab_shows_tumors_table_and_curve(module, folder):
    segment(module)
    assert module.picture(folder, "segment.png", (470, 940)) > 0.05
    assert module.ui.plotFrame.visible


def test_the_synthesize_tab_shows_what_will_be_made_and_what_is_there(module, folder, tmp_path):
    add_pairs(tmp_path / "S01", 3, source_id="S01")
    module_factory.add_model(models_folder(), "phantom-synthesizer", kind="synthesizer")
    module.gui.synthesize.offer_models()
    module.choose("tumorStateSelector", "None: this study is free of tumor")
    module.ui.tabs.setCurrentWidget(module.ui.synthesizeTab)
    module.ui.studyNameEdit.text = "S01"
    module.ui.pairsFolderEdit.currentPath = "/data/S01"
    module.gui.synthesize._made_by = ("S01", tmp_path / "S01" / "pairs")
    module.gui.refresh()
    assert module.picture(folder, "synthesize.png", (470, 1000)) > 0.05
    assert [row[1] for row in module.rows("madePairTable")] == ["Passed", "Look closely", "Passed"]


def test_the_review_tab_shows_where_the_reviewer_is(module, folder, tmp_path):
    module.ui.tabs.setCurrentWidget(module.ui.reviewTab)
    module.ui.reviewerEdit.text = "R1"
    module.gui.review.open(add_pairs(tmp_path, 4, source_id="S01"))
    module.click("acceptButton")
    assert module.picture(folder, "review.png", (470, 640)) > 0.05
    assert module.ui.pairCount.text == "2 of 4"


def test_the_train_tab_shows_the_curve_of_a_run(module, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.toml").touch()
    lines = [{"step": 10 * n, "segmenter/loss": 1.2 / n**0.4, "validation/score": 0.8 - 0.6 / n} for n in range(1, 60)]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = {"event": "progress", "stage": "train", "fraction": 0.59, "message": "step 590/1000, loss 0.236"}
    (tmp_path / "run.log").write_text('{"event": "started"}\n' + json.dumps(said) + "\n")
    module.ui.tabs.setCurrentWidget(module.ui.trainTab)
    module.ui.recipeEdit.currentPath = "recipe.toml"
    module.ui.runFolderEdit.currentPath = "run"
    module.settle()
    assert module.picture(folder, "train.png", (470, 940)) > 0.05
    assert module.ui.trainingPlotFrame.visible


def test_the_setup_tab_shows_packages_and_models(module, folder, monkeypatch):
    monkeypatch.delenv("DIFF4MMLITS_PYTHON")  # the packages of Slicer's own interpreter, and no path of this computer
    module.gui.setup.look()
    assert module.ui.packageTable.rowCount > 5
    module.ui.tabs.setCurrentWidget(module.ui.setupTab)
    module.ui.modelTable.selectRow(0)
    assert module.picture(folder, "setup.png", (470, 940)) > 0.05


def test_the_study_panel_shows_the_comparison_by_eye(module, folder):
    module.ui.compareButton.collapsed = False
    module.settle()
    assert module.picture(folder, "study.png", (470, 780)) > 0.05


def test_an_error_is_shown_in_the_panel(module, folder, tmp_path, monkeypatch):
    failures = {"segment": ("Out of memory.", "Close other programs, or choose the processor as device.", 4)}
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", str(interpreter.install(tmp_path, failures=failures)))
    module.click("applyButton")
    with pytest.raises(AssertionError):
        module.wait_for_job()
    module.click("detailsButton")
    assert module.picture(folder, "error.png", (470, 940)) > 0.05


def test_the_panel_is_readable_in_dark_mode(dark, module, folder):
    segment(module)
    assert module.picture(folder, "dark.png", (470, 940)) > 0.05
