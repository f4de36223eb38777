"""Curves and scores become pictures; a training log is read as it was written."""

from __future__ import annotations

import json

import pytest

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.statistics import Interval
from Diff4MMLiTSLib.reporting.charts import Curve, CurvePanel, ScorePanel, curves_figure, read_curves, scores_figure

PNG = b"\x89PNG"


def test_curves_are_read_from_a_training_log(tmp_path):
    lines = [
        {"step": 10, "seconds": 1.0, "loss": 0.5},
        {"step": 20, "seconds": 2.0, "loss": 0.25, "validation/score": 1},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    curves = read_curves(tmp_path / "metrics.jsonl")
    assert curves["loss"] == Curve("loss", (10, 20), (0.5, 0.25))
    assert curves["validation/score"] == Curve("validation/score", (20,), (1.0,))


@pytest.mark.parametrize("content", ["no json", '{"loss": 1}\n', "[1]\n"])
def test_another_file_is_refused_by_its_name(tmp_path, content):
    (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(InputError, match=r"metrics\.jsonl"):
        read_curves(tmp_path / "metrics.jsonl")


def test_curves_are_drawn_in_one_or_more_rows():
    panel = CurvePanel("loss", (Curve("a", (1, 2, 3), (1.0, 0.5, 0.2)),), logarithmic=True)
    assert curves_figure([panel]).startswith(PNG)
    assert curves_figure([panel] * 5).startswith(PNG)
    with pytest.raises(InputError):
        curves_figure([])


def test_scores_without_an_interval_or_a_mean_are_drawn_too():
    nan = float("nan")
    scores = (("a", Interval(0.7, 0.6, 0.8, 9)), ("b", Interval(0.5, nan, nan, 1)), ("c", Interval(nan, nan, nan, 0)))
    assert scores_figure([ScorePanel("DSC", scores), ScorePanel("NSD", scores)]).startswith(PNG)


def test_panels_must_show_the_same_methods():
    panels = [ScorePanel("DSC", ((name, Interval(0.5, 0.4, 0.6, 3)),)) for name in ("a", "b")]
    with pytest.raises(InputError, match="same methods"):
        scores_figure(panels)
