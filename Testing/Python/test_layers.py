"""Layers import only what the architecture allows; what Slicer must load needs nothing beyond what Slicer bundles."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[2] / "Diff4MMLiTS" / "Diff4MMLiTSLib"
EVERYWHERE = {*sys.stdlib_module_names, "numpy", "scipy"}
VERSION = ".__version__"
ALLOWED = {
    "core": {"SimpleITK", "pydicom"},
    "core/config": {"pydantic"},
    "phantom": {".core", "SimpleITK"},
    "nets": {".core.config", "torch", "monai.networks", "diffusers", "einops"},
    "training": {".core", ".nets", "torch", "monai", "accelerate", "diffusers", "safetensors"},
    "stages": {".core", ".nets", ".training", "torch", "monai", "SimpleITK"},
    "reporting": {".core", "SimpleITK", "matplotlib", "mpl_toolkits"},
    "reporting/exports": {"pydicom", "highdicom"},
    "gui": {".core", "slicer", "qt", "ctk", "vtk", "PyTorchUtils"},
}
GUI_NEVER = ".core.config"


def imports_of(path: Path) -> set[str]:
    """Return the modules that a file imports; those of the package begin with a dot and its layer."""
    package = (".", *path.relative_to(LIBRARY).parent.parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module))
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {"." + ".".join([*base[1:], name]) for name in names}
    return found


def allowed(module: str, layer: str, names: set[str]) -> bool:
    own = module == VERSION or module.startswith(f".{layer}") or module.split(".", maxsplit=1)[0] in EVERYWHERE
    return own or any(module == name or module.startswith(name + ".") for name in names)


@pytest.mark.parametrize("layer", [name for name in ALLOWED if "/" not in name])
def test_a_layer_imports_only_what_it_may(layer):
    faults = []
    for path in sorted((LIBRARY / layer).rglob("*.py")):
        names = ALLOWED[layer] | ALLOWED.get(path.parent.relative_to(LIBRARY).as_posix(), set())
        faults += [f"{path.name}: {module}" for module in imports_of(path) if not allowed(module, layer, names)]
        if layer == "gui":
            faults += [f"{path.name}: {module}" for module in imports_of(path) if module.startswith(GUI_NEVER)]
    assert faults == []


@pytest.mark.parametrize("stage", ["registration", "inpainting", "synthesis", "segmentation"])
def test_stages_do_not_import_each_other(stage):
    others = {"registration", "inpainting", "synthesis", "segmentation"} - {stage}
    files = [path for path in (LIBRARY / "stages").glob("*.py") if path.stem.startswith(stage)]
    assert files
    for path in files:
        assert not {module for module in imports_of(path) if module.removeprefix(".stages.") in others}


def test_the_rule_catches_a_forbidden_import(tmp_path, monkeypatch):
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "bad.py").write_text("import torch\nfrom ..stages import registration\n")
    monkeypatch.setattr(sys.modules[__name__], "LIBRARY", tmp_path)
    with pytest.raises(AssertionError):
        test_a_layer_imports_only_what_it_may("core")


BLOCKER = """
import importlib.abc, sys
BUNDLED = set(sys.stdlib_module_names) | {"numpy", "scipy", "pydicom", "SimpleITK", "requests", "Diff4MMLiTSLib"}
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in BUNDLED and not name.startswith("_"):
            raise ModuleNotFoundError(f"blocked: {name}", name=name)
sys.meta_path.insert(0, Blocker())
"""


OF_APPLICATION = "BUNDLED |= {'slicer', 'slicer_core', 'vtk', 'vtkmodules'}\n"
"""What the Slicer application itself brings; its window (qt, ctk, parameter nodes) exists only in it."""


def run_blocked(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCKER + code]
    return subprocess.run(command, capture_output=True, text=True, cwd=LIBRARY.parent, timeout=300, check=False)


def test_studies_are_read_with_what_slicer_bundles():
    done = run_blocked("import Diff4MMLiTSLib.core.study, Diff4MMLiTSLib.core.study_io, Diff4MMLiTSLib.core.phases")
    assert done.returncode == 0, done.stderr


def test_doctor_works_with_what_slicer_bundles():
    done = run_blocked("from Diff4MMLiTSLib.cli import run; sys.exit(run(['doctor', '--json']))")
    assert done.returncode == 0, done.stderr
    assert '"packages"' in done.stdout


def test_a_missing_dependency_is_an_error_that_names_it():
    done = run_blocked(
        "from Diff4MMLiTSLib.cli import run; sys.exit(run(['phantom', 'out', '--count', '1', '--progress', 'json',"
        " '--set', 'x=1']) if False else run(['register', 'a', 'b', '--progress', 'json']))"
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert '"code": "missing"' in done.stdout
    assert "pydantic" in done.stdout or "torch" in done.stdout


OF_WINDOW = {"qt", "ctk", "slicer.parameterNodeWrapper"}


def needs_window(path: Path) -> bool:
    """Return whether a file imports what only the application has, or another file of the layer that does."""
    found = imports_of(path)
    names = {name.removeprefix(".gui.") for name in found if name.startswith(".gui.")}
    beside = [file for name in names if (file := path.with_name(f"{name}.py")).is_file()]
    return bool(found & OF_WINDOW) or any(map(needs_window, beside))


def test_the_slicer_side_loads_with_what_slicer_bundles():
    files = sorted((LIBRARY / "gui").glob("[!_]*.py"))
    modules = [path.stem for path in files if not needs_window(path)]
    assert {"job", "scene", "logic", "dependencies", "ledger", "review", "training_run"} <= set(modules)
    done = run_blocked(OF_APPLICATION + "".join(f"import Diff4MMLiTSLib.gui.{name}\n" for name in modules))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["job", "dependencies", "models"])
def test_jobs_and_the_setup_need_no_application(name):
    done = run_blocked(f"import Diff4MMLiTSLib.gui.{name}")
    assert done.returncode == 0, done.stderr
