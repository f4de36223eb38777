"""A model card says in words what model.json says."""

from __future__ import annotations

import pytest

from Diff4MMLiTSLib.arguments import BUNDLED_MODELS
from Diff4MMLiTSLib.cli import run
from Diff4MMLiTSLib.core.config import ModelKind
from Diff4MMLiTSLib.reporting.exports.model_card import TASKS, model_card_text
from tiny_models import segmenter_card, segmenter_config


def test_it_tells_use_data_metrics_license_and_how_to_repeat_it():
    card = segmenter_card(segmenter_config()).model_copy(
        update={"metrics": {"dsc": 0.81234, "mae_hu": 6.5}, "training_data": "12 phantoms", "data_hash": "cd" * 32}
    )
    text = model_card_text(card, "ab" * 32)
    said = ["Trained on phantoms, not for patients.", "not a medical device", "12 phantoms.", "| dsc | 0.8123 |"]
    said += ["| mae_hu | 6.5 HU |", "Apache-2.0", "| seed | 0 |", "ab" * 32, "cd" * 32, "-175 to 250 HU"]
    for words in said:
        assert words in text, words


def test_a_model_without_metrics_says_so_and_every_kind_has_a_task():
    assert "None were recorded" in model_card_text(segmenter_card(segmenter_config()), "")
    assert set(TASKS) == set(ModelKind)


def test_the_command_writes_it_once(tmp_path, capsys):
    arguments = ["export", "model-card", str(BUNDLED_MODELS / "phantom-inpainter"), str(tmp_path / "CARD.md")]
    assert run(arguments) == 0
    assert (tmp_path / "CARD.md").read_text(encoding="utf-8").startswith("# phantom-inpainter\n")
    assert run(arguments) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(("model", "out", "code"), [("absent", "CARD.md", 3), ("phantom-inpainter", "CARD.txt", 2)])
def test_a_missing_model_or_a_wrong_name_is_refused(tmp_path, model, out, code):
    assert run(["export", "model-card", str(BUNDLED_MODELS / model), str(tmp_path / out), "--progress", "none"]) == code
    assert not list(tmp_path.iterdir())
