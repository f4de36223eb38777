"""The study panel, driven as a user would, with the real engine on the phantom."""

from __future__ import annotations

import shutil
import tempfile

import interpreter
import module_factory
import numpy as np
import pytest
import qt_stand_in
import slicer
from abdomen_scene import SPACING, add_phases

from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.gui import sources, views
from Diff4MMLiTSLib.gui.job import JobError
from Diff4MMLiTSLib.gui.parameters import TumorState
from Diff4MMLiTSLib.gui.scene import ALIGNED_ROLE, SceneStudy, SegmentChoice, write_study
from Diff4MMLiTSLib.gui.segments import new_segmentation, set_liver, set_tumors
from Diff4MMLiTSLib.gui.synthesis import tumor_choices
from Diff4MMLiTSLib.gui.world import matrix_of


@pytest.fixture
def module(scene, monkeypatch, tmp_path):
    monkeypatch.setenv("DIFF4MMLITS_MODELS", str(tmp_path / "models"))
    driver = module_factory.open_module(monkeypatch, tmp_path)
    yield driver
    driver.close()


def shown():
    """Return the names of background and foreground, and the opacity of the foreground."""
    composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    layers = composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()
    nodes = [slicer.mrmlScene.GetNodeByID(layer or "") for layer in layers]
    return [node.GetName() if node else None for node in nodes], composite.GetForegroundOpacity()


def unaligned(*names):
    reference = add_phases(*names)
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        node.SetNodeReferenceID(ALIGNED_ROLE, None)
    return reference


def test_the_sample_study_is_made_and_loaded_by_the_engine(module):
    module.click("sampleButton")
    module.wait_for_job(300)
    assert sorted(module.phases().values()) == [
        "AP – arterial",
        "DELAY – delayed",
        "NC – native",
        "PVP – portal venous",
    ]
    assert {row[3] for row in module.rows("phaseTable")} == {"Reference", "As acquired"}
    assert shown()[0] == ["PVP phantom-standard-small-0007", None]


