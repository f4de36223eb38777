"""Recipes pair the right studies and keep nothing of where they lie."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from Diff4MMLiTSLib.core.config import ModelKind, TrainConfig, load_config
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.recipes import Trainer

RECIPES = Path(__file__).parents[2] / "Diff4MMLiTS" / "Resources" / "Recipes"


@pytest.mark.parametrize(
    "file", sorted(path for path in RECIPES.glob("*.toml") if path.stem != "demo"), ids=lambda p: p.stem
)
def test_a_shipped_recipe_trains_what_its_name_says(file):
    assert str(load_config(TrainConfig, file).target) == file.stem.split("-")[0]


def test_the_recipe_that_is_kept_names_no_absolute_path(tmp_path):
    config = TrainConfig(cohorts=(str(tmp_path / "jane" / "cohort"), "beside"), autoencoder=str(tmp_path / "model"))
    Trainer(config, torch.device("cpu")).keep_recipe(tmp_path / "run")
    kept = (tmp_path / "run" / "recipe.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in kept
    assert '"beside"' in kept


def test_a_run_goes_on_only_with_the_recipe_it_was_begun_with(tmp_path):
    config = TrainConfig(cohorts=("a",), pairs=2)
    Trainer(config, torch.device("cpu")).keep_recipe(tmp_path)
    renamed = config.model_copy(update={"name": "another name"})
    Trainer(renamed, torch.device("cpu"), resume=True).keep_recipe(tmp_path)
    with pytest.raises(InputError, match="begun with pairs = 2, not 3"):
        Trainer(config.model_copy(update={"pairs": 3}), torch.device("cpu"), resume=True).keep_recipe(tmp_path)


def test_a_run_that_was_begun_is_not_begun_again_and_keeps_its_recipe(tmp_path):
    Trainer(TrainConfig(cohorts=("a",), pairs=2), torch.device("cpu")).keep_recipe(tmp_path)
    before = (tmp_path / "recipe.json").read_bytes()
    with pytest.raises(InputError, match="--resume"):
        Trainer(TrainConfig(cohorts=("a",), pairs=3), torch.device("cpu")).keep_recipe(tmp_path)
    assert (tmp_path / "recipe.json").read_bytes() == before


@pytest.mark.parametrize(
    ("target", "names"),
    [("segmenter", ("m", "m")), ("synthesizer", ("m-autoencoder", "m")), ("all", ("m-autoencoder", "m-synthesizer"))],
)
def test_models_of_one_recipe_have_different_names(target, names):
    trainer = Trainer(TrainConfig(target=target, name="m"), torch.device("cpu"))
    assert tuple(trainer._name(kind) for kind in (ModelKind.AUTOENCODER, ModelKind.SYNTHESIZER)) == names
