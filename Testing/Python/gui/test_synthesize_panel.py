"""The Synthesize tab: from a study whose tumors are known to pairs in the Review tab."""

from __future__ import annotations

import json
from dataclasses import replace

import interpreter
import module_factory
import pytest
import slicer
from abdomen_scene import add_phases, liver_with_tumors
from scene_factory import add_liver

from Diff4MMLiTSLib.core.study_io import read_study
from Diff4MMLiTSLib.gui import logic
from Diff4MMLiTSLib.gui.segments import set_tumors
from Diff4MMLiTSLib.gui.synthesis import SynthesisWish, tumor_choices
from Diff4MMLiTSLib.gui.world import matrix_of

NONE, ANNOTATED = "None: this study is free of tumor", "All are annotated: remove them first"


@pytest.fixture
def module(scene, monkeypatch, tmp_path):
    module_factory.add_model(tmp_path / "models", "tiny synthesizer", kind="synthesizer")
    monkeypatch.setenv("DIFF4MMLITS_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", str(interpreter.install(tmp_path)))
    driver = module_factory.open_module(monkeypatch, tmp_path)
    driver.ui.tabs.setCurrentWidget(driver.ui.synthesizeTab)
    driver.ui.pairsFolderEdit.currentPath = str(tmp_path / "Paare ü")
    yield driver
    driver.close()


@pytest.fixture
def study(module):
    """Two phases with a liver and two annotated tumors."""
    reference = add_phases("arterial", "portal venous")
    liver = liver_with_tumors(100, 100) > 60
    node = add_liver(reference, liver)
    tumor = liver & (liver_with_tumors(0, 100) < 50)
    set_tumors(node, tumor, matrix_of(reference), source="annotation")
    module.settle()
    module.ui.liverSelector.setCurrentNode(node)
    module.settle()
    return node


def written(tmp_path, number=1):
    return tmp_path / "Paare ü" / "pairs" / f"study_synthetic-{number:04d}"


def test_a_study_of_which_nothing_is_known_is_refused_in_words(module, study):
    assert not module.ui.synthesizeButton.enabled
    assert "not known whether this study has tumors" in module.ui.synthesisMessage.text


def test_a_tumor_free_study_gets_tumors_and_the_pairs_are_listed(module, study, tmp_path):
    module.choose("tumorStateSelector", NONE)
    module.ui.pairCountBox.value = 3
    module.ui.seedBox.value = 7
    module.ui.smallestBox.value = 10
    module.ui.largestBox.value = 20
    module.settle()
    module.click("synthesizeButton")
    module.wait_for_job()
    assert [row[0] for row in module.rows("madePairTable")] == [f"study_synthetic-000{n}" for n in (1, 2, 3)]
    options = json.loads((written(tmp_path) / "study.json").read_text())["options"]
    assert options[options.index("--seed") + 1] == "7"
    at = options.index("--diameter-mm")
    assert options[at + 1 : at + 3] == ["10.0", "20.0"]
    assert read_study(tmp_path / "Paare ü" / "normal" / "study").is_tumor_free


def test_annotated_tumors_are_inpainted_first(module, study, tmp_path):
    module.choose("tumorStateSelector", ANNOTATED)
    assert not module.ui.synthesizeButton.enabled
    module.ui.tumorsSelector.setCurrentNode(study)
    module.settle()
    module.click("synthesizeButton")
    module.wait_for_job()
    assert read_study(tmp_path / "Paare ü" / "normal" / "study").is_tumor_free
    assert read_study(written(tmp_path)).synthetic


