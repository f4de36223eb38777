"""The command line speaks the protocol: exit codes, JSON lines, sentences instead of tracebacks."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from Diff4MMLiTSLib import commands
from Diff4MMLiTSLib.arguments import BUNDLED_MODELS
from Diff4MMLiTSLib.cli import run
from Diff4MMLiTSLib.core.grid import Volume
from Diff4MMLiTSLib.core.images import write_volume
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.study import Study
from Diff4MMLiTSLib.core.study_io import write_study


def run_json(capsys, *arguments):
    """Run a command; return its exit code and its JSON lines."""
    code = run([*map(str, arguments), "--progress", "json"])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def a_folder(a_study, tmp_path):
    folder = tmp_path / "eine Kohorte ü" / "study 1"
    write_study(Study("study 1", a_study.phases, Phase.PVP, liver=a_study.liver, tumor=a_study.tumor), folder)
    return folder


def test_a_result_ends_with_its_path_and_code_0(a_folder, tmp_path, capsys):
    code, lines = run_json(capsys, "register", a_folder, tmp_path / "out put", "--method", "none")
    assert code == 0
    assert lines[-1] == {"event": "result", "path": str(tmp_path / "out put")}
    assert any(line["event"] == "progress" and line["fraction"] == 1.0 for line in lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["register"], "required: IN, OUT"),
        (["paint", "a", "b"], "invalid choice: 'paint'"),
        (["register", "absent", "out"], "no folder 'absent'"),
        (["register", "{study}", "out", "--set", "speed=9"], "Unknown setting 'speed'"),
        (["register", "{study}", "out", "--config", "absent.toml"], r"absent.toml"),
        (["register", "{study}", "out", "--method", "elastic"], "invalid choice: 'elastic'"),
        (["segment", "{study}", "out", "--device", "tpu", "--model", "{study}"], "device|model"),
        (["phantom", "out", "--count", "0"], "not a whole number above 0"),
        (["export"], "argument FORMAT"),
        (["export", "pdf", "{study}", "out"], "invalid choice: 'pdf'"),
        (["export", "nnunet", "{study}", "Dataset501_x", "--phases", "venous"], "Unknown phase name 'venous'"),
        (["export", "nnunet", "{study}", "out"], "DatasetNNN_Name"),
        (["evaluate", "{study}", "--out", "out"], "required: TRUTH|PREDICTED"),
        (["import", "{study}", "out", "--from", "table"], "table|CSV"),
        (["import", "{study}", "out", "--from", "dicom", "--phase", "3=VENOUS"], "NC, AP, PVP, DELAY"),
    ],
)
def test_bad_arguments_end_with_code_2_or_3_and_a_sentence(a_folder, tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, lines = run_json(capsys, *(argument.format(study=a_folder) for argument in arguments))
    assert code in (2, 3)
    assert lines[-1]["event"] == "error"
    assert any(word in lines[-1]["message"] for word in words.split("|")), lines[-1]
    assert not (tmp_path / "out").exists()


def damage(a_folder, kind, grid):
    ap = a_folder / "AP.nrrd"
    if kind == "missing":
        ap.unlink()
    elif kind == "truncated":
        ap.write_bytes(ap.read_bytes()[:1500])
    elif kind == "not a CT":
        write_volume(Volume(np.full(grid.shape, 700, dtype=np.int16), grid), ap)
    elif kind == "mask":
        small = grid.cropped((0, 0, 0), (10, 10, 10))
        write_volume(Volume(np.ones(small.shape, dtype=np.uint8), small), a_folder / "liver.nrrd")


@pytest.mark.parametrize("kind", ["missing", "truncated", "not a CT", "mask"])
def test_a_bad_file_is_named_and_the_input_stays_untouched(a_folder, a_grid, tmp_path, capsys, kind):
    damage(a_folder, kind, a_grid)
    before = {path.name: path.read_bytes() for path in a_folder.iterdir()}
    code, lines = run_json(capsys, "register", a_folder, tmp_path / "out")
    assert code == 2
    assert "liver" in lines[-1]["message"] if kind == "mask" else "AP.nrrd" in lines[-1]["message"]
    assert {path.name: path.read_bytes() for path in a_folder.iterdir()} == before
    assert str(tmp_path) not in lines[-1]["message"]


def test_a_shortened_option_is_refused_rather_than_half_understood(capsys):
    assert run(["doctor", "--prog", "json"]) == 2
    assert "--prog" in capsys.readouterr().err


def test_an_existing_output_is_kept(a_folder, tmp_path, capsys):
    assert run_json(capsys, "register", a_folder, tmp_path / "out", "--method", "none")[0] == 0
    code, lines = run_json(capsys, "register", a_folder, tmp_path / "out", "--method", "none")
    assert code == 2
    assert "exists already" in lines[-1]["message"]
    assert run_json(capsys, "register", a_folder, tmp_path / "out", "--method", "none", "--force")[0] == 0


def test_a_missing_model_and_one_of_another_kind_end_with_code_3(a_folder, tmp_path, capsys):
    code, lines = run_json(capsys, "segment", a_folder, tmp_path / "out", "--model", tmp_path / "absent")
    assert code == 3
    assert "absent" in lines[-1]["message"]


def test_an_output_folder_that_cannot_be_made_is_refused(a_folder, tmp_path, capsys):
    (tmp_path / "file").touch()
    code, lines = run_json(capsys, "register", a_folder, tmp_path / "file" / "out", "--method", "none")
    assert code == 2
    assert "cannot be written" in lines[-1]["message"]


def test_an_unexpected_error_shows_no_traceback_unless_asked_for(monkeypatch, capsys):
    def explode(_options, _progress):
        raise ZeroDivisionError("/home/somebody")

    broken = commands.Command("doctor", "x", lambda _parser: None, explode)
    monkeypatch.setattr(commands, "COMMANDS", (broken,))
    assert run(["doctor"]) == 1
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert "ZeroDivisionError" in captured.err
    assert "somebody" not in captured.err


def test_a_terminated_command_ends_with_code_5_and_leaves_nothing_half_written(a_folder, tmp_path):
    for number in range(40):
        shutil.copytree(a_folder, a_folder.parent / f"copy {number}")
    command = [sys.executable, "-m", "Diff4MMLiTSLib", "register", str(a_folder.parent), str(tmp_path / "out")]
    library = BUNDLED_MODELS.parents[1]
    child = subprocess.Popen([*command, "--progress", "json"], stdout=subprocess.PIPE, text=True, cwd=library)
    assert child.stdout is not None
    for line in child.stdout:  # wait until it is at work
        if json.loads(line)["event"] == "progress":
            break
    time.sleep(0.2)
    child.send_signal(signal.SIGTERM)
    rest, _ = child.communicate(timeout=60)
    assert child.returncode == 5
    assert json.loads(rest.splitlines()[-1])["code"] == "canceled"
    made = list((tmp_path / "out").iterdir()) if (tmp_path / "out").exists() else []
    assert all((folder / "study.json").is_file() and not folder.name.startswith(".") for folder in made)
