"""TotalSegmentator is used where the user asked for it, keeps quiet, and fetches nothing."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from Diff4MMLiTSLib import liver_finders
from Diff4MMLiTSLib.cli import run
from Diff4MMLiTSLib.core.errors import MissingError
from Diff4MMLiTSLib.core.study_io import write_study
from Diff4MMLiTSLib.liver_finders import LiverSource, liver_finder

CPU = torch.device("cpu")
START = """#!/bin/sh
'''exec' '{python}' "$0" "$@"
' '''
"""
"""A Python program starts so wherever its interpreter lies; "#!{python}" ends at the first space of the path."""
FAKE = """
import json, os, pathlib, sys
import SimpleITK as sitk
assert not json.loads(pathlib.Path(os.environ["TOTALSEG_HOME_DIR"], "config.json").read_text())["send_usage_stats"]
assert "127.0.0.1" in os.environ["HTTPS_PROXY"] and "--fast" in sys.argv
pathlib.Path("out").mkdir()
sitk.WriteImage(sitk.ReadImage("ct.nii.gz") > 0, "out/liver.nii.gz")
"""


@pytest.fixture
def weights(tmp_path, monkeypatch):
    (tmp_path / "Dataset297_TotalSegmentator").mkdir()
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path))


def a_program(folder, text):
    path = folder / "TotalSegmentator"
    path.write_text(START.format(python=sys.executable) + text)
    path.chmod(0o755)
    return str(path)


def test_nobody_is_asked_unless_named():
    assert liver_finder(LiverSource(), CPU) is None


def test_a_liver_is_found_without_statistics_and_without_a_network(a_study, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(liver_finders, "_program", lambda: a_program(tmp_path, FAKE))
    finder = liver_finder(LiverSource(totalsegmentator=True), CPU)
    found = finder.find(a_study.reference)
    assert finder.name == "TotalSegmentator"
    assert np.array_equal(found.array, a_study.reference.array > 0) and found.volume.grid == a_study.grid


def test_a_failure_names_the_program(a_study, weights, tmp_path, monkeypatch):
    program = a_program(tmp_path, "raise SystemExit('no space')")
    monkeypatch.setattr(liver_finders, "_program", lambda: program)
    with pytest.raises(MissingError, match="TotalSegmentator failed: no space"):
        liver_finder(LiverSource(totalsegmentator=True), CPU).find(a_study.reference)


def test_a_program_that_cannot_be_started_is_said_to_be_so(a_study, weights, tmp_path, monkeypatch):
    program = tmp_path / "TotalSegmentator"
    program.write_text("#!/gone/python")
    program.chmod(0o755)
    monkeypatch.setattr(liver_finders, "_program", lambda: str(program))
    with pytest.raises(MissingError, match="cannot be started"):
        liver_finder(LiverSource(totalsegmentator=True), CPU).find(a_study.reference)


def test_without_weights_nothing_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(liver_finders, "_program", lambda: "unused")
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path))
    with pytest.raises(MissingError, match="no weights"):
        liver_finder(LiverSource(totalsegmentator=True), CPU)


def test_where_it_is_not_installed_the_command_says_how_to_get_it(a_study, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    write_study(a_study, tmp_path / "in")
    arguments = ["register", str(tmp_path / "in"), str(tmp_path / "out"), "--totalsegmentator", "--progress", "json"]
    assert run(arguments) == 3
    assert "pip install TotalSegmentator" in capsys.readouterr().out
