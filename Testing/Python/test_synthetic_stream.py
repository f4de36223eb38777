"""A trained synthesizer becomes a source of pairs for the segmenter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from Diff4MMLiTSLib.core.config import PairSource, TrainConfig
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.study import StageQA, Verdict
from Diff4MMLiTSLib.core.study_io import write_normal
from Diff4MMLiTSLib.synthetic_stream import fresh_pairs
from Diff4MMLiTSLib.training.checkpoint import save_model
from tiny_models import SYNTHESIZER_CARD, synthesizer_weights

SETTINGS = {
    "synthesize": {"steps": 2, "redraws": 0, "tumor": {"diameter_mm": (10.0, 12.0)}},
    "train_segmenter": {"spacing_mm": 3.0},
}


@pytest.fixture
def a_synthesizer(tmp_path):
    save_model(tmp_path / "model", SYNTHESIZER_CARD, synthesizer_weights())
    return tmp_path / "model"


def source_of(config, normal, model):
    return fresh_pairs(TrainConfig(**SETTINGS, **config), [normal], model, torch.device("cpu"))


def test_fresh_pairs_are_synthetic_studies_on_the_working_grid(a_normal_study, a_synthesizer, tmp_path):
    write_normal(a_normal_study, tmp_path / "normal" / "a")
    pairs = source_of({"pair_source": PairSource.FRESH}, tmp_path / "normal", a_synthesizer)
    first, second, again = (pairs.of_item(index, np.random.default_rng(0)) for index in (0, 1, 0))
    assert first.synthetic
    assert first.tumor.any()
    assert first.grid.spacing_mm == (3.0, 3.0, 3.0)
    assert pairs.origins == {first.origin} == {a_normal_study.study.study_id}
    assert np.array_equal(first.phases, again.phases)
    assert not np.array_equal(first.tumor, second.tumor)


def test_a_pool_has_the_size_that_the_recipe_asks_for(a_normal_study, a_synthesizer, tmp_path):
    write_normal(a_normal_study, tmp_path / "normal" / "a")
    config = {"pair_source": PairSource.POOL, "pool": 2, "pool_uses": 5}
    pairs = source_of(config, tmp_path / "normal", a_synthesizer)
    rng = np.random.default_rng(0)
    assert len({pairs.of_item(index, rng).tumor.tobytes() for index in range(8)}) == 2


def test_a_liver_without_room_is_shown_without_a_tumor(a_normal_study, a_synthesizer, tmp_path):
    write_normal(a_normal_study, tmp_path / "normal" / "a")
    config = {"pair_source": PairSource.FRESH}
    crowded = {**SETTINGS["synthesize"], "tumor": {"diameter_mm": (90.0, 95.0), "tries": 2}}
    source = fresh_pairs(
        TrainConfig(**{**SETTINGS, "synthesize": crowded}, **config),
        [tmp_path / "normal"],
        a_synthesizer,
        torch.device("cpu"),
    )
    assert not source.of_item(0, np.random.default_rng(0)).tumor.any()


def test_a_study_whose_inpainting_was_rejected_gets_no_tumor(a_normal_study, a_synthesizer, tmp_path, caplog):
    rejected = replace(a_normal_study.study, qa={"inpaint": StageQA(Verdict.REJECT, 0.0)})
    write_normal(replace(a_normal_study, study=rejected), tmp_path / "normal" / "a")
    with pytest.raises(InputError, match="no normal study"):
        source_of({"pair_source": PairSource.FRESH}, tmp_path / "normal", a_synthesizer)
    assert "inpainting was rejected" in caplog.text


def test_without_normal_studies_there_is_no_source(a_synthesizer, tmp_path):
    with pytest.raises(InputError):
        source_of({"pair_source": PairSource.FRESH}, tmp_path, a_synthesizer)
