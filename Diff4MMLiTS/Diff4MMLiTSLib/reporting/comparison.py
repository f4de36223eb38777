"""Several methods on the same annotated studies: each in detail, and each against a baseline with paired tests.

Studies are the units of every test and interval; all methods are scored on all studies of the truth.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import __version__
from ..core.files import new_file
from ..core.progress import Progress
from ..core.statistics import Interval
from .comparison_report import comparison_report
from .evaluation import evaluate_cohort, report_paths, study_cells, study_columns
from .html import write_report
from .scores import Comparison, Evaluation, Json, compare_methods, evaluation_record, finite, limits, recall_difference


def evaluate_methods(methods: Mapping[str, Path], truth: Path, *, progress: Progress) -> dict[str, Evaluation]:
    """Compare the segmentations of several methods with the same annotations.

    Args:
        methods: Folder of the segmentations by the name of the method.
        truth: The annotated studies.
        progress: Told after every study.

    Raises:
        InputError: As ``evaluate_cohort``.
        CanceledError: The user asked to stop.
    """
    evaluations = {}
    for number, (name, folder) in enumerate(methods.items()):
        piece = progress.part(number / len(methods), (number + 1) / len(methods))
        evaluations[name] = evaluate_cohort(folder, truth, progress=piece)
    return evaluations


def comparison_record(
    evaluations: Mapping[str, Evaluation],
    baseline: str,
    found: Sequence[Comparison],
    recalls: Mapping[str, Interval],
) -> Json:
    """Return everything as plain JSON: what ``evaluate`` writes of one method, by method, and the comparisons.

    Args:
        evaluations: Evaluation by the name of the method.
        baseline: The method that the others are compared with.
        found: What ``compare_methods`` returns.
        recalls: Difference of lesion recall by the name of every other method.
    """
    comparisons: dict[str, Json] = {
        name: {"lesion_recall": _interval_record(difference)} for name, difference in recalls.items()
    }
    for each in found:
        comparisons[each.method].setdefault(each.structure, {})[each.metric] = {
            **_interval_record(each.paired.difference),
            "studies": each.paired.difference.count,
            "wilcoxon_p": each.paired.wilcoxon_p,
            "wilcoxon_p_holm": each.holm_p,
            "permutation_p": each.paired.permutation_p,
        }
    return {
        "format": 1,
        "version": __version__,
        "baseline": baseline,
        "methods": {name: evaluation_record(each) for name, each in evaluations.items()},
        "comparisons": comparisons,
    }


def comparison_csv(evaluations: Mapping[str, Evaluation]) -> str:
    """Return a table with a row per method and study; cells are empty where nothing is defined."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["method", *study_columns()])
    for name, evaluation in evaluations.items():
        writer.writerows([name, *study_cells(study)] for study in evaluation.studies)
    return stream.getvalue()


def write_comparison(evaluations: Mapping[str, Evaluation], path: Path, *, baseline: str, force: bool = False) -> None:
    """Write a comparison as JSON, and beside it as CSV and HTML.

    Args:
        evaluations: Evaluation by the name of the method, two or more.
        path: The new JSON file; the others have its name with the suffixes ``.csv`` and ``.html``.
        baseline: The method that the others are compared with.
        force: Replace existing files.

    Raises:
        InputError: As ``write_evaluation``, or there is no such baseline.
    """
    table, page = report_paths(path, force=force)
    found = compare_methods(evaluations, baseline)
    recalls = {
        name: recall_difference(each, evaluations[baseline]) for name, each in evaluations.items() if name != baseline
    }
    content = comparison_record(evaluations, baseline, found, recalls)
    record = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    report = comparison_report(evaluations, baseline, found, recalls)
    write_report(report, page, force=force)
    with new_file(table, force=force) as partial:
        partial.write_text(comparison_csv(evaluations), encoding="utf-8")
    with new_file(path, force=force) as partial:  # last: where the JSON file is, the others are complete
        partial.write_text(record + "\n", encoding="utf-8")


def _interval_record(interval: Interval) -> Json:
    return {"difference": finite(interval.mean), "ci95": limits(interval)}
