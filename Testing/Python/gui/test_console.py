"""The examples of the README and of the researchers' guide, run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import interpreter
import pytest
import slicer
from abdomen_scene import add_phases, liver_with_tumors
from scene_factory import add_liver

from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.gui import logic
from Diff4MMLiTSLib.gui.roles import set_role
from Diff4MMLiTSLib.gui.scene import write_study
from Diff4MMLiTSLib.gui.training_run import RunState
from gui.fake_engine import until
from gui.pair_factory import add_pairs

README = Path(__file__).parents[3] / "README.md"
GUIDE = README.parent / "docs" / "researchers.md"


@pytest.fixture
def console(scene, tmp_path, monkeypatch):
    """Return what runs the only Python example of a document, in a scene of two phases with a liver."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", str(interpreter.install(tmp_path)))
    monkeypatch.setattr(slicer.util, "getModuleLogic", lambda _name: logic, raising=False)
    add_liver(add_phases("arterial", "portal venous"), liver_with_tumors(100, 100) > 60)
    for name, phase in (("arterial", Phase.AP), ("portal venous", Phase.PVP)):
        set_role(slicer.util.getNode(name), phase)

    def run(document):
        (example,) = re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
        names = {"slicer": slicer}
        exec(example, names)
        return names

    return run


def test_the_example_of_the_readme_registers_and_segments_the_scene_and_a_folder(console, tmp_path):
    for name in ("A", "B"):
        write_study(logic.study_of_scene(name), tmp_path / "studies" / name)
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        node.SetNodeReferenceID("Diff4MMLiTS.AlignedTo", None)
    names = console(README)
    assert names["registration"].aligned.is_aligned
    assert names["job"].result is names["result"]
    assert names["result"].node.GetSegmentation().GetNumberOfSegments() == 3
    assert sorted(path.name for path in (tmp_path / "segmented").iterdir()) == ["A", "B"]


def test_the_example_makes_reviews_and_trains(console, tmp_path):
    (tmp_path / "recipe.toml").touch()
    names = console(GUIDE)
    assert names["pairs"] == tmp_path / "S01" / "pairs"
    assert len(names["review"].pairs) == 10
    assert [folder.name for folder in (tmp_path / "S01-accepted").glob("*/")] == ["S01_synthetic-0001"]
    until(lambda: names["training"].state is not RunState.RUNNING, timeout_s=60)
    assert names["training"].state in (RunState.FINISHED, RunState.STOPPED)


def test_a_run_folder_gets_the_name_of_its_recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", str(interpreter.install(tmp_path)))
    (tmp_path / "liver 2026.toml").touch()
    training = logic.train(tmp_path / "liver 2026.toml")
    until(lambda: training.state is RunState.FINISHED, timeout_s=60)
    assert training.models() == (tmp_path / "liver 2026" / "model",)


def test_the_name_in_the_review_tab_is_the_reviewer_of_the_console(tmp_path, monkeypatch):
    monkeypatch.setattr(logic, "read_setting", {"Reviewer": "R7"}.get)
    assert logic.review(add_pairs(tmp_path, 1)).reviewer == "R7"
