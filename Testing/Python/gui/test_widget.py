"""The module's panel, driven as a user would: the real .ui and the real scene under stand-ins for Slicer's widgets."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import module_factory
import pytest
import scene_factory
import slicer


@pytest.fixture
def module(scene, monkeypatch, tmp_path):
    monkeypatch.setenv("DIFF4MMLITS_MODELS", str(tmp_path / "models"))
    driver = module_factory.open_module(monkeypatch, tmp_path)
    yield driver
    driver.close()


def add_volume(name, seed=0):
    return scene_factory.add_volume(scene_factory.smooth_values(seed=seed), scene_factory.ijk_to_ras(), name)


def test_an_empty_scene_says_what_to_do_and_disables_what_cannot_be_done(module):
    assert "Open a folder" in module.ui.phaseMessage.text
    for name in ("registerButton", "applyButton", "addTumorButton", "undoButton", "saveTableButton"):
        button = getattr(module.ui, name)
        assert not button.enabled
        assert button.toolTip


def test_in_an_empty_scene_every_disabled_control_says_why(module):
    assert module.unexplained() == []


def test_volumes_get_the_phase_that_their_names_tell(module):
    for name in ("native", "arterial phase", "portal venous", "scout"):
        add_volume(name)
    module.settle()
    assert module.phases() == {
        "native": "NC – native",
        "arterial phase": "AP – arterial",
        "portal venous": "PVP – portal venous",
        "scout": "Not used",
    }
    assert slicer.util.getNode("native").GetAttribute("LiverRole") == "Native"


def test_a_phase_that_another_volume_has_is_refused_in_words(module):
    add_volume("arterial phase")
    add_volume("scout")
    module.settle()
    module.choose_phase("scout", "AP – arterial")
    assert module.phases()["scout"] == "Not used"
    assert "both AP" in module.ui.phaseMessage.text


def test_the_self_test_of_the_module_passes_here_too(module, monkeypatch):
    monkeypatch.setattr(slicer.util, "selectModule", lambda _name: None)
    monkeypatch.setattr(slicer.util, "getModuleWidget", lambda _name: module.widget)
    sys.modules["Diff4MMLiTS"].Diff4MMLiTSTest().runTest()


def test_the_panels_follow_volumes_and_segmentations_and_no_other_nodes(module, monkeypatch):
    refreshed = []
    monkeypatch.setattr(module.gui.study, "refresh", lambda: refreshed.append(1))

    def refreshes(kind, *, is_hidden=False):
        node = slicer.mrmlScene.CreateNodeByClass(kind)
        node.UnRegister(None)
        node.SetHideFromEditors(is_hidden)
        refreshed.clear()
        slicer.mrmlScene.AddNode(node)
        module.settle()
        return bool(refreshed)

    assert refreshes("vtkMRMLScalarVolumeNode")
    assert refreshes("vtkMRMLSegmentationNode")
    assert not refreshes("vtkMRMLScalarVolumeNode", is_hidden=True)
    assert not refreshes("vtkMRMLMarkupsFiducialNode")
    assert not refreshes("vtkMRMLTableNode")


def test_choices_are_kept_in_the_scene_and_shown_again(module):
    module.choose("qualitySelector", "Fast")
    module.widget.exit()
    module.ui.qualitySelector.setCurrentIndex(0)
    module.widget.enter()
    assert module.ui.qualitySelector.currentText == "Fast"
    slicer.mrmlScene.Clear(0)
    module.settle()
    assert module.ui.qualitySelector.currentText == "Normal"


def test_the_python_console_reaches_every_function(module, monkeypatch):
    add_volume("portal venous")
    module.settle()
    logic = module.widget.logic
    assert logic.study_of_scene().reference.GetName() == "portal venous"
    assert callable(logic.segment_folder)
    with pytest.raises(AttributeError):
        _ = logic.no_such_function


def test_sample_data_are_registered_when_slicer_has_started(module, monkeypatch):
    registered = []
    logic = SimpleNamespace(registerCustomSampleDataSource=lambda **source: registered.append(source))
    monkeypatch.setitem(sys.modules, "SampleData", SimpleNamespace(SampleDataLogic=logic))
    parent = SimpleNamespace()
    sys.modules["Diff4MMLiTS"].Diff4MMLiTS(parent)
    slicer.app.startupCompleted.emit()
    (source,) = registered
    assert source["category"] == "Diff4MMLiTS"
    assert source["customDownloader"] is not None
    assert Path(source["thumbnailFileName"]).is_file()
    assert parent.title == "Diff4MMLiTS"


def test_the_module_ends_quietly_and_can_be_built_again(module, monkeypatch, tmp_path):
    module.widget.cleanup()
    add_volume("portal venous")
    module.settle()
    assert module.phases() == {}
    again = module_factory.open_module(monkeypatch, tmp_path)
    assert again.phases() == {"portal venous": "PVP – portal venous"}
    again.close()
