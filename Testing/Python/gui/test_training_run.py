"""A training goes on without whoever started it, is found again by its folder, stopped, and resumed."""

from __future__ import annotations

import json
import subprocess
import sys

import interpreter
import pytest

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.gui.training_run import RunState, TrainingRun, train_arguments
from gui.fake_engine import until


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", str(interpreter.install(tmp_path, slow_s=0.05)))
    (tmp_path / "recipe.toml").touch()
    return tmp_path / "recipe.toml"


@pytest.fixture
def run(tmp_path):
    run = TrainingRun(tmp_path / "Läufe 1" / "run ü")
    yield run
    if run.state is RunState.RUNNING:
        run.stop()


def steps(run):
    return max((max(curve.steps) for curve in run.curves()), default=0)


def test_a_training_outlives_its_starter_is_found_again_stopped_and_resumed(recipe, run):
    """Another process starts it and ends, as Slicer would; this one knows nothing but the folder."""
    assert run.state is RunState.EMPTY
    code = (
        "import sys; from pathlib import Path; from Diff4MMLiTSLib.gui.training_run import TrainingRun; "
        "TrainingRun(Path(sys.argv[2])).start(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, recipe, run.folder], check=True, timeout=60)
    assert run.state is RunState.RUNNING
    with pytest.raises(InputError, match="is running"):
        run.start(recipe)
    until(lambda: steps(run) >= 3)
    run.stop()
    until(lambda: run.state is not RunState.RUNNING)
    assert run.state is RunState.STOPPED
    stopped = steps(run)
    assert 3 <= stopped < 40

    run.start(recipe, resume=True)
    until(lambda: run.state is RunState.FINISHED, timeout_s=60)
    loss = next(curve for curve in run.curves() if curve.name == "segmenter/loss")
    assert loss.steps == tuple(range(1, 41))
    assert run.models() == (run.folder / "model",)
    assert "step 40/40" in run.log_tail()


def test_a_killed_training_can_go_on(recipe, run):
    run.folder.mkdir(parents=True)
    run.log_file.write_text('{"event": "started"}\n{"event": "progress", "fraction": 0.4, "message": "step 16"}\n')
    (run.folder / "metrics.jsonl").write_text('{"step": 10, "segmenter/loss": 0.5}\n{"step": 20, "segm')
    assert run.state is RunState.STOPPED
    assert run.has_begun
    assert run.progress.fraction == pytest.approx(0.4)
    assert [curve.steps for curve in run.curves()] == [(10,)]


def test_a_failure_is_told_until_the_next_start(run):
    run.folder.mkdir(parents=True)
    lines = [{"event": "started"}, {"event": "error", "code": "bad_input", "message": "No cohort", "hint": "Name one"}]
    run.log_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run.state is RunState.FAILED
    assert not run.has_begun
    assert (run.error.message, run.error.hint) == ("No cohort", "Name one")
    with run.log_file.open("a") as stream:
        stream.write('{"event": "started"}\nSegmentation fault\n')
    assert run.state is RunState.FAILED
    assert "before its first step" in run.error.message
    assert "Segmentation fault" in run.log_tail()


def test_a_training_that_a_shell_started_is_watched_too(run):
    run.folder.mkdir(parents=True)
    (run.folder / "metrics.jsonl").write_text('{"step": 10, "denoiser/loss": 0.5}\n')
    assert run.state is RunState.RUNNING
    (run.folder / "model").mkdir()
    (run.folder / "model" / "model.json").write_text("{}")
    assert run.state is RunState.FINISHED


def test_the_network_that_is_trained_now_is_shown(run):
    for name in ("inpainter", "segmenter"):
        (run.folder / name).mkdir(parents=True)
        (run.folder / name / "metrics.jsonl").write_text(
            f'{{"step": 10, "{name}/loss": 0.5, "{name}/learning_rate": 1}}\n'
        )
    (run.folder / "inpainter" / "metrics.jsonl").touch()
    import os

    os.utime(run.folder / "inpainter" / "metrics.jsonl", (1, 1))
    assert [curve.name for curve in run.curves()] == ["segmenter/loss"]


def test_a_cohort_replaces_that_of_the_recipe(tmp_path):
    import tomllib

    arguments = train_arguments(tmp_path / "r.toml", tmp_path / "run", cohort=tmp_path / 'C "1" ü', device="cpu")
    assigned = tomllib.loads(arguments[arguments.index("--set") + 1])
    assert assigned == {"cohorts": [str(tmp_path / 'C "1" ü')]}


def test_without_a_recipe_nothing_is_started(run, tmp_path):
    with pytest.raises(InputError, match="no recipe"):
        run.start(tmp_path / "none.toml")
    assert not run.log_file.exists()
