"""Doctor says what is there, what is missing and how to get it."""

from __future__ import annotations

import json
from importlib import metadata

from Diff4MMLiTSLib import doctor


def test_it_reports_the_installed_versions():
    found = json.loads(doctor.as_json(doctor.diagnose()))
    assert found["packages"]["torch"] == metadata.version("torch")
    assert found["torch_works"]
    assert found["processors"] >= 1


def test_a_missing_package_comes_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setitem(doctor.PACKAGES, "surely-not-installed", "this test")
    text = doctor.as_text(doctor.diagnose())
    assert "Missing: surely-not-installed (needed for this test)" in text
    assert "pip install surely-not-installed" in text


def test_a_broken_torch_is_noticed_without_being_imported(monkeypatch):
    monkeypatch.setattr(doctor, "PROBE", "raise SystemExit(3)")
    found = doctor.diagnose()
    assert not found.torch_works
    assert any("cannot be imported" in line for line in found.advice)
