from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from Diff4MMLiTSLib.core.errors import CanceledError, InputError, MissingError
from Diff4MMLiTSLib.core.grid import Volume
from Diff4MMLiTSLib.core.images import write_volume
from Diff4MMLiTSLib.core.progress import Progress, silent
from Diff4MMLiTSLib.core.study import Mask, MaskSource, RegisteredStudy, Segmentation
from Diff4MMLiTSLib.core.study_io import read_segmentation, write_segmentation, write_study
from Diff4MMLiTSLib.server import _Desk, parse_request, serve
from Diff4MMLiTSLib.stages.segmentation import MultimodalSegmenter
from Diff4MMLiTSLib.training.checkpoint import save_model
from Diff4MMLiTSLib.training.segmenter_task import NETWORK, fresh_segmenter, learned_numbers
from tiny_models import segmenter_card, segmenter_config


@pytest.fixture
def a_model(tmp_path: Path) -> Path:
    config = segmenter_config()
    card = segmenter_card(config).model_copy(update={"numbers": learned_numbers(config)})
    save_model(tmp_path / "model", card, {NETWORK: fresh_segmenter(config.network, seed=0).state_dict()})
    return tmp_path / "model"


@pytest.fixture
def a_request(tmp_path: Path, a_study: RegisteredStudy) -> dict[str, object]:
    """A positive click in the middle of a study without any tumor found so far."""
    empty = Mask(Volume(np.zeros(a_study.grid.shape, np.uint8), a_study.grid), MaskSource.MODEL)
    write_study(a_study, tmp_path / "study")
    write_segmentation(Segmentation("s", empty, empty, a_study.reference_phase), tmp_path / "before")
    return {
        "request": 7,
        "study": str(tmp_path / "study"),
        "segmentation": str(tmp_path / "before"),
        "clicks": [{"point_mm": a_study.grid.center_mm.tolist(), "positive": True}],
        "out": str(tmp_path / "after"),
    }


