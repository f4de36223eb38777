"""A dry run tells what a recipe would do, names what is refused, and writes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from Diff4MMLiTSLib.arguments import BUNDLED_MODELS
from Diff4MMLiTSLib.cli import run
from Diff4MMLiTSLib.core.config import PairSource, TrainTarget
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study import MaskSource
from Diff4MMLiTSLib.core.study_io import write_study
from Diff4MMLiTSLib.dry_run import Plan, as_text, plan_recipe
from tiny_cohort import a_round_study, a_tiny_cohort, a_trainer


@pytest.fixture
def a_plan(tmp_path: Path) -> Plan:
    """The plan of all networks, with a study whose masks a model drew among those to learn from."""
    cohort = a_tiny_cohort(tmp_path)
    drawn = a_round_study("drawn", seed=3, source=MaskSource.MODEL)
    write_study(drawn, cohort / "training" / "drawn")
    before = sorted(cohort.rglob("*"))
    plan = plan_recipe(a_trainer(cohort), cohort / "run", folder=cohort, progress=silent())
    assert sorted(cohort.rglob("*")) == before
    return plan


def test_a_dry_run_measures_every_network_and_names_what_is_refused(a_plan: Plan) -> None:
    assert [network.name for network in a_plan.networks] == ["inpainter", "autoencoder", "denoiser", "segmenter"]
    assert all(network.seconds > 0 and network.rehearsal.checkpoint_bytes > 1000 for network in a_plan.networks)
    (refused,) = a_plan.refused
    assert refused.name == "drawn"
    assert "drawn by a model" in refused.refused
    text = as_text(a_plan)
    assert "2 studies; 1 real; NC 1, AP 1, PVP 1, DELAY 1; 1 tumors in 1 of them; 1 to be registered; 1 refused" in text
    table = text.split("\n\n")[2].splitlines()
    first, *_others, last = (line.split()[0] for line in table)
    assert (first, last, len(table)) == ("network", "GPU", 8)
    assert max(map(len, table)) <= 60  # the width of a panel in Slicer
    assert "Validation data: none" in as_text(replace(a_plan, validation=()))
    assert "refused: drawn: Study 'drawn' has a mask drawn by a model" in text
    assert "inpainting and synthesizing the studies come on top" in text


def test_a_segmenter_that_makes_its_own_pairs_says_that_they_are_not_timed(tmp_path: Path) -> None:
    cohort = a_tiny_cohort(tmp_path)
    for name in ("training", "validation"):
        assert run(["register", str(cohort / name), str(cohort / f"{name}-registered"), "--method", "none"]) == 0
    trainer = a_trainer(cohort)
    changes = {
        "target": TrainTarget.SEGMENTER,
        "cohorts": ("training-registered",),
        "validation": ("validation-registered",),
    }
    own_pairs = {"pair_source": PairSource.FRESH, "synthesizer": str(BUNDLED_MODELS / "phantom-synthesizer")}
    for changed, is_said in (changes, False), ({**changes, **own_pairs}, True):
        recipe = replace(trainer, config=trainer.config.model_copy(update=changed))
        text = as_text(plan_recipe(recipe, cohort / "run", folder=cohort, progress=silent()))
        assert ("synthetic pairs comes on top" in text) == is_said


def test_a_segmenter_that_nothing_would_be_measured_on_is_refused_as_its_training_would_be(tmp_path: Path) -> None:
    cohort = a_tiny_cohort(tmp_path)
    trainer = a_trainer(cohort)
    unmeasured = replace(trainer, config=trainer.config.model_copy(update={"validation": ()}))
    with pytest.raises(InputError, match="1 studies to train on and 0 to validate on"):
        plan_recipe(unmeasured, cohort / "run", folder=cohort, progress=silent())


RECIPE = """
target = "autoencoder"
cohorts = ["training"]

[train_autoencoder]
spacing_mm = 6.0
patch = [16, 16, 16]
adversarial_weight = 0.0
network = { channels = [8, 16], residual_layers = 1, latent_channels = 4, codes = 16 }
loop = { steps = 50, batch_size = 1 }
"""


def test_studies_that_would_be_refused_end_the_command_with_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = a_tiny_cohort(tmp_path)
    (cohort / "recipe.toml").write_text(RECIPE)
    write_study(a_round_study("drawn", seed=3, source=MaskSource.MODEL), cohort / "training" / "drawn")
    assert run(["train", str(cohort / "recipe.toml"), "--out", str(cohort / "run"), "--dry-run"]) == 2
    assert "not registered" in capsys.readouterr().err


def test_a_plan_is_printed_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cohort = a_tiny_cohort(tmp_path)
    assert run(["register", str(cohort / "training"), str(cohort / "registered"), "--method", "none"]) == 0
    capsys.readouterr()
    (cohort / "recipe.toml").write_text(RECIPE.replace("training", "registered", 1))
    assert run(["train", str(cohort / "recipe.toml"), "--out", str(cohort / "run"), "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["networks"][0]["steps"] == 50
    assert plan["training"][0]["phases"] == ["NC", "AP", "PVP", "DELAY"]
