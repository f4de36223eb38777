"""What Slicer's build and catalog read: every file is listed, the catalog entry is valid, the module script is thin."""

from __future__ import annotations

import ast
import json
import re
import struct
import subprocess
import tomllib
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "Diff4MMLiTS"
IN_SLICER = {"numpy", "scipy", "SimpleITK", "pydicom"}
CATALOG_KEYS = {
    "$schema": str,
    "category": str,
    "scm_url": str,
    "scm_revision": str,
    "scm_type": str,
    "build_dependencies": list,
    "build_subdirectory": str,
    "dicom_support_rule": str,
    "enabled": bool,
    "tier": int,
}
"""The catalog's schema, version 1.0.2: no other key is allowed, the first three are required."""


def listed(variable, file=MODULE / "CMakeLists.txt"):
    """Return what a CMake variable lists."""
    (body,) = re.findall(rf"set\({variable}\s(.*?)\)", file.read_text(encoding="utf-8"), re.DOTALL)
    return body.replace("${MODULE_NAME}", "Diff4MMLiTS").split()


def in_tree(folder, pattern):
    """Return the files that git knows or would add, relative to a folder."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", pattern]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.splitlines()
    return {name for name in found if (folder / name).is_file()}


def test_every_script_is_listed_for_the_package():
    assert set(listed("MODULE_PYTHON_SCRIPTS")) == in_tree(MODULE, "*.py")


def test_every_resource_is_listed_for_the_package():
    assert set(listed("MODULE_PYTHON_RESOURCES")) == in_tree(MODULE, "Resources/**")


def test_every_self_test_is_registered():
    text = (ROOT / "Testing" / "Slicer" / "CMakeLists.txt").read_text(encoding="utf-8")
    registered = set(re.findall(r"slicer_add_python_unittest\(SCRIPT ([^\s)]+)\)", text))
    assert registered == {path.name for path in (ROOT / "Testing" / "Slicer").glob("*Test.py")}


def test_a_self_test_that_needs_the_engine_is_registered_only_on_request():
    text = (ROOT / "Testing" / "Slicer" / "CMakeLists.txt").read_text(encoding="utf-8")
    (guarded,) = re.findall(r"if\(Diff4MMLiTS_TEST_ENGINE\)(.*?)endif\(\)", text, re.DOTALL)
    assert "Diff4MMLiTSEngineTest.py" in guarded
    assert "Diff4MMLiTSPanelTest.py" not in guarded
    assert "option(Diff4MMLiTS_TEST_ENGINE" in text


def test_the_catalog_entry_follows_the_schema():
    entry = json.loads((ROOT / "extension.json").read_text(encoding="utf-8"))
    assert {"$schema", "category", "scm_url"} <= set(entry) <= set(CATALOG_KEYS)
    assert all(isinstance(value, CATALOG_KEYS[key]) for key, value in entry.items())
    assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.2.json#")
    assert re.search(r"/Slicer[^/]*\.git$", entry["scm_url"])
    assert 1 <= entry["tier"] <= 5


def test_the_catalog_entry_and_cmake_name_the_same_dependencies():
    entry = json.loads((ROOT / "extension.json").read_text(encoding="utf-8"))
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    (depends,) = re.findall(r'set\(EXTENSION_DEPENDS "(.*?)"\)', text)
    assert entry["build_dependencies"] == depends.split()


def test_the_requirements_are_those_of_the_engine_without_torch_and_what_slicer_has():
    with (ROOT / "pyproject.toml").open("rb") as stream:
        needed = set(tomllib.load(stream)["project"]["dependencies"])
    here = set((MODULE / "Resources" / "requirements.txt").read_text(encoding="utf-8").split())
    assert here == {each for each in needed if re.split(">=", each)[0] not in IN_SLICER | {"torch"}}


def test_the_icon_has_the_size_of_the_catalog():
    head = (MODULE / "Resources" / "Icons" / "Diff4MMLiTS.png").read_bytes()[:24]
    assert struct.unpack(">II", head[16:24]) == (128, 128)


def test_the_module_script_is_short_and_imports_only_slicer_and_vtk_at_file_scope():
    text = (MODULE / "Diff4MMLiTS.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    names = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    assert {name.split(".")[0] for name in names} <= {"pathlib", "slicer", "vtk"}
    assert [path.name for path in MODULE.glob("*.py")] == ["Diff4MMLiTS.py"]


def test_the_modules_of_slicer_that_are_used_are_dependencies():
    text = "".join(path.read_text(encoding="utf-8") for path in MODULE.glob("Diff4MMLiTSLib/gui/*.py"))
    used = set(re.findall(r"slicer\.modules\.(\w+)\.logic", text))
    used |= {name.lower() for name in re.findall(r'selectModule\("(\w+)"\)', text)} - {"diff4mmlits"}
    (needed,) = re.findall(r"^DEPENDENCIES = \[(.*)\]$", (MODULE / "Diff4MMLiTS.py").read_text(encoding="utf-8"), re.M)
    assert used <= {name.lower() for name in re.findall(r'"(\w+)"', needed)}


def test_what_the_panel_says_about_errors_can_be_translated():
    plain = []
    for path in MODULE.glob("Diff4MMLiTSLib/gui/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            texts = {"InputError": slice(0, 1), "JobError": slice(1, 3), "InstallStep": slice(1, 2)}.get(name, slice(0))
            found = [
                *(node.args[texts] if name else []),
                *(k.value for k in getattr(node, "keywords", []) if name == "InputError"),
            ]
            plain += [f"{path.name}:{each.lineno}" for each in found if isinstance(each, ast.Constant | ast.JoinedStr)]
    assert plain == []


def test_every_scene_widget_of_the_ui_gets_the_scene_and_every_control_has_a_tooltip():
    tree = ElementTree.parse(MODULE / "Resources" / "UI" / "Diff4MMLiTS.ui").getroot()
    widgets = {widget.get("name"): widget for widget in tree.iter("widget")}
    (top,) = (widget for widget in tree.findall("widget"))
    assert top.get("class") == "qMRMLWidget"
    receivers = {connection.findtext("receiver") for connection in tree.iter("connection")}
    assert receivers == {name for name, widget in widgets.items() if widget.get("class").startswith("qMRMLNode")}
    controls = ("QPushButton", "QComboBox", "ctkSliderWidget", "ctkPathLineEdit", "qMRMLNodeComboBox", "QTableWidget")
    bare = [
        name
        for name, widget in widgets.items()
        if widget.get("class") in controls and widget.find("property[@name='toolTip']") is None
    ]
    assert bare == []


def test_every_shortcut_of_the_panel_is_used_once_per_page():
    tree = ElementTree.parse(MODULE / "Resources" / "UI" / "Diff4MMLiTS.ui").getroot()
    names = ("segmentTab", "synthesizeTab", "reviewTab", "trainTab", "setupTab")
    pages = {page: tree.find(f".//widget[@name='{page}']") for page in names}
    inside = {id(node) for page in pages.values() for node in page.iter("property")}
    shared = shortcuts(node for node in tree.iter("property") if id(node) not in inside)
    for page in pages.values():
        letters = shared + shortcuts(page.iter("property"))
        assert len(letters) == len(set(letters)), sorted(letters)


def shortcuts(properties):
    """Return the letters after an ampersand in texts."""
    texts = [node.findtext("string") or "" for node in properties if node.get("name") == "text"]
    return [letter.lower() for text in texts for letter in re.findall(r"&(\w)", text)]
