"""The module's panel, driven as a user would: the real .ui and the real scene under stand-ins for Slicer's widgets."""

from __future__ import annotations

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
