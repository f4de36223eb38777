"""Progress goes forward, in the protocol's words, and stops when asked to."""

from __future__ import annotations

import io
import json

import pytest

from Diff4MMLiTSLib.core.errors import CanceledError, InputError
from Diff4MMLiTSLib.core.progress import Progress, ProgressStyle, ProgressWriter


def test_parts_of_parts_are_fractions_of_the_whole():
    seen = []
    whole = Progress(lambda fraction, stage, message: seen.append((fraction, stage, message)), lambda: False)
    whole.part(0.5, 1.0, "train").part(0.0, 0.5).update(0.5, "half")
    assert seen == [(0.625, "train", "half")]


def test_a_canceled_job_stops_at_its_next_step():
    with pytest.raises(CanceledError):
        Progress(lambda *_: None, lambda: True).part(0, 0.5).check()


def test_json_lines_follow_the_protocol():
    stream = io.StringIO()
    writer = ProgressWriter(ProgressStyle.JSON, stream)
    writer.report(0.42, "register", "AP -> PVP")
    writer.result("out")
    writer.error(InputError("Bad file 'ü'", expected="a CT", remedy="Export it again"))
    progress, result, error = map(json.loads, stream.getvalue().splitlines())
    assert (progress["event"], progress["stage"], progress["fraction"]) == ("progress", "register", 0.42)
    assert result == {"event": "result", "path": "out"}
    assert error == {
        "event": "error",
        "code": "bad_input",
        "message": "Bad file 'ü'. Expected: a CT. Export it again.",
        "hint": "Export it again",
    }


def test_every_line_of_a_server_says_which_request_it_answers():
    stream = io.StringIO()
    ProgressWriter(ProgressStyle.JSON, stream).ready()
    writer = ProgressWriter(ProgressStyle.JSON, stream, context={"request": 7})
    writer.report(0.5, "click", "")
    writer.result("out")
    writer.error(InputError("Bad"))
    ready, *others = map(json.loads, stream.getvalue().splitlines())
    assert ready == {"event": "ready"}
    assert [line["request"] for line in others] == [7, 7, 7]


@pytest.mark.parametrize("name", ["Müller → 肝", "undecodable \udcfc"])
def test_json_lines_pass_any_name_through_any_pipe(name):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="cp1252")  # a pipe on Windows
    ProgressWriter(ProgressStyle.JSON, stream).report(0.5, "register", name)
    assert json.loads(raw.getvalue())["message"] == name


def test_a_result_with_a_name_that_the_terminal_cannot_show_is_still_a_result():
    raw = io.BytesIO()
    writer = ProgressWriter(ProgressStyle.NONE, io.TextIOWrapper(raw, encoding="cp1252", write_through=True))
    writer.result("out 肝")
    assert raw.getvalue().decode("cp1252").startswith("out ")


def test_the_bar_shows_the_share_and_the_time_left():
    stream = io.StringIO()
    writer = ProgressWriter(ProgressStyle.BAR, stream)
    writer.report(0.5, "train", "step 5 of 10")
    assert " 50%" in stream.getvalue()
    assert "left" in stream.getvalue()
    assert "step 5 of 10" in stream.getvalue()


def test_auto_is_silent_where_there_is_no_terminal():
    stream = io.StringIO()
    ProgressWriter(ProgressStyle.AUTO, stream).report(0.5, "train", "x")
    assert stream.getvalue() == ""
