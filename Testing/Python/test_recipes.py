"""Recipes pair the right studies and keep nothing of where they lie."""

from __future__ import annotations

import pytest
import torch

from Diff4MMLiTSLib import recipes
from Diff4MMLiTSLib.core.config import TrainConfig
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study_io import write_study


def test_cohorts_that_share_an_id_are_refused_before_anything_is_trained(a_study, tmp_path):
    for cohort in ("a", "b"):
        write_study(a_study, tmp_path / cohort / "case_1")
    config = TrainConfig(cohorts=("a", "b"))
    with pytest.raises(InputError, match="are both study"):
        recipes.train_recipe(
            config, tmp_path / "run", folder=tmp_path, resume=False, device=torch.device("cpu"), progress=silent()
        )
    assert not (tmp_path / "run").exists()


def test_the_recipe_that_is_kept_names_no_absolute_path(tmp_path):
    config = TrainConfig(cohorts=(str(tmp_path / "jane" / "cohort"), "beside"), autoencoder=str(tmp_path / "model"))
    recipes._save_recipe(config, tmp_path / "run")
    kept = (tmp_path / "run" / "recipe.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in kept
    assert '"beside"' in kept