def lines_of(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def answers_to(model: Path, *requests: str) -> list[dict[str, object]]:
    answers = io.StringIO()
    serve(MultimodalSegmenter.load(model), io.StringIO("\n".join(requests) + "\n"), answers, progress=silent())
    return lines_of(answers.getvalue())


def test_requests_are_answered_by_a_process_that_ends_well_with_its_input(
    a_model: Path, a_request: dict[str, object], tmp_path: Path
) -> None:
    again = {**a_request, "request": "b", "segmentation": a_request["out"], "out": str(tmp_path / "later")}
    command = [sys.executable, "-m", "Diff4MMLiTSLib", "serve", "--model", str(a_model), "--device", "cpu"]
    text = f"{json.dumps(a_request)}\n{json.dumps(again)}\n"
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    events = lines_of(done.stdout)
    assert done.returncode == 0, done.stderr
    assert events[0] == {"event": "ready"}
    results = [event for event in events if event["event"] == "result"]
    assert results == [
        {"event": "result", "request": 7, "path": a_request["out"]},
        {"event": "result", "request": "b", "path": again["out"]},
    ]
    after = read_segmentation(tmp_path / "later")
    assert after.tumor.array.any()
    assert after.probability is not None
    assert [entry.stage for entry in after.history] == ["click", "click"]


def test_an_error_of_one_request_does_not_end_the_server(a_model: Path, a_request: dict[str, object]) -> None:
    nowhere = json.dumps({**a_request, "request": 1, "study": "nowhere"})
    twice = json.dumps({**a_request, "request": 8})
    events = answers_to(a_model, nowhere, "{", json.dumps(a_request), twice)
    finals = [event for event in events if event["event"] in ("result", "error")]
    assert [(event["event"], event["request"]) for event in finals] == [
        ("error", 1),
        ("error", None),
        ("result", 7),
        ("error", 8),
    ]
    assert all(event["code"] == "bad_input" and event["message"] for event in finals if event["event"] == "error")
    assert "exists already" in str(finals[3]["message"])


def test_a_study_that_changed_is_read_again(
    a_model: Path, a_request: dict[str, object], a_study: RegisteredStudy, tmp_path: Path
) -> None:
    class Requests(io.StringIO):
        def __iter__(self):
            yield json.dumps(a_request)
            while not (tmp_path / "after").exists():
                pass
            moved = RegisteredStudy(
                "other",
                {
                    a_study.reference_phase: Volume(
                        np.asarray(a_study.reference.array), a_study.grid.cropped((3, 0, 0), a_study.grid.size)
                    )
                },
                a_study.reference_phase,
            )
            write_study(moved, tmp_path / "study", force=True)
            yield json.dumps({**a_request, "request": 8, "out": str(tmp_path / "later")})

    answers = io.StringIO()
    serve(MultimodalSegmenter.load(a_model), Requests(), answers, progress=silent())
    last = lines_of(answers.getvalue())[-1]
    assert last["event"] == "error"
    assert "another grid" in str(last["message"])


def test_a_request_to_stop_is_heard_while_waiting(a_model: Path) -> None:
    canceled = Progress(lambda *_: None, lambda: True)
    with pytest.raises(CanceledError):
        serve(MultimodalSegmenter.load(a_model), io.StringIO(""), io.StringIO(), progress=canceled)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_server_that_waits_ends_when_it_is_terminated(a_model: Path) -> None:
    command = [sys.executable, "-m", "Diff4MMLiTSLib", "serve", "--model", str(a_model), "--device", "cpu"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert json.loads(child.stdout.readline()) == {"event": "ready"}
    child.terminate()
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 5
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "change",
    [
        {"clicks": [{"point_mm": [1, 2], "positive": True}]},
        {"clicks": [{"point_mm": [1, 2, 3]}]},
        {"clicks": [{"point_mm": [1, 2, 3], "positive": "yes"}]},
        {"study": 5},
        {"clicks": 3},
    ],
)
def test_a_request_of_another_form_is_refused(change: dict[str, object]) -> None:
    good = {"study": "a", "segmentation": "b", "out": "c", "clicks": []}
    assert parse_request(json.dumps(good)).study == Path("a")
    with pytest.raises(InputError, match="request cannot be read"):
        parse_request(json.dumps({**good, **change}))


def test_input_that_cannot_be_decoded_is_a_bad_request_and_the_server_ends_with_its_input(a_model: Path) -> None:
    command = [sys.executable, "-m", "Diff4MMLiTSLib", "serve", "--model", str(a_model), "--device", "cpu"]
    done = subprocess.run(command, input=b"\xff\xfe\n", capture_output=True, timeout=300, check=False)
    ready, error = lines_of(done.stdout.decode())
    assert (ready["event"], error["event"], error["code"]) == ("ready", "error", "bad_input")
    assert done.returncode == 0


def test_a_result_that_was_edited_is_read_again(
    a_model: Path, a_request: dict[str, object], a_study: RegisteredStudy, tmp_path: Path
) -> None:
    desk = _Desk(MultimodalSegmenter.load(a_model))
    desk.answer(parse_request(json.dumps(a_request)), silent())
    assert desk._read_segmentation(tmp_path / "after").tumor.array.any()
    empty = Volume(np.zeros(a_study.grid.shape, np.uint8), a_study.grid)
    write_volume(empty, tmp_path / "other.nrrd")
    (tmp_path / "other.nrrd").replace(tmp_path / "after" / "tumor.nrrd")
    assert not desk._read_segmentation(tmp_path / "after").tumor.array.any()


def test_a_model_without_clicks_is_refused_before_it_says_that_it_is_ready(tmp_path: Path) -> None:
    config = segmenter_config()
    weights = {NETWORK: fresh_segmenter(config.network, seed=0).state_dict()}
    save_model(tmp_path / "plain", segmenter_card(config).model_copy(update={"numbers": {}}), weights)
    with pytest.raises(MissingError, match="not learned from clicks"):
        answers_to(tmp_path / "plain", "{}")
