"""What the engine needs, what is there, and what to install, without importing any of it."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest

from Diff4MMLiTSLib.gui.dependencies import (
    InstallKind,
    Package,
    check_engine,
    install_steps,
    packages_here,
)
from Diff4MMLiTSLib.gui.task import JobFailed, JobState

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OF_SLICER = {"numpy", "scipy", "SimpleITK", "pydicom"}


def package(requirement, version, *, is_satisfied):
    return Package(requirement.partition(">=")[0], version, is_satisfied, requirement)


def test_what_is_installed_into_slicer_is_what_the_project_needs_and_slicer_lacks():
    needed = {line for line in PROJECT["dependencies"] if line.partition(">=")[0] not in OF_SLICER}
    assert {each.requirement for each in packages_here()} == needed


def test_here_everything_is_satisfied():
    assert all(each.is_satisfied for each in packages_here())
    assert install_steps(packages_here(), has_pytorch_extension=False) == ()


def test_torch_comes_first_and_through_its_extension():
    packages = [
        package("torch>=2.4", "", is_satisfied=False),
        package("monai>=1.5", "1.2", is_satisfied=False),
        package("psutil>=5.9", "7.2.2", is_satisfied=True),
    ]
    steps = install_steps(packages, has_pytorch_extension=False)
    assert [step.kind for step in steps] == [InstallKind.PYTORCH_EXTENSION, InstallKind.TORCH, InstallKind.PACKAGES]
    assert steps[1].requirements == (">=2.4",)
    assert steps[2].requirements == ("monai>=1.5",)
    assert install_steps(packages, has_pytorch_extension=True)[0].kind is InstallKind.TORCH


@pytest.mark.parametrize(
    ("version", "is_enough"), [("2.4", True), ("2.13.0+cu126", True), ("2.3.9", False), ("2.4.0rc1", True), ("", False)]
)
def test_versions_are_compared_as_numbers(monkeypatch, version, is_enough):
    monkeypatch.setattr("Diff4MMLiTSLib.gui.dependencies._version_here", lambda _name: version)
    torch = next(each for each in packages_here() if each.name == "torch")
    assert torch.is_satisfied is is_enough


def test_the_engine_tells_what_it_has_from_a_process_of_its_own():
    check = check_engine(sys.executable)
    state = check.wait(300)
    assert state.is_ready
    assert state.python == ".".join(map(str, sys.version_info[:3]))
    assert state.memory_gb > 0


def test_an_interpreter_that_is_none_is_refused_with_a_remedy(tmp_path):
    check = check_engine(str(tmp_path / "python"))
    with pytest.raises(JobFailed, match="Setup"):
        check.wait(30)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_a_torch_that_cannot_be_loaded_is_not_there(tmp_path):
    versions = {each.name: "99" for each in packages_here()}
    answer = {"python": "3.12.1", "packages": versions, "torch_works": False, "gpus": [], "memory_gb": 8.0}
    (tmp_path / "answer.json").write_text(json.dumps(answer | {"disk_free_gb": 9.0, "advice": []}))
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\ncat "{tmp_path}/answer.json"\n')
    script.chmod(0o755)
    state = check_engine(str(script)).wait(30)
    assert not state.is_ready
    assert [each.name for each in state.packages if not each.is_satisfied] == ["torch"]
    assert [step.kind for step in install_steps(state.packages, has_pytorch_extension=True)] == [InstallKind.TORCH]


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_an_interpreter_that_answers_nonsense_is_refused(tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho hello\n")
    script.chmod(0o755)
    check = check_engine(str(script))
    with pytest.raises(JobFailed, match=r"3\.11"):
        check.wait(30)
    assert check.state is JobState.FAILED
