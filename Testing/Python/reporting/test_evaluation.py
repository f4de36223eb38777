"""An evaluation counts every annotated study, keeps tumor-free ones apart, and writes what the format says."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.grid import Grid, Volume
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study import TUMOR_FREE, Mask, MaskSource, RegisteredStudy, Segmentation
from Diff4MMLiTSLib.core.study_io import write_segmentation, write_study
from Diff4MMLiTSLib.reporting.evaluation import evaluate_cohort, write_evaluation
from Diff4MMLiTSLib.reporting.evaluation_report import comparison_table, lesion_comparison_table, score_panels
from Diff4MMLiTSLib.reporting.scores import Evaluation, compare_evaluations, evaluation_record


def segmentation_of(study: RegisteredStudy, shift: int = 0, grid: Grid | None = None) -> Segmentation:
    """Return the study's own masks, the tumor moved along x; without a tumor, a small wrong one."""
    wrong = np.zeros(study.grid.shape, dtype=np.uint8)
    wrong[5:7, 9:11, 9:11] = 1
    tumor = np.roll(study.tumor_mask.volume.array, shift, axis=2) if study.tumor_mask else wrong
    masks = [Mask(Volume(array, grid or study.grid), MaskSource.MODEL) for array in (study.liver.volume.array, tumor)]
    return Segmentation(study.study_id, *masks, study.reference_phase)


@pytest.fixture
def cohort(a_study, tmp_path) -> tuple[Path, Path]:
    """Predictions and truth: right, moved, tumor-free, and one without a prediction; folders are named otherwise."""
    predicted, truth = tmp_path / "predicted", tmp_path / "truth"
    for name, shift in (("right", 0), ("moved", 3), ("free", 0), ("missing", 0)):
        study = replace(a_study, study_id=name, tumor=TUMOR_FREE if name == "free" else a_study.tumor)
        write_study(study, truth / f"truth of {name}")
        if name != "missing":
            write_segmentation(segmentation_of(study, shift), predicted / f"prediction of {name}")
    return predicted, truth


@pytest.fixture
def an_evaluation(cohort) -> Evaluation:
    """The cohort's evaluation."""
    return evaluate_cohort(*cohort, progress=silent())


def test_a_missing_prediction_counts_as_a_failure(an_evaluation, a_study):
    record = evaluation_record(an_evaluation)
    assert record["studies"]["missing"]["tumor"]["dsc"] == 0.0
    assert record["studies"]["missing"]["tumor"]["hd95_mm"] == a_study.grid.diagonal_mm
    assert list(record["failures"]) == ["missing"]
    expected = (1.0 + record["studies"]["moved"]["tumor"]["dsc"] + 0.0) / 3
    assert record["mean"]["tumor"]["dsc"] == pytest.approx(expected)


def test_tumor_free_studies_are_reported_apart(an_evaluation, a_study):
    record = evaluation_record(an_evaluation)
    assert "tumor" not in record["studies"]["free"]
    assert record["tumor_free"]["studies"]["free"]["count"] == 1
    assert record["tumor_free"]["studies"]["free"]["volume_ml"] == pytest.approx(8 * a_study.grid.voxel_ml, abs=1e-4)
    assert record["count"] == {"tumor": 3, "liver": 4}


def test_lesions_are_counted_over_studies_with_tumors(an_evaluation):
    lesions = evaluation_record(an_evaluation)["lesions"]
    assert (lesions["all"]["truth"], lesions["all"]["found"]) == (3, 2)
    assert lesions["all"]["recall"] == pytest.approx(2 / 3)
    assert sum(lesions[size]["truth"] for size in lesions if size != "all") == 3


def test_lesion_scores_lie_within_their_intervals(an_evaluation):
    entry = evaluation_record(an_evaluation)["lesions"]["all"]
    for name in ("recall", "precision", "f1"):
        low, high = entry["ci95"][name]
        assert low <= entry[name] <= high
    assert evaluation_record(an_evaluation)["lesions"][">=50 mm"]["ci95"]["f1"] == [None, None]


def test_a_prediction_on_another_grid_fails_with_a_reason(cohort, a_study):
    predicted, truth = cohort
    other = replace(a_study.grid, origin_mm=(0.0, 0.0, 0.0))
    shutil.rmtree(predicted / "prediction of moved")
    write_segmentation(segmentation_of(replace(a_study, study_id="moved"), grid=other), predicted / "moved")
    evaluation = evaluate_cohort(predicted, truth, progress=silent())
    assert "origin" in evaluation.failures["moved"]
    assert evaluation.metric("tumor", "dsc")["moved"] == 0.0


def test_a_truncated_prediction_fails_with_a_reason(cohort):
    predicted, truth = cohort
    tumor = predicted / "prediction of moved" / "tumor.nrrd"
    tumor.write_bytes(tumor.read_bytes()[:200])
    assert "tumor.nrrd" in evaluate_cohort(predicted, truth, progress=silent()).failures["moved"]


def test_json_csv_and_html_are_written_together(an_evaluation, tmp_path):
    write_evaluation(an_evaluation, tmp_path / "out" / "report.json")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["report.csv", "report.html", "report.json"]
    record = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(record["mean"]["tumor"]) == {"dsc", "jaccard", "nsd_2mm", "hd95_mm"}
    assert len(record["ci95"]["liver"]["dsc"]) == 2
    rows = list(csv.DictReader((tmp_path / "out" / "report.csv").open()))
    assert {row["study_id"] for row in rows} == set(record["studies"])
    assert str(tmp_path) not in "".join(path.read_text() for path in (tmp_path / "out").iterdir())


def test_nothing_is_written_where_one_file_exists(an_evaluation, tmp_path):
    (tmp_path / "report.csv").write_text("mine")
    with pytest.raises(InputError, match=r"report\.csv"):
        write_evaluation(an_evaluation, tmp_path / "report.json")
    assert not (tmp_path / "report.json").exists()
    assert not (tmp_path / "report.html").exists()


def test_the_same_folders_give_the_same_report(cohort, an_evaluation):
    again = evaluate_cohort(*cohort, progress=silent())
    assert evaluation_record(again) == evaluation_record(an_evaluation)


def test_predictions_of_other_studies_are_refused(cohort, a_study, tmp_path):
    write_segmentation(segmentation_of(replace(a_study, study_id="stranger")), tmp_path / "others" / "x")
    with pytest.raises(InputError, match="others"):
        evaluate_cohort(tmp_path / "others", cohort[1], progress=silent())


def test_two_folders_of_one_study_are_refused(cohort, a_study):
    write_segmentation(segmentation_of(replace(a_study, study_id="right")), cohort[0] / "again")
    with pytest.raises(InputError, match="right"):
        evaluate_cohort(*cohort, progress=silent())


def test_methods_are_compared_study_by_study(cohort, an_evaluation):
    paired = compare_evaluations(an_evaluation, an_evaluation, structure="tumor", metric="dsc")
    assert (paired.difference.mean, paired.wilcoxon_p, paired.permutation_p) == (0.0, 1.0, 1.0)
    both = {"a": an_evaluation, "b": an_evaluation}
    assert comparison_table(both, "a").rows[0][0] == "b"
    assert len(lesion_comparison_table(both).rows) == 2
    assert all(len(panel.scores) == 2 for panel in score_panels(both))
    fewer = Evaluation(an_evaluation.studies[1:])
    with pytest.raises(InputError, match="different studies"):
        compare_evaluations(an_evaluation, fewer, structure="liver", metric="dsc")
