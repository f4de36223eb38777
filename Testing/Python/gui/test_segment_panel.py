"""The Segment tab, driven as a user would: from two phases to measured, corrected and saved tumors."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import interpreter
import module_factory
import numpy as np
import pytest
import qt_stand_in
import slicer
from abdomen_scene import add_phases

from Diff4MMLiTSLib.gui import process
from Diff4MMLiTSLib.gui.segments import new_segmentation
from gui.fake_engine import until


@pytest.fixture
def module(scene, monkeypatch, tmp_path):
    module_factory.add_model(tmp_path / "models")
    monkeypatch.setenv("DIFF4MMLITS_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", str(interpreter.install(tmp_path)))
    driver = module_factory.open_module(monkeypatch, tmp_path)
    yield driver
    driver.close()


@pytest.fixture
def segmented(module):
    add_phases("arterial", "portal venous", "delayed")
    module.settle()
    module.click("applyButton")
    module.wait_for_job()
    return module


def tumors(module):
    return [row[1] for row in module.rows("lesionTable")]


def test_apply_finds_liver_and_tumors_and_measures_them(segmented):
    node = segmented.gui.segment.tumors.result.node
    segments = node.GetSegmentation()
    names = [segments.GetNthSegment(index).GetName() for index in range(segments.GetNumberOfSegments())]
    assert names == ["Liver", "Tumor 1", "Tumor 2"]
    (large, small) = segmented.rows("lesionTable")
    assert float(large[1]) == pytest.approx(4 / 3 * np.pi * 1.4**3, rel=0.15)
    assert float(large[2]) == pytest.approx(28, abs=4)
    assert [float(hu) for hu in large[3:]] == pytest.approx([115, 75, 80], abs=3)
    assert float(small[1]) < float(large[1])
    assert "For trying the software" in segmented.ui.jobMessage.text


def test_with_a_result_every_disabled_control_says_why(segmented):
    assert segmented.unexplained() == []


def test_a_result_hides_the_segmentations_that_it_replaces(segmented):
    first = segmented.gui.segment.tumors.result.node
    other = new_segmentation("of another study", slicer.util.getNode("portal venous"))
    segmented.click("applyButton")
    segmented.wait_for_job()
    second = segmented.gui.segment.tumors.result.node
    segmented.choose("liverSelector", second.GetName())
    segmented.click("applyButton")
    segmented.wait_for_job()
    third = segmented.gui.segment.tumors.result.node
    visible = [bool(node.GetDisplayNode().GetVisibility()) for node in (first, second, other, third)]
    assert visible == [False, False, True, True]


def test_what_the_card_of_a_model_says_is_a_sentence(module, tmp_path):
    card = tmp_path / "models" / "tiny" / "model.json"
    card.write_text(card.read_text().replace("For trying the software, not for patients.", "for trying"))
    module.gui.segment.offer_models()
    assert module.ui.modelNote.text == "For trying. License: Apache-2.0."


def test_a_study_that_is_not_aligned_waits_for_its_registration(module):
    reference = add_phases("arterial", "portal venous")
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        node.SetNodeReferenceID("Diff4MMLiTS.AlignedTo", None)
    module.settle()
    assert not module.ui.applyButton.enabled
    assert "Register the phases first" in module.ui.applyButton.toolTip
    assert module.ui.registerButton.enabled
    slicer.util.getNode("arterial").SetNodeReferenceID("Diff4MMLiTS.AlignedTo", reference.GetID())
    module.gui.refresh()
    assert module.ui.applyButton.enabled


def test_a_selected_row_moves_the_views_and_draws_its_curve(segmented):
    segmented.ui.lesionTable.selectRow(1)
    segmented.settle()
    slice_node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceNode")
    shown = slice_node.GetSliceToRAS().GetElement(2, 3)
    lesion = segmented.gui.segment.tumors.lesions.lesions[1]
    assert shown == pytest.approx(lesion.center_ras_mm[2])
    assert segmented.ui.plotFrame.visible
    (plot,) = segmented.ui.plotFrame.findChildren(slicer.qMRMLPlotWidget)
    assert plot.lines()["Tumor 2"] == pytest.approx([115, 75, 80], abs=3)
    assert plot.lines()["Liver"] == pytest.approx([78, 118, 95], abs=3)
    assert plot.labels() == ["AP", "PVP", "DELAY"]
    assert plot.view.fitted >= 2


def test_the_threshold_changes_the_tumors_live_and_one_drag_is_one_undo(segmented):
    before = tumors(segmented)
    for value in (0.7, 0.8, 0.9):
        segmented.ui.thresholdSlider.value = value
        segmented.settle(0.1)
    segmented.settle(0.8)
    assert tumors(segmented) == []
    segmented.click("undoButton")
    assert tumors(segmented) == before
    assert segmented.ui.thresholdSlider.value == pytest.approx(0.5)
    assert not segmented.ui.undoButton.enabled
    segmented.click("redoButton")
    assert tumors(segmented) == []


def test_a_drag_that_rests_is_one_undo_all_the_same(segmented, monkeypatch):
    before, qt = tumors(segmented), qt_stand_in.QtCore.Qt
    held = [qt.LeftButton]
    monkeypatch.setattr(qt_stand_in.QtWidgets.QApplication, "mouseButtons", staticmethod(lambda: held[0]))
    panel, measured = segmented.gui.segment.tumors, []
    measure = panel.lesions.measure
    monkeypatch.setattr(panel.lesions, "measure", lambda *of: (measured.append(held[0]), measure(*of)))
    for value in (0.3, 0.9):
        segmented.ui.thresholdSlider.value = value
        segmented.settle(0.8)
    assert not segmented.ui.undoButton.enabled
    held[0] = qt.NoButton
    segmented.settle(0.8)
    assert measured == [qt.NoButton]
    assert tumors(segmented) == []
    segmented.click("undoButton")
    assert tumors(segmented) == before
    assert segmented.ui.thresholdSlider.value == pytest.approx(0.5)


def test_the_tumors_follow_while_the_slider_keeps_moving(segmented, monkeypatch):
    refinement, seen = segmented.gui.segment.tumors.refinement, []
    monkeypatch.setattr(refinement, "set_threshold", lambda threshold, is_final: seen.append((threshold, is_final)))
    for step in range(1, 16):
        segmented.ui.thresholdSlider.value = 0.5 + 0.02 * step
        qt_stand_in.QtCore.QThread.msleep(20)
        slicer.app.processEvents()
    assert seen
    assert not any(is_final for _threshold, is_final in seen)


def test_a_threshold_that_an_older_scene_remembers_changes_nothing(segmented):
    before = tumors(segmented)
    segmented.widget.exit()
    segmented.widget.logic.getParameterNode().SetParameter("threshold", "0.9")
    segmented.widget.enter()
    segmented.settle(0.8)
    assert tumors(segmented) == before
    assert segmented.ui.thresholdSlider.value == pytest.approx(0.5)


def place_point(module, point):
    """Click into a slice view: Slicer adds a point to the list that is being placed."""
    selection = slicer.mrmlScene.GetNodeByID("vtkMRMLSelectionNodeSingleton")
    slicer.mrmlScene.GetNodeByID(selection.GetActivePlaceNodeID()).AddControlPointWorld(*point)
    module.settle()


def test_a_click_removes_a_false_tumor_and_another_adds_a_missed_one(segmented):
    before = tumors(segmented)
    lesion = segmented.gui.segment.tumors.lesions.lesions[1]
    segmented.click("removeTumorButton")
    place_point(segmented, lesion.center_ras_mm)
    segmented.wait_for_job()
    assert len(tumors(segmented)) == 1 or tumors(segmented) != before
    segmented.click("undoButton")
    assert tumors(segmented) == before
    segmented.click("addTumorButton")
    assert not segmented.ui.removeTumorButton.checked
    place_point(segmented, (lesion.center_ras_mm[0] - 24, *lesion.center_ras_mm[1:]))
    segmented.wait_for_job()
    assert len(tumors(segmented)) == 3
    assert slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode") == [] or segmented.ui.addTumorButton.checked


def test_a_click_that_fails_releases_the_button(module, tmp_path, monkeypatch):
    failures = {"serve": ("Out of memory.", "Close other programs.", 4)}
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", str(interpreter.install(tmp_path, failures=failures)))
    add_phases("portal venous")
    module.settle()
    module.click("applyButton")
    module.wait_for_job()
    module.click("addTumorButton")
    place_point(module, module.gui.segment.tumors.lesions.lesions[0].center_ras_mm)
    with pytest.raises(AssertionError, match="Out of memory"):
        module.wait_for_job()
    assert not module.ui.addTumorButton.checked
    assert module.ui.addTumorButton.enabled


def device_of(tmp_path, command):
    options = interpreter.calls(tmp_path, command)[-1]
    return options[options.index("--device") + 1]


def test_the_chosen_device_is_that_of_every_command(module, tmp_path):
    add_phases("arterial", "portal venous")
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        node.SetNodeReferenceID("Diff4MMLiTS.AlignedTo", None)
    module.settle()
    module.choose("deviceSelector", "Processor (CPU)")
    for button in ("registerButton", "applyButton"):
        module.click(button)
        module.wait_for_job()
    module.click("addTumorButton")
    until(lambda: (tmp_path / "calls.txt").read_text().count("serve") == 1)
    assert [device_of(tmp_path, command) for command in ("register", "segment", "serve")] == ["cpu"] * 3
    module.choose("deviceSelector", "Automatic")
    lesion = module.gui.segment.tumors.lesions.lesions[0]
    place_point(module, lesion.center_ras_mm)
    module.wait_for_job()
    assert device_of(tmp_path, "serve") == "auto"


def test_a_device_that_a_scene_brought_is_shown_as_long_as_it_is_used(module):
    module.widget.exit()
    module.widget.logic.getParameterNode().device = "cuda:1"
    module.widget.enter()
    assert module.ui.deviceSelector.currentText == "cuda:1 (not found here)"
    module.choose("deviceSelector", "Automatic")
    assert module.widget.logic.getParameterNode().device == "auto"


def test_the_point_under_the_mouse_says_and_shows_what_the_click_will_do(segmented):
    for button, red, green in (("addTumorButton", 0.2, 0.8), ("removeTumorButton", 0.9, 0.2)):
        segmented.click(button)
        (node,) = slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
        assert node.GetDisplayNode().GetActiveColor()[:2] == pytest.approx((red, green))
        assert node.GetControlPointLabelFormat() == "%N"
        assert "Click into" in segmented.ui.jobMessage.text


def test_leaving_the_place_mode_releases_the_button(segmented):
    segmented.click("addTumorButton")
    slicer.mrmlScene.GetNodeByID("vtkMRMLInteractionNodeSingleton").SwitchToViewTransformMode()
    segmented.settle()
    assert not segmented.ui.addTumorButton.checked
    assert slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode") == []


def test_edits_by_hand_are_measured_again(segmented):
    node = segmented.gui.segment.tumors.result.node
    node.GetSegmentation().RemoveSegment("Tumor_2")
    segmented.settle(0.8)
    assert len(tumors(segmented)) == 1


def test_the_segment_editor_opens_with_the_result(segmented, monkeypatch):
    calls = []
    monkeypatch.setattr(slicer.util, "selectModule", calls.append, raising=False)
    editor = type("Editor", (), {"setSegmentationNode": calls.append, "setSourceVolumeNode": calls.append})
    monkeypatch.setattr(slicer.util, "getModuleWidget", lambda _name: type("Widget", (), {"editor": editor}))
    segmented.click("editorButton")
    result = segmented.gui.segment.tumors.result
    assert calls == ["SegmentEditor", result.node, result.study.reference]


def test_the_table_is_saved_as_csv(segmented, tmp_path, monkeypatch):
    monkeypatch.setattr(qt_stand_in.FileDialog, "answer", str(tmp_path / "my table"))
    segmented.click("saveTableButton")
    with (tmp_path / "my table.csv").open(encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert len(rows) == 3
    assert any("volume" in title for title in rows[0])


def test_the_segmentation_is_saved_as_dicom_beside_its_series(segmented, tmp_path, monkeypatch):
    (tmp_path / "slice").write_text("DICOM")
    database = SimpleNamespace(fileForInstance=lambda _uid: str(tmp_path / "slice"))
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    segmented.gui.segment.tumors.result.study.reference.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    monkeypatch.setattr(qt_stand_in.FileDialog, "answer", str(tmp_path / "tumors.dcm"))
    (tmp_path / "work").mkdir()
    slicer.app.temporaryPath = str(tmp_path / "work")
    segmented.click("saveDicomButton")
    segmented.wait_for_job()
    assert list((tmp_path / "work").iterdir()) == []
    written = json.loads((tmp_path / "tumors.dcm").read_text())
    assert written["kind"] == "dicom-seg"
    assert written["masks"] == ["liver", "tumor"]
    assert written["dicom"] == ["00000.dcm", "00001.dcm"]


def test_a_failure_shows_what_to_do_and_the_log(module, tmp_path, monkeypatch):
    failures = {"segment": ("Out of memory.", "Close other programs.", 4)}
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", str(interpreter.install(tmp_path, failures=failures)))
    add_phases("portal venous")
    module.settle()
    module.click("applyButton")
    with pytest.raises(AssertionError, match="Close other programs"):
        module.wait_for_job()
    assert module.ui.jobMessage.text == "Segment: failed."
    module.click("detailsButton")
    assert "a line of the log" in module.ui.logText.toPlainText()
    assert module.ui.logText.visible
    module.click("dismissButton")
    assert not module.ui.errorFrame.visible
    assert module.ui.applyButton.enabled


def test_a_running_job_is_canceled_and_disables_the_rest_with_a_reason(module, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", str(interpreter.install(tmp_path, slow_s=5)))
    add_phases("portal venous")
    module.settle()
    module.click("applyButton")
    module.settle(1.0)
    assert "Segment" in module.ui.applyButton.toolTip
    assert module.unexplained() == []
    assert not module.ui.applyButton.enabled
    module.click("cancelButton")
    module.wait_for_job(20)
    assert "canceled" in module.ui.jobMessage.text
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []


def test_the_tabs_stay_where_they_are_when_a_job_begins_and_ends(module, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", str(interpreter.install(tmp_path, slow_s=0.2)))
    add_phases("portal venous")
    module.widget.parent.resize(470, 900)
    module.settle()
    places = [module.ui.tabs.y]
    module.click("applyButton")
    places.append(module.ui.tabs.y)
    assert module.ui.cancelButton.visible
    module.wait_for_job()
    assert module.ui.jobMessage.visible
    assert not module.ui.cancelButton.visible
    assert [*places, module.ui.tabs.y] == [places[0]] * 3


def test_a_result_belongs_to_the_volumes_of_its_start_whatever_is_chosen_meanwhile(module, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", str(interpreter.install(tmp_path, slow_s=0.2)))
    add_phases("arterial", "portal venous")
    module.settle()
    module.click("applyButton")
    assert module.gui.bar.busy
    module.choose_phase("portal venous", "Not used")
    module.wait_for_job()
    study = module.gui.segment.tumors.result.study
    assert [volume.GetName() for volume in study.phases.values()] == ["arterial", "portal venous"]
    assert study.reference.GetName() == "portal venous"
    assert [float(hu) for hu in module.rows("lesionTable")[0][3:]] == pytest.approx([115, 75], abs=3)


def test_ending_the_module_in_mid_job_ends_the_engine_and_loads_nothing(module, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", str(interpreter.install(tmp_path, slow_s=20)))
    add_phases("portal venous")
    module.settle()
    module.click("applyButton")
    module.settle(0.5)
    (child,) = process._living
    module.widget.cleanup()  # as a reload of the module does
    until(lambda: child not in process._living)
    assert child.exit_code != 0
    module.settle(0.3)
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []


def test_closing_the_scene_in_mid_job_is_harmless(module, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", str(interpreter.install(tmp_path, slow_s=1)))
    add_phases("portal venous")
    module.settle()
    module.click("applyButton")
    slicer.mrmlScene.Clear(0)
    module.settle(1.0)
    assert not module.gui.bar.busy
    assert module.phases() == {}
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []
