"""The demo at a tiny size: every stage runs, everything is recorded, and a second start goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from Diff4MMLiTSLib.cli import run
from Diff4MMLiTSLib.core.images import is_marked_synthetic
from Diff4MMLiTSLib.core.study import Verdict
from Diff4MMLiTSLib.core.study_io import find_studies, read_normal, read_registered
from Diff4MMLiTSLib.training.checkpoint import load_card

METHODS = {"threshold", "untrained", "real", "real_and_synthetic"}
RECIPE = Path(__file__).with_name("tiny_demo.toml")


def test_the_report_is_one_file_with_every_picture_in_it(a_demo):
    html = (a_demo / "report.html").read_text(encoding="utf-8")
    assert html.count("data:image/png;base64,") >= 7
    assert 'src="http' not in html
    assert "not a medical device" in html


def test_every_method_is_evaluated_and_every_part_is_timed(a_demo):
    report = json.loads((a_demo / "report.json").read_text(encoding="utf-8"))
    assert set(report) == METHODS | {"seconds"}
    assert set(report["threshold"]["studies"]) == {folder.name for folder in find_studies(a_demo / "validation")}
    assert all(seconds >= 0 for seconds in report["seconds"].values())
    assert {"register", "inpaint", "synthesize"} <= set(report["seconds"])


def test_no_network_learned_from_validation_phantoms(a_demo):
    trained = {folder.name for folder in find_studies(a_demo / "real")}
    assert not trained & {folder.name for folder in find_studies(a_demo / "validation")}
    assert load_card(a_demo / "segmenter-real" / "model").training_data == "2 studies and 0 synthetic studies"
    pairs = [read_registered(folder) for folder in find_studies(a_demo / "synthetic")]
    accepted = sum(pair.qa["synthesize"].verdict is not Verdict.REJECT for pair in pairs)
    card = load_card(a_demo / "segmenter-real_and_synthetic" / "model")
    assert card.training_data == f"2 studies and {accepted} synthetic studies"


def test_both_segmenters_took_the_same_number_of_steps(a_demo):
    logs = [(a_demo / f"segmenter-{name}" / "metrics.jsonl").read_text() for name in ("real", "real_and_synthetic")]
    steps = [json.loads(log.splitlines()[-1])["step"] for log in logs]
    assert steps[0] == steps[1] == 2


def test_normal_studies_and_pairs_keep_their_guarantees(a_demo):
    for folder in find_studies(a_demo / "synthetic"):
        normal = read_normal(a_demo / "normal" / folder.name.split("_synthetic-")[0])
        pair = read_registered(folder)
        mask = pair.tumor_mask.array
        assert (mask & ~pair.liver.array).sum() == 0
        assert all(is_marked_synthetic(path) for path in folder.glob("*.nrrd"))
        changed = np.zeros(mask.shape, dtype=bool)
        for phase, volume in pair.phases.items():
            changed |= np.asarray(volume.array != normal.study.phases[phase].array)
        distance = np.argwhere(changed)[:, None] - np.argwhere(mask)[None, ::7]
        assert np.linalg.norm(distance * pair.grid.spacing_zyx_mm, axis=2).min(axis=1).max() <= 12 + 7 * 3


def test_every_output_says_how_it_was_made(a_demo):
    pair = read_registered(find_studies(a_demo / "synthetic")[0])
    assert [entry.stage for entry in pair.history] == ["phantom", "register", "inpaint", "synthesize"]
    assert all(entry.inputs for entry in pair.history[1:])
    assert pair.history[-1].models["tiny-synthesizer"]
    assert pair.history[-1].config["source_study"] in pair.study_id


def test_no_absolute_path_reaches_any_output(a_demo):
    secret = str(a_demo.parent).encode()
    texts = [path for path in a_demo.rglob("*") if path.suffix in (".json", ".jsonl", ".html")]
    assert len(texts) > 20
    assert [path.name for path in texts if secret in path.read_bytes()] == []


def test_a_second_start_keeps_the_report_and_without_it_only_the_report_is_made_again(a_demo, capsys):
    assert run(["demo", "--out", str(a_demo), "--config", str(RECIPE)]) == 2
    assert "exists already" in capsys.readouterr().err
    model = a_demo / "inpainter" / "model" / "inpainter.safetensors"
    before = model.stat().st_mtime_ns
    (a_demo / "report.html").rename(a_demo / "old.html")
    assert run(["demo", "--out", str(a_demo), "--config", str(RECIPE), "--progress", "none"]) == 0
    assert model.stat().st_mtime_ns == before


def test_held_out_seeds_are_refused_before_anything_is_made(tmp_path, capsys):
    arguments = ["demo", "--out", str(tmp_path / "demo"), "--config", str(RECIPE), "--seed", "999"]
    assert run(arguments) == 2
    assert "held out" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_a_demo_that_was_begun_with_another_seed_is_not_mixed(tmp_path, capsys):
    other = tmp_path / "demo" / "phantoms" / "phantom-standard-small-0007"
    other.mkdir(parents=True)
    (other / "study.json").write_text("{}")
    assert run(["demo", "--out", str(tmp_path / "demo"), "--config", str(RECIPE)]) == 2
    assert "another seed" in capsys.readouterr().err