def test_pairs_come_one_after_another_and_stay_when_the_job_is_canceled(module, study, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", str(interpreter.install(tmp_path, slow_s=1.5)))
    module.choose("tumorStateSelector", NONE)
    module.click("synthesizeButton")
    while not module.rows("madePairTable"):
        assert module.gui.bar.busy
        module.settle(0.2)
    assert module.gui.bar.busy
    module.click("cancelButton")
    module.wait_for_job(30)
    assert 1 <= len(module.rows("madePairTable")) < 10
    assert (tmp_path / "Paare ü" / "normal" / "study").is_dir()


def test_a_failure_leaves_nothing_so_that_the_next_try_is_possible(module, study, tmp_path, monkeypatch):
    failures = {"synthesize": ("No room for the tumor.", "Choose a smaller one.", 2)}
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", str(interpreter.install(tmp_path, failures=failures)))
    module.choose("tumorStateSelector", NONE)
    module.click("synthesizeButton")
    with pytest.raises(AssertionError, match="No room for the tumor"):
        module.wait_for_job()
    assert not (tmp_path / "Paare ü" / "normal" / "study").exists()
    assert module.ui.synthesizeButton.enabled


def test_what_a_crash_left_neither_blocks_the_next_try_nor_is_deleted(module, study, tmp_path):
    left = tmp_path / "Paare ü" / "normal" / "study"
    left.mkdir(parents=True)
    (left / "study.json").write_text("whoever wrote it")
    module.choose("tumorStateSelector", NONE)
    module.click("synthesizeButton")
    module.wait_for_job()
    assert written(tmp_path).is_dir()
    assert (left / "study.json").read_text() == "whoever wrote it"
    assert read_study(tmp_path / "Paare ü" / "normal-2" / "study").is_tumor_free


def test_the_console_names_models_or_takes_the_bundled_ones(module, study, tmp_path):
    known = replace(logic.study_of_scene(), tumor=tumor_choices(study))
    logic.synthesize(known, SynthesisWish(out=tmp_path / "a")).wait(60)
    assert not any("--model" in interpreter.calls(tmp_path, name)[0] for name in ("inpaint", "synthesize"))
    logic.synthesize(known, SynthesisWish(out=tmp_path / "b", model="tiny synthesizer")).wait(60)
    options = interpreter.calls(tmp_path, "synthesize")[1]
    assert options[options.index("--model") + 1] == str(tmp_path / "models" / "tiny synthesizer")


def test_pairs_of_this_name_are_never_overwritten(module, study, tmp_path):
    module.choose("tumorStateSelector", NONE)
    for _time in range(2):
        module.click("synthesizeButton")
        while module.gui.bar.busy:
            module.settle(0.1)
    assert "holds pairs of a study 'study' already" in module.ui.errorLabel.text


def test_a_painted_mask_is_the_shape_of_the_tumor(module, study, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(slicer.util, "selectModule", opened.append, raising=False)
    editor = type("Editor", (), {"setSegmentationNode": opened.append, "setSourceVolumeNode": opened.append})
    monkeypatch.setattr(slicer.util, "getModuleWidget", lambda _name: type("Widget", (), {"editor": editor}))
    module.click("paintMaskButton")
    painted = module.ui.maskSelector.currentNode()
    assert opened[:2] == ["SegmentEditor", painted]
    module.settle()
    assert not module.ui.tumorCountBox.enabled
    module.choose("tumorStateSelector", NONE)
    module.click("synthesizeButton")
    module.wait_for_job()
    options = json.loads((written(tmp_path) / "study.json").read_text())["options"]
    assert "--mask" in options
    assert "--tumors" not in options


def test_the_review_opens_on_the_pairs(module, study, tmp_path):
    module.choose("tumorStateSelector", NONE)
    module.ui.pairCountBox.value = 2
    module.click("synthesizeButton")
    module.wait_for_job()
    module.ui.reviewerEdit.text = "R1"
    module.click("reviewPairsButton")
    assert module.ui.tabs.currentWidget() is module.ui.reviewTab
    assert module.ui.pairCount.text == "1 of 2"


def test_without_a_model_the_tab_says_where_to_get_one(scene, monkeypatch, tmp_path):
    monkeypatch.setenv("DIFF4MMLITS_MODELS", str(tmp_path / "none"))
    driver = module_factory.open_module(monkeypatch, tmp_path)
    driver.settle()
    assert "Train tab" in driver.ui.synthesizeButton.toolTip
    driver.close()
