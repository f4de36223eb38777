"""Configurations refuse what they do not know and say what they do."""

from __future__ import annotations

import pytest
from pydantic import Field

from Diff4MMLiTSLib.core.config import Settings, load_config
from Diff4MMLiTSLib.core.errors import InputError


class Inner(Settings):
    rate: float = Field(0.1, gt=0)


class Outer(Settings):
    steps: int = 10
    name: str = "x"
    inner: Inner = Inner()


def test_assignments_win_over_the_file_and_the_file_over_defaults(tmp_path):
    (tmp_path / "c.toml").write_text('steps = 20\nname = "y"\n[inner]\nrate = 0.5\n')
    config = load_config(Outer, tmp_path / "c.toml", ["steps=30", "inner.rate=0.25"])
    assert (config.steps, config.name, config.inner.rate) == (30, "y", 0.25)


def test_text_needs_no_quotes():
    assert load_config(Outer, assignments=["name=portal venous"]).name == "portal venous"


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("stepz=3", "Unknown setting 'stepz'.*inner, name, steps"),
        ("inner.speed=3", "Unknown setting 'inner.speed'.*rate"),
        ("inner.rate=-1", "'inner.rate'.*greater than 0"),
        ("steps=many", "'steps' has the value 'many'"),
        ("steps", "key=value"),
        ("steps.deep=1", "unknown|'steps'"),
    ],
)
def test_bad_settings_are_refused_with_the_valid_ones(assignment, words):
    with pytest.raises(InputError, match=words):
        load_config(Outer, assignments=[assignment])


def test_a_file_that_is_not_toml_is_refused(tmp_path):
    (tmp_path / "c.toml").write_text("steps = = 3")
    with pytest.raises(InputError, match=r"c\.toml.*TOML"):
        load_config(Outer, tmp_path / "c.toml")
    with pytest.raises(InputError, match=r"no configuration file 'absent\.toml'"):
        load_config(Outer, tmp_path / "absent.toml")
