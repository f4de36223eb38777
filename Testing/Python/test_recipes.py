"""Recipes pair the right studies and keep nothing of where they lie."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from Diff4MMLiTSLib.core.config import TrainConfig, load_config
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
