"""A recipe for all networks goes on wherever it was cut off, and ends with the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from Diff4MMLiTSLib.core.errors import CanceledError, InputError
from Diff4MMLiTSLib.core.progress import Progress, silent
from Diff4MMLiTSLib.core.study_io import write_study
from Diff4MMLiTSLib.recipe_runs import train_recipe
from tiny_cohort import a_round_study, a_tiny_cohort, a_trainer

STAGES = (
    *("register", "train inpainter", "inpaint", "train autoencoder", "train denoiser", "synthesize"),
    "train segmenter",
)


@pytest.fixture
def a_cohort(tmp_path: Path) -> Path:
    return a_tiny_cohort(tmp_path)


class _KilledError(BaseException):
    """What stands for a kill: nothing that the software does on being asked to stop happens."""


def killed_at(stage: str) -> Progress:
    def report(_fraction: float, now: str, _message: str) -> None:
        if now == stage:
            raise _KilledError

    return Progress(report, lambda: False)


def contents(run: Path) -> dict[str, bytes]:
    return {str(file.relative_to(run)): file.read_bytes() for file in sorted(run.rglob("*.safetensors"))}


def test_all_networks_are_trained_wherever_the_run_was_killed_in_between(a_cohort: Path) -> None:
    train_recipe(a_trainer(a_cohort), a_cohort / "whole", folder=a_cohort, progress=silent())
    for stage in STAGES:
        with pytest.raises(_KilledError):
            train_recipe(
                a_trainer(a_cohort, resume=True), a_cohort / "parts", folder=a_cohort, progress=killed_at(stage)
            )
    model = train_recipe(a_trainer(a_cohort, resume=True), a_cohort / "parts", folder=a_cohort, progress=silent())
    assert model == a_cohort / "parts" / "segmenter" / "model"
    assert contents(a_cohort / "parts") == contents(a_cohort / "whole")


def test_a_stop_file_ends_the_run_and_is_removed(a_cohort: Path) -> None:
    (a_cohort / "run").mkdir()
    (a_cohort / "run" / "stop").touch()
    with pytest.raises(CanceledError):
        train_recipe(a_trainer(a_cohort), a_cohort / "run", folder=a_cohort, progress=silent())
    assert not (a_cohort / "run" / "stop").exists()


def test_cohorts_that_share_an_id_are_refused_before_anything_is_trained(a_cohort: Path) -> None:
    write_study(a_round_study("one", seed=1), a_cohort / "validation" / "renamed")
    with pytest.raises(InputError, match="are both study"):
        train_recipe(a_trainer(a_cohort), a_cohort / "run", folder=a_cohort, progress=silent())
    assert not (a_cohort / "run").exists()