def test_phases_are_kept_unregistered_by_the_engine_and_again(module):
    unaligned("portal venous", "arterial")
    module.settle()
    module.click("unregisterButton")
    module.wait_for_job(300)
    assert module.gui.study.study().is_aligned
    assert [row[3] for row in module.rows("phaseTable")] == ["Reference", "Unregistered"]
    assert not module.ui.unregisterButton.enabled
    assert module.ui.registerButton.enabled
    names = [volume.GetName() for volume in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
    assert names == ["portal venous", "arterial", "arterial aligned"]
    assert module.gui.study.study().phases["AP"].GetName() == "arterial aligned"


def test_one_click_leads_from_the_sample_study_to_its_segmented_liver(module, monkeypatch, tmp_path):
    names = {"PVP": unaligned("portal venous", "arterial"), "AP": slicer.util.getNode("arterial")}
    folder = write_study(SceneStudy("phantom-0007", names), tmp_path / "phantom-0007")
    slicer.mrmlScene.Clear(0)
    module_factory.add_model(tmp_path / "models", "phantom-segmenter")
    module.gui.segment.offer_models()
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", str(interpreter.install(tmp_path, study=folder)))
    module.click("sampleButton")
    module.wait_for_job()
    assert len(module.rows("lesionTable")) == 2
    assert module.ui.segmentTab.visible
    assert [row[3] for row in module.rows("phaseTable")] == ["Aligned, check", "Reference"]
    assert "Look at the alignment" in module.ui.phaseMessage.text
    assert module.ui.phaseTable.item(0, 3).toolTip() == "The liver's border differs."


def test_the_sample_data_module_gets_the_phantom(module, monkeypatch, tmp_path):
    study = SceneStudy("phantom-0007", {"PVP": add_phases("portal venous")})
    folder = write_study(study, tmp_path / "phantom-0007")
    slicer.mrmlScene.Clear(0)
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", str(interpreter.install(tmp_path, study=folder)))
    loaded = sources.load_sample()
    module.settle()
    assert shown()[0] == [loaded.reference.GetName(), None]
    assert list(loaded.phases) == ["PVP"]
    assert list(module.phases().values()) == ["PVP – portal venous"]


def test_a_folder_of_images_and_a_study_folder_are_opened(module, monkeypatch, tmp_path):
    reference = add_phases("portal venous", "arterial")
    phases = {"PVP": reference, "AP": slicer.util.getNode("arterial")}
    write_study(SceneStudy("someone", phases), tmp_path / "cohort" / "someone")
    (tmp_path / "images").mkdir()
    for name, phase in (("art phase", "AP"), ("portal", "PVP")):
        shutil.copy(tmp_path / "cohort" / "someone" / f"{phase}.nrrd", tmp_path / "images" / f"{name}.nrrd")
    slicer.mrmlScene.Clear(0)
    module.settle()
    for folder in (tmp_path / "cohort" / "someone", tmp_path / "cohort", tmp_path / "images"):
        monkeypatch.setattr(qt_stand_in.FileDialog, "answer", str(folder))
        module.click("openFolderButton")
        assert sorted(module.phases().values()) == ["AP – arterial", "PVP – portal venous"]
        slicer.mrmlScene.Clear(0)
        module.settle()


def test_of_a_folder_of_images_the_first_is_shown(module, tmp_path):
    reference = add_phases("portal venous")
    write_study(SceneStudy("someone", {"PVP": reference}), tmp_path / "someone")
    (tmp_path / "images").mkdir()
    shutil.copy(tmp_path / "someone" / "PVP.nrrd", tmp_path / "images" / "scan.nrrd")
    views.show_volume(reference)
    module.gui.study.folders.open_folder(tmp_path / "images")
    assert shown()[0] == ["scan", None]


def test_of_several_studies_one_is_chosen_and_replaces_the_other(module, monkeypatch, tmp_path):
    phases = {"PVP": add_phases("portal venous")}
    for name in ("anna", "bert"):
        write_study(SceneStudy(name, phases), tmp_path / name)
    slicer.mrmlScene.Clear(0)
    module.settle()
    monkeypatch.setattr(qt_stand_in.FileDialog, "answer", str(tmp_path))
    module.click("openFolderButton")
    assert module.phases() == {"PVP anna": "PVP – portal venous"}
    module.choose("folderStudySelector", "bert")
    assert module.phases() == {"PVP anna": "Not used", "PVP bert": "PVP – portal venous"}
    assert module.gui.study.study().reference.GetName() == "PVP bert"


def test_a_folder_without_images_fails_in_words(module, monkeypatch, tmp_path):
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(qt_stand_in.FileDialog, "answer", str(tmp_path / "empty"))
    module.click("openFolderButton")
    with pytest.raises(AssertionError, match="DICOM"):
        module.wait_for_job()


def test_what_a_folder_holds_is_told_from_its_files(tmp_path):
    for name, file in (("study", "study.json"), ("images", "a.NII.GZ"), ("dicom", "IM0001")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    kinds = [sources.kind_of(tmp_path / name).value for name in ("study", "images", "dicom", ".")]
    assert kinds == ["study", "images", "dicom", "cohort"]


def test_the_phases_are_found_in_the_images_on_request(module):
    reference = add_phases("portal venous")
    reference.SetName("series 4")
    reference.SetAttribute("LiverRole", None)
    module.settle()
    module.click("detectButton")
    assert "Find phases: done." in module.ui.jobMessage.text
    assert module.ui.phaseTable.cellWidget(0, 0).toolTip


def test_what_went_wrong_before_is_forgotten_when_something_else_begins(module):
    add_phases("portal venous")
    module.settle()
    module.gui.bar.fail(JobError("bad_input", "There is no folder 'cohort'."))
    module.click("detectButton")
    assert not module.ui.errorFrame.visible


def test_a_search_for_the_phases_that_is_canceled_changes_no_phase(module, monkeypatch):
    add_phases("portal venous", "arterial")
    module.settle()
    module.choose_phase("arterial", "DELAY – delayed")
    before = module.phases()
    with monkeypatch.context() as patch:
        patch.setattr(slicer.app, "processEvents", module.gui.bar.cancel)
        module.click("detectButton")
    assert "canceled" in module.ui.jobMessage.text
    assert module.phases() == before


def test_a_part_of_a_step_without_words_keeps_those_of_the_step(module):
    with module.gui.bar.watched("Register") as progress:
        progress.update(0.0, "AP -> PVP")
        progress.update(0.1)
        assert module.ui.jobMessage.text == "Register: AP -> PVP"


def test_a_search_for_the_phases_ends_when_the_scene_is_closed(module, monkeypatch):
    add_phases("portal venous", "arterial")
    module.settle()
    with monkeypatch.context() as patch:
        patch.setattr(slicer.app, "processEvents", lambda: slicer.mrmlScene.Clear(0))
        module.click("detectButton")
    assert "canceled" in module.ui.jobMessage.text
    assert not module.gui.bar.busy
    assert module.phases() == {}


def test_working_files_lie_in_the_temporary_folder_of_slicer(module, monkeypatch, tmp_path):
    folder = write_study(SceneStudy("phantom-0007", {"PVP": add_phases("portal venous")}), tmp_path / "phantom-0007")
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", str(interpreter.install(tmp_path, study=folder)))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    module.settle()
    module.click("detectButton")
    assert not module.ui.errorFrame.visible, module.ui.errorLabel.text
    module.click("sampleButton")
    module.wait_for_job()
    sources.load_sample()
    assert len(list(tmp_path.glob("Diff4MMLiTS-*"))) == 1  # that of the folder panel, as long as it is open
    module.gui.study.folders.close()
    assert list(tmp_path.glob("Diff4MMLiTS-*")) == []


def test_a_study_that_cannot_be_read_is_an_error_in_the_panel(module, tmp_path):
    phases = {"PVP": add_phases("portal venous")}
    for name in ("anna", "bert"):
        write_study(SceneStudy(name, phases), tmp_path / "cohort" / name)
    (tmp_path / "cohort" / "bert" / "PVP.nrrd").write_text("no image")
    module.gui.study.folders.open_folder(tmp_path / "cohort")
    module.choose("folderStudySelector", "bert")
    assert "PVP.nrrd" in module.ui.errorLabel.text
    assert module.ui.errorFrame.visible
    module.gui.study.folders.open_folder(tmp_path / "cohort that is gone")
    assert "'cohort that is gone' cannot be read" in module.ui.errorLabel.text
    assert module.ui.errorLabel.text.endswith("Expected: a folder.")


def written_study(folder, name="someone", **known):
    """Write a study of two phases whose reference is the arterial one, and empty the scene."""
    phases = {"PVP": unaligned("portal venous", "arterial"), "AP": slicer.util.getNode("arterial")}
    phases["PVP"].SetNodeReferenceID(ALIGNED_ROLE, phases["AP"].GetID())
    masks = new_segmentation("drawn", phases["AP"])
    array = slicer.util.arrayFromVolume(phases["AP"])
    set_liver(masks, array > 0, matrix_of(phases["AP"]), source="annotation")
    set_tumors(masks, array > 100, matrix_of(phases["AP"]), source=known.pop("source", "annotation"))
    if not known:
        known["tumor"] = tumor_choices(masks)
    study = SceneStudy(name, phases, Phase.AP, liver=SegmentChoice(masks, "Liver"), **known)
    write_study(study, folder / name)
    slicer.mrmlScene.Clear(0)
    return folder / name


def test_what_a_study_folder_says_about_liver_tumors_and_reference_is_chosen(module, tmp_path):
    module.gui.study.folders.open_folder(written_study(tmp_path))
    study, chosen = module.gui.study.study(), module.widget.logic.getParameterNode()
    assert (study.reference_phase, study.is_aligned) == (Phase.AP, True)
    assert study.liver.node.GetName() == "someone liver and tumors"
    assert (chosen.tumorState, chosen.tumors) == (TumorState.ANNOTATED, study.liver.node)
    assert [row[3] for row in module.rows("phaseTable")] == ["Reference", "Aligned"]


def test_a_study_takes_the_place_of_the_masks_of_the_one_before(module, tmp_path):
    first = written_study(tmp_path, "first")
    second = written_study(tmp_path, "second", is_tumor_free=True)
    module.gui.study.folders.open_folder(first)
    module.gui.study.folders.open_folder(second)
    chosen = module.widget.logic.getParameterNode()
    assert chosen.liver.GetName() == "second liver and tumors"
    assert (chosen.tumorState, chosen.tumors) == (TumorState.FREE, None)


def test_the_tumors_of_a_model_are_not_taken_for_all_of_them(module, tmp_path):
    module.gui.study.folders.open_folder(written_study(tmp_path, source="model"))
    chosen = module.widget.logic.getParameterNode()
    assert chosen.tumorState is TumorState.UNKNOWN
    assert chosen.tumors is not None


def test_a_chosen_liver_is_seen_by_the_tabs_at_once(module, monkeypatch):
    reference = add_phases("portal venous")
    set_liver(new_segmentation("mine", reference), slicer.util.arrayFromVolume(reference) > 0, matrix_of(reference))
    module.settle()
    seen = []
    monkeypatch.setattr(module.gui.synthesize, "refresh", lambda: seen.append(module.gui.study.study().liver))
    module.choose("liverSelector", "mine")
    assert seen[-1] is not None


def test_a_liver_of_the_scene_is_used_when_it_is_chosen(module):
    reference = add_phases("portal venous")
    node = new_segmentation("mine", reference)
    mask = slicer.util.arrayFromVolume(reference) > 0
    matrix = np.diag([*SPACING, 1.0])
    set_liver(node, mask, matrix)
    module.settle()
    assert module.gui.study.study().liver is None
    module.choose("liverSelector", "mine")
    assert module.gui.study.study().liver.node is node


def test_a_selected_row_shows_its_volume(module):
    add_phases("portal venous", "arterial")
    module.settle()
    module.ui.phaseTable.selectRow(1)
    assert shown()[0] == ["arterial", None]


def test_overlay_checkerboard_and_flicker_show_two_phases(module):
    add_phases("portal venous", "arterial")
    module.settle()
    module.ui.compareButton.collapsed = False
    module.settle()
    assert shown() == (["portal venous", "arterial"], pytest.approx(0.5))
    module.ui.compareOpacitySlider.value = 0.25
    assert shown()[1] == pytest.approx(0.25)
    module.choose("compareModeSelector", "Checkerboard")
    assert shown()[0] == ["Checkerboard", None]
    module.choose("compareModeSelector", "Flicker")
    opacities = set()
    for _moment in range(8):
        opacities.add(shown()[1])
        module.settle(0.25)
    assert opacities == {0.0, 1.0}
    module.ui.compareButton.collapsed = True
    assert shown()[0] == ["portal venous", None]
    assert [n.GetName() for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")] == [
        "portal venous",
        "arterial",
    ]


def test_segmentations_are_outlines_while_phases_are_compared(module):
    reference = add_phases("portal venous", "arterial")
    filled, outlined = (new_segmentation(name, reference).GetDisplayNode() for name in ("filled", "outlined"))
    outlined.SetVisibility2DFill(False)
    module.settle()
    module.ui.compareButton.collapsed = False
    module.choose("compareModeSelector", "Checkerboard")
    assert not filled.GetVisibility2DFill()
    module.ui.compareButton.collapsed = True
    assert filled.GetVisibility2DFill()
    assert not outlined.GetVisibility2DFill()


def test_a_checkerboard_of_unaligned_phases_is_refused_in_words(module):
    unaligned("portal venous", "arterial")
    module.settle()
    module.ui.compareButton.collapsed = False
    module.choose("compareModeSelector", "Checkerboard")
    assert "needs aligned phases" in module.ui.compareMessage.text
    assert shown()[0] == ["portal venous", "arterial"]


def test_a_checkerboard_has_fields_of_both():
    board = views.mixed(np.zeros((4, 4, 4)), np.ones((4, 4, 4)), field=2)
    assert board[0, 0, 0] == 0
    assert board[0, 0, 2] == 1
    assert board[0, 2, 2] == 0
    assert board.mean() == 0.5


def test_one_phase_needs_no_registration(module):
    add_phases("portal venous")
    module.settle()
    assert not module.ui.registerButton.enabled
    assert "one phase" in module.ui.registerButton.toolTip


def test_the_application_settings_remember_the_last_folder(module, monkeypatch, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "image.nrrd").write_text("no image")
    monkeypatch.setattr(qt_stand_in.FileDialog, "answer", str(tmp_path / "a" / "b"))
    module.click("openFolderButton")
    assert slicer.app.settings.value("Diff4MMLiTS/LastFolder") == str(tmp_path / "a")
    assert "image.nrrd" in module.ui.errorLabel.text
