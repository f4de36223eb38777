"""Methods are compared on the same studies, by every metric, with what a reader needs to judge the difference."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from Diff4MMLiTSLib.cli import run
from Diff4MMLiTSLib.core.grid import Volume
from Diff4MMLiTSLib.core.study import TUMOR_FREE, Mask, MaskSource, Segmentation
from Diff4MMLiTSLib.core.study_io import write_segmentation, write_study

SHIFTS = {"good": 1, "bad one": 3}
STUDIES = ("a", "b", "c", "free")


@pytest.fixture
def cohorts(a_study, tmp_path) -> dict[str, Path]:
    """The truth, and two methods whose tumors are moved by one and by three voxels."""
    for name in STUDIES:
        study = replace(a_study, study_id=name, tumor=TUMOR_FREE if name == "free" else a_study.tumor)
        write_study(study, tmp_path / "truth" / name)
        for method, shift in SHIFTS.items():
            tumor = np.roll(a_study.tumor_mask.volume.array, shift, axis=2)
            masks = [
                Mask(Volume(array, a_study.grid), MaskSource.MODEL) for array in (a_study.liver.volume.array, tumor)
            ]
            write_segmentation(Segmentation(name, *masks, a_study.reference_phase), tmp_path / method / name)
    return {name: tmp_path / name for name in ("truth", *SHIFTS)}


def evaluate(*arguments: object) -> int:
    return run(["evaluate", *map(str, arguments), "--progress", "json"])


def test_each_method_is_scored_as_alone_and_compared_with_the_first(cohorts, tmp_path):
    assert evaluate(cohorts["bad one"], cohorts["good"], cohorts["truth"], "--out", tmp_path / "both.json") == 0
    assert evaluate(cohorts["good"], cohorts["truth"], "--out", tmp_path / "alone.json") == 0
    both, alone = (json.loads((tmp_path / name).read_text()) for name in ("both.json", "alone.json"))
    assert both["methods"]["good"] == alone
    assert (both["baseline"], list(both["comparisons"])) == ("bad one", ["good"])
    dsc = both["comparisons"]["good"]["tumor"]["dsc"]
    means = [both["methods"][name]["mean"]["tumor"]["dsc"] for name in ("good", "bad one")]
    assert dsc["difference"] == pytest.approx(means[0] - means[1])
    assert dsc["difference"] > 0 > both["comparisons"]["good"]["tumor"]["hd95_mm"]["difference"]
    assert dsc["ci95"] == pytest.approx([dsc["difference"]] * 2)
    assert (dsc["studies"], dsc["wilcoxon_p"], dsc["permutation_p"]) == (3, 0.25, 0.25)
    assert both["comparisons"]["good"]["liver"]["dsc"]["wilcoxon_p"] == 1.0
    assert both["comparisons"]["good"]["lesion_recall"]["difference"] == 0.0


def test_csv_and_html_hold_every_method_and_its_worst_studies(cohorts, tmp_path):
    methods = [f"A={cohorts['good']}", f"B={cohorts['bad one']}", f"C={cohorts['good']}"]
    assert evaluate(*methods, cohorts["truth"], "--against", "B", "--out", tmp_path / "r.json") == 0
    rows = list(csv.DictReader((tmp_path / "r.csv").open()))
    assert {(row["method"], row["study_id"]) for row in rows} == {(m, s) for m in "ABC" for s in STUDIES}
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    for words in ("minus B", "p (Holm)", "Worst studies of A", "Tumor-free studies", "data:image/png"):
        assert words in page
    assert str(tmp_path) not in page
    compared = json.loads((tmp_path / "r.json").read_text())["comparisons"]
    assert compared["A"]["tumor"]["dsc"]["wilcoxon_p_holm"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{good}", "{good}", "{truth}"], "Two methods have one name"),
        (["{good}", "{bad one}", "{truth}", "--against", "none"], "no method 'none'"),
        (["{good}", "x={truth}/absent", "{truth}"], "no folder 'absent'"),
    ],
)
def test_what_cannot_be_compared_is_refused(cohorts, tmp_path, capsys, arguments, words):
    filled = [argument.format(**{name: str(path) for name, path in cohorts.items()}) for argument in arguments]
    assert evaluate(*filled, "--out", tmp_path / "r.json") == 2
    assert words in capsys.readouterr().out
    assert not list(tmp_path.glob("r.*"))
