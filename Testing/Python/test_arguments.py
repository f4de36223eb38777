"""Arguments that commands share: numbers and phases are read strictly, bundled models are the default."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

import pytest

from Diff4MMLiTSLib import arguments
from Diff4MMLiTSLib.arguments import add_model, add_stage, natural, phase_of_number, positive
from Diff4MMLiTSLib.core.phases import Phase


@pytest.mark.parametrize("text", ["-1", "1.5", "x", ""])
def test_what_is_no_whole_number_is_refused(text):
    for read in (natural, positive):
        with pytest.raises(ArgumentTypeError, match="whole number"):
            read(text)


def test_zero_is_a_natural_number_and_not_a_positive_one():
    assert natural("0") == 0
    with pytest.raises(ArgumentTypeError, match="above 0"):
        positive("0")


def test_a_numbered_phase_is_read_and_nonsense_is_not():
    assert phase_of_number("3=AP") == (3, Phase.AP)
    for text in ("AP=3", "3", "3=XYZ"):
        with pytest.raises(ArgumentTypeError):
            phase_of_number(text)


def test_a_bundled_model_is_the_default_and_without_one_a_model_must_be_named(monkeypatch, tmp_path):
    monkeypatch.setattr(arguments, "BUNDLED_MODELS", tmp_path)
    (tmp_path / "phantom-inpainter").mkdir()
    parser = ArgumentParser()
    add_model(parser, "inpainter")
    assert parser.parse_args([]).model == tmp_path / "phantom-inpainter"
    strict = ArgumentParser()
    add_model(strict, "segmenter")
    with pytest.raises(SystemExit):
        strict.parse_args([])


def test_every_stage_takes_studies_output_settings_and_processes():
    parser = ArgumentParser()
    add_stage(parser)
    options = parser.parse_args(["in", "out", "--set", "a=1", "--set", "b=2", "--workers", "3", "--force"])
    assert (options.source, options.out) == (Path("in"), Path("out"))
    assert (options.assignments, options.workers, options.force) == (["a=1", "b=2"], 3, True)
