"""The Setup tab, driven as a user would: packages, interpreter, devices, models."""

from __future__ import annotations

import sys
import types
from dataclasses import replace

import module_factory
import pytest
import qt_stand_in
import slicer
import slicer_stand_in

from Diff4MMLiTSLib.gui import installer, models, setup_panel
from Diff4MMLiTSLib.gui.dependencies import EngineState, Gpu, InstallKind, InstallStep, Package


@pytest.fixture
def module(scene, monkeypatch, tmp_path):
    monkeypatch.setenv("DIFF4MMLITS_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("DIFF4MMLITS_PYTHON", raising=False)
    driver = module_factory.open_module(monkeypatch, tmp_path, bundled=models.BUNDLED)
    driver.ui.tabs.setCurrentWidget(driver.ui.setupTab)
    driver.settle()
    yield driver
    driver.close()


GPU = Gpu("cuda:0", "GPU of 24 GB", 24.0, 20.5)
MISSING = (Package("torch", "2.9.0", True, "torch>=2.4"), Package("monai", "", False, "monai>=1.5"))


def test_every_needed_package_is_listed(module):
    names = [row[0] for row in module.rows("packageTable")]
    assert {"torch", "monai", "pydantic"} <= set(names)
    assert "Nothing leaves this computer" in module.ui.privacyNote.text


def test_what_is_missing_is_installed_on_a_click_and_only_then(module, monkeypatch):
    installed = []
    monkeypatch.setattr(setup_panel, "packages_here", lambda: MISSING)
    monkeypatch.setattr(setup_panel, "install", installed.append)
    module.gui.setup.look()
    assert "monai" in module.ui.engineState.text
    assert installed == []
    module.click("installButton")
    assert [step.kind for step in installed][-1] is InstallKind.PACKAGES
    assert installed[-1].requirements == ("monai>=1.5",)


def test_a_failed_installation_says_why(module, monkeypatch):
    def fail(_step):
        raise RuntimeError("no matching distribution")

    monkeypatch.setattr(setup_panel, "packages_here", lambda: MISSING)
    monkeypatch.setattr(setup_panel, "install", fail)
    module.gui.setup.look()
    module.click("installButton")
    assert "no matching distribution" in module.ui.errorLabel.text
    assert module.ui.installButton.enabled


def test_packages_go_through_slicers_own_installer(monkeypatch):
    calls = []
    packaging = types.ModuleType("slicer.packaging")
    packaging.pip_ensure = lambda requirements, **_options: calls.append(requirements)
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    installer.install(InstallStep(InstallKind.PACKAGES, "", ("monai>=1.5",)))
    assert calls == [["monai>=1.5"]]


def test_torch_comes_only_through_the_pytorch_extension(monkeypatch):
    calls = []
    utils = types.ModuleType("PyTorchUtils")
    utils.PyTorchUtilsLogic = lambda: types.SimpleNamespace(
        installTorch=lambda **options: calls.append(options) or utils
    )
    monkeypatch.setitem(sys.modules, "PyTorchUtils", utils)
    installer.install(InstallStep(InstallKind.TORCH, "", ("torch>=2.4",)))
    assert calls == [{"askConfirmation": True, "torchVersionRequirement": ">=2.4"}]


def test_the_engine_is_asked_in_a_process_of_its_own(module):
    module.click("checkButton")
    module.wait_for_job(200)
    assert "Python 3" in module.ui.deviceNote.text
    assert "GB of memory" in module.ui.deviceNote.text


def test_gpus_that_were_found_are_offered_with_their_free_memory(module):
    module.gui.setup._checked(EngineState("3.12", MISSING, True, (GPU,), 64.0, 100.0, ()))
    module.choose("deviceSelector", "GPU of 24 GB (20.5 GB free)")
    assert module.widget.logic.getParameterNode().device == "cuda:0"


def test_another_interpreter_is_kept_and_not_installed_into(module):
    module.ui.pythonEdit.currentPath = "/opt/python"
    module.settle()
    assert slicer.app.settings.value("Diff4MMLiTS/EnginePython") == "/opt/python"
    assert not module.ui.installButton.enabled
    assert "own pip" in module.ui.installButton.toolTip


def test_the_packages_of_another_interpreter_are_not_taken_from_slicers_own(module, monkeypatch):
    monkeypatch.setattr(setup_panel, "packages_here", lambda: MISSING)
    module.gui.setup._checked(EngineState("3.12", MISSING, True, (GPU,), 64.0, 100.0, ()))
    module.ui.pythonEdit.currentPath = "/opt/python"
    module.settle()
    assert module.rows("packageTable") == []
    assert "The engine runs in /opt/python" in module.ui.engineState.text
    assert module.ui.deviceSelector.findText("GPU of 24 GB (20.5 GB free)") < 0
    module.ui.pythonEdit.currentPath = ""
    module.settle()
    assert "monai" in module.ui.engineState.text
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", "/opt/python")
    module.gui.setup.look()
    assert "The engine runs in /opt/python" in module.ui.engineState.text
    assert not module.ui.installButton.enabled


def test_what_the_interpreter_said_is_known_when_the_module_is_opened_again(module, monkeypatch):
    broken = (replace(MISSING[0], is_satisfied=False), replace(MISSING[1], version="1.5", is_satisfied=True))
    state = EngineState("3.12", broken, False, (), 64.0, 100.0, ())
    monkeypatch.setattr(setup_panel, "packages_here", lambda: tuple(replace(p, is_satisfied=True) for p in broken))
    module.gui.setup._checked(state)
    module.gui.setup.look()
    assert "broken: torch" in module.ui.engineState.text
    module.ui.pythonEdit.currentPath = "/opt/python"
    module.gui.setup._checked(state)
    module.gui.setup.look()
    assert len(module.rows("packageTable")) == 2
    module.ui.pythonEdit.currentPath = ""
    assert "Everything that the engine needs" in module.ui.engineState.text


def test_the_pytorch_extension_is_installed_on_our_click_and_other_installations_ask_as_before(monkeypatch):
    asked = []

    def install(_name, _restart):
        asked.append(manager.interactive)
        return True

    manager = types.SimpleNamespace(interactive=True, installExtensionFromServer=install)
    application = types.SimpleNamespace(extensionsManagerModel=lambda: manager)
    monkeypatch.setattr(slicer, "app", application, raising=False)
    with pytest.raises(installer.RestartNeededError):
        installer.install(InstallStep(InstallKind.PYTORCH_EXTENSION, ""))
    assert (asked, manager.interactive) == ([False], True)


def test_an_interpreter_that_does_not_exist_is_an_error_in_words(module):
    module.ui.pythonEdit.currentPath = "/nowhere/python"
    module.click("checkButton")
    with pytest.raises(AssertionError, match=r"[Ii]nterpreter|python"):
        module.wait_for_job()


def test_a_model_is_imported_offered_verified_and_deleted(module, monkeypatch, tmp_path):
    folder = module_factory.add_model(tmp_path / "download", "mine")
    monkeypatch.setattr(qt_stand_in.FileDialog, "answer", str(folder / "model.json"))
    module.click("importModelButton")
    names = [row[0] for row in module.rows("modelTable")]
    assert "mine" in names
    assert module.ui.modelSelector.findText("mine") >= 0
    module.ui.modelTable.selectRow(names.index("mine"))
    assert "200 digital phantoms" in module.ui.modelDetails.text
    module.click("verifyModelButton")
    assert "unchanged" in module.ui.modelDetails.text
    assert len(module.ui.modelDetails.toolTip) == 64
    (tmp_path / "models" / "mine" / "segmenter.safetensors").write_bytes(b"other")
    module.click("verifyModelButton")
    assert "changed" in module.ui.errorLabel.text
    with slicer_stand_in.answered(monkeypatch, confirmOkCancelDisplay=False) as asked:
        module.click("deleteModelButton")
    assert "mine" in asked[0]
    assert (tmp_path / "models" / "mine").exists()
    with slicer_stand_in.answered(monkeypatch, confirmOkCancelDisplay=True):
        module.click("deleteModelButton")
    assert not (tmp_path / "models" / "mine").exists()


def select_bundled(module):
    names = [row[0] for row in module.rows("modelTable")]
    module.ui.modelTable.selectRow(names.index("phantom-inpainter"))
    module.settle()


def test_of_a_model_that_was_not_imported_it_is_not_said_that_it_is_unchanged(module):
    select_bundled(module)
    module.click("verifyModelButton")
    assert "nothing to compare" in module.ui.modelDetails.text
    assert "unchanged" not in module.ui.modelDetails.text


def test_a_bundled_model_cannot_be_deleted(module):
    select_bundled(module)
    assert not module.ui.deleteModelButton.enabled
    assert "came with the module" in module.ui.deleteModelButton.toolTip
