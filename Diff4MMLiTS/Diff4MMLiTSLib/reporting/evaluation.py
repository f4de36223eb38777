"""Compares a cohort of segmentations with its annotations and writes what came out: JSON, CSV and HTML.

Every study of the truth counts. One without a usable prediction is scored as if nothing had been predicted, and listed.
Studies whose truth holds no tumor are reported apart, by what was wrongly found in them.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from ..core.files import exists_error, new_file
from ..core.lesions import match_lesions
from ..core.metrics import METRIC_NAMES, compare_masks
from ..core.progress import Progress
from ..core.study import Mask, Segmentation, Study
from ..core.study_io import folders_by_id, read_segmentation, read_study
from .evaluation_report import evaluation_report
from .html import write_report
from .scores import STRUCTURES, Evaluation, StudyEvaluation, evaluation_record


def evaluate_cohort(predicted: Path, truth: Path, *, progress: Progress) -> Evaluation:
    """Compare segmentations with annotations.

    Args:
        predicted: What ``segment`` wrote: a study folder, or a folder of them.
        truth: The same studies with annotated masks; studies are matched by their ids.
        progress: Told after every study.

    Returns:
        One entry for every study of the truth, with or without a prediction.

    Raises:
        InputError: A folder holds no study, two studies share an id, a study of the truth cannot be read or has
            neither liver nor tumor, or no study has a prediction.
        CanceledError: The user asked to stop.
    """
    predictions, truths = folders_by_id([predicted]), folders_by_id([truth])
    if not predictions.keys() & truths.keys():
        raise InputError(
            f"No study of '{predicted.name}' is in '{truth.name}'",
            expected="the same study ids in both",
            remedy="Check that the segmentations were made from these studies",
        )
    studies = []
    for number, (study_id, folder) in enumerate(sorted(truths.items())):
        progress.update(number / len(truths), study_id)
        studies.append(evaluate_study(predictions.get(study_id), folder))
    progress.update(1.0, "done")
    return Evaluation(tuple(studies), tuple(sorted(predictions.keys() - truths.keys())))


def evaluate_study(predicted: Path | None, truth: Path) -> StudyEvaluation:
    """Compare one segmentation with its annotation; see ``evaluate_cohort``.

    Args:
        predicted: Folder of the segmentation; None when there is none.
        truth: Folder of the annotated study.

    Raises:
        InputError: The truth cannot be read, or has neither liver nor tumor.
    """
    study = read_study(truth)
    if study.liver is None and study.tumor is None:
        raise InputError(f"Study '{study.study_id}' has neither a liver nor a tumor mask", expected="an annotation")
    found, failure = _usable_prediction(predicted, study)
    return compare_study(study, found, truth=truth, predicted=predicted, failure=failure)


def compare_study(
    study: Study, found: Segmentation | None, *, truth: Path, predicted: Path | None, failure: str = ""
) -> StudyEvaluation:
    """Compare a segmentation in memory with a study's masks, both on the study's grid.

    Args:
        study: The study with its true masks.
        found: The segmentation; None is scored as an empty one.
        truth: The study's folder.
        predicted: The segmentation's folder.
        failure: Why there is no segmentation.
    """
    tumor, lesions = None, None
    if study.tumor is not None:
        masks = _pair(found.tumor if found else None, study.tumor_mask, study.grid.shape)
        lesions = match_lesions(*masks, study.grid)
        tumor = compare_masks(*masks, study.grid) if masks[1].any() else None
    liver = None
    if study.liver is not None:
        liver = compare_masks(*_pair(found.liver if found else None, study.liver, study.grid.shape), study.grid)
    masks_with_source = {"liver": study.liver, "tumor": study.tumor_mask}
    sources = tuple(f"{name}: {mask.source}" for name, mask in masks_with_source.items() if mask)
    return StudyEvaluation(study.study_id, truth, predicted, tumor, liver, lesions, sources, failure)


def write_evaluation(evaluation: Evaluation, path: Path, *, force: bool = False) -> None:
    """Write an evaluation as JSON, and beside it as CSV (a row per study) and HTML (with the worst studies pictured).

    Args:
        evaluation: What to write.
        path: The new JSON file; the others have its name with the suffixes ``.csv`` and ``.html``.
        force: Replace existing files.

    Raises:
        InputError: A file exists and ``force`` is not given, ``path`` is not a JSON file, no permission, or disk full.
    """
    table, page = report_paths(path, force=force)
    write_report(evaluation_report(evaluation), page, force=force)
    with new_file(table, force=force) as partial:
        partial.write_text(evaluation_csv(evaluation), encoding="utf-8")
    record = json.dumps(evaluation_record(evaluation), indent=2, ensure_ascii=False, allow_nan=False)
    with new_file(path, force=force) as partial:  # last: where the JSON file is, the others are complete
        partial.write_text(record + "\n", encoding="utf-8")


def report_paths(path: Path, *, force: bool) -> tuple[Path, Path]:
    """Return where the table (CSV) and the page (HTML) beside a JSON report go.

    Raises:
        InputError: The name does not end in ``.json``, or one of the three exists and ``force`` is not given.
    """
    if path.suffix.lower() != ".json":
        raise InputError(f"The report '{path.name}'", expected="a name that ends in .json")
    table, page = path.with_suffix(".csv"), path.with_suffix(".html")
    for target in (path, table, page):
        if target.exists() and not force:
            raise exists_error(target)
    return table, page


def evaluation_csv(evaluation: Evaluation) -> str:
    """Return a table with a row per study; cells are empty where nothing is defined."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(study_columns())
    writer.writerows(study_cells(study) for study in evaluation.studies)
    return stream.getvalue()


def study_columns() -> list[str]:
    """Return the heads of the columns of ``study_cells``."""
    metrics = [f"{structure}_{name}" for structure in STRUCTURES for name in METRIC_NAMES]
    counts = ["lesions", "lesions_found", "lesions_predicted", "false_positives", "false_positive_ml"]
    return ["study_id", *metrics, *counts, "tumor_free", "failure"]


def study_cells(study: StudyEvaluation) -> list[str]:
    """Return the row of one study."""
    return [study.study_id, *_metric_cells(study), *_count_cells(study), _tumor_free(study), study.failure]


def _usable_prediction(folder: Path | None, study: Study) -> tuple[Segmentation | None, str]:
    if folder is None:
        return None, "There is no prediction."
    try:
        found = read_segmentation(folder)
    except InputError as error:
        return None, str(error)
    if difference := study.grid.difference(found.tumor.volume.grid):
        return None, f"The prediction lies on another grid than {study.reference_phase}: {difference}."
    return found, ""


def _pair(
    predicted: Mask | None, truth: Mask | None, shape: tuple[int, ...]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    empty = np.zeros(shape, dtype=bool)
    return (predicted.array if predicted else empty), (truth.array if truth else empty)


def _metric_cells(study: StudyEvaluation) -> list[str]:
    cells = []
    for metrics in (study.tumor, study.liver):
        cells += [f"{getattr(metrics, name):.6f}" if metrics else "" for name in METRIC_NAMES]
    return cells


def _count_cells(study: StudyEvaluation) -> list[str]:
    if study.lesions is None:
        return [""] * 5
    found = sum(lesion.agrees for lesion in study.lesions.truth)
    wrong = study.false_positives
    counts = (len(study.lesions.truth), found, len(study.lesions.predicted), len(wrong))
    return [*map(str, counts), f"{sum(lesion.volume_ml for lesion in wrong):.4f}"]


def _tumor_free(study: StudyEvaluation) -> str:
    return "" if study.lesions is None else ("yes" if study.is_tumor_free else "no")
