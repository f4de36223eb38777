"""Recipes pair the right studies and keep nothing of where they lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from Diff4MMLiTSLib import recipes
from Diff4MMLiTSLib.core.config import TrainConfig
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.study import TUMOR_FREE, MaskSource, NormalStudy
from Diff4MMLiTSLib.core.study_io import write_normal, write_study
from Diff4MMLiTSLib.recipes import Trainer
from Diff4MMLiTSLib.training.datasets import to_working_study


@pytest.fixture
def a_normal_folder(a_study, tmp_path):
    """The study without its tumor, in a folder of another name."""
    filled = replace(a_study.tumor_mask, source=MaskSource.MODEL)
    folder = tmp_path / "normal" / "renamed"
    write_normal(NormalStudy(replace(a_study, tumor=TUMOR_FREE), filled), folder)
    return folder


def test_a_study_is_paired_by_its_id_not_by_the_name_of_its_folder(a_study, a_normal_folder):
    working = to_working_study(a_study, spacing_mm=3.0, margin_mm=None)
    (pair,) = recipes._pairs([working], [a_normal_folder.parent])
    assert pair.normal.study_id == a_study.study_id
    np.testing.assert_array_equal(pair.normal.phases[2], working.phases[2])


def test_two_normal_studies_of_one_id_are_refused(a_study, a_normal_folder, tmp_path):
    write_study(replace(a_study, tumor=TUMOR_FREE), tmp_path / "other" / "renamed")
    working = to_working_study(a_study, spacing_mm=3.0, margin_mm=None)
    with pytest.raises(InputError, match="are both study"):
        recipes._pairs([working], [a_normal_folder.parent, tmp_path / "other"])


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
