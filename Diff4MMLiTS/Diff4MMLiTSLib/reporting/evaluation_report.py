"""Tables, charts and a report for evaluations: one method in detail, or several side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .. import __version__
from ..core.errors import InputError
from ..core.lesions import SIZE_NAMES
from ..core.metrics import METRIC_NAMES
from ..core.statistics import BOOTSTRAP_RESAMPLES
from ..core.study import MaskSource
from ..core.study_io import read_segmentation, read_study
from .charts import ScorePanel
from .figures import SegmentationCase, segmentation_figure
from .html import NOT_A_DEVICE, PHANTOM_NOTE, Figure, Report, Section, Table, interval_text
from .scores import SEED, STRUCTURES, Evaluation, StudyEvaluation, compare_evaluations

METRIC_TITLES = {"dsc": "DSC", "jaccard": "Jaccard", "nsd_2mm": "NSD at 2 mm", "hd95_mm": "HD95 in mm"}
METRIC_DIGITS = {"dsc": 3, "jaccard": 3, "nsd_2mm": 3, "hd95_mm": 1}
ALL_TITLE = "all sizes"
WORST_COUNT = 4
"""Studies that are pictured, those with the lowest tumor DSC."""
HOW_TO_READ = (
    "DSC and Jaccard measure shared volume, NSD the part of both surfaces within 2 mm of each other, HD95 the distance "
    "that 95 % of the surfaces stay within. All are means over studies; brackets hold the 95 % interval of a bootstrap "
    "over studies."
)
LESION_RULE = (
    "A lesion is a connected piece of a tumor mask, classed by the diameter of a ball of its volume. A predicted one "
    "is right when at least a tenth of it lies in true tumor; a true one is found when right lesions cover at least "
    "a tenth of it. Brackets hold the 95 % interval of a bootstrap over studies."
)


def metrics_table(evaluations: Mapping[str, Evaluation], structure: str) -> Table:
    """Return a table of all metrics of a structure, a row per method, with intervals.

    Args:
        evaluations: Evaluation by the name of the method.
        structure: ``tumor`` or ``liver``.
    """
    rows = []
    for name, evaluation in evaluations.items():
        intervals = {metric: evaluation.interval(structure, metric) for metric in METRIC_NAMES}
        cells = [interval_text(interval, METRIC_DIGITS[metric]) for metric, interval in intervals.items()]
        rows.append((name, str(intervals["dsc"].count), *cells))
    columns = ("method", "studies", *(METRIC_TITLES[metric] for metric in METRIC_NAMES))
    return Table(columns, tuple(rows), f"{structure.capitalize()}: mean over studies [95 % interval]")


def lesion_table(evaluation: Evaluation) -> Table:
    """Return a table of one method's lesion detection, a row per size class."""
    rows = []
    for index, size in [(None, ALL_TITLE), *enumerate(SIZE_NAMES)]:
        score = evaluation.detection(index)
        recall, precision = evaluation.recall_interval(index), evaluation.precision_interval(index)
        found, right = f"{score.found} of {score.truth}", f"{score.right} of {score.predicted}"
        f1 = interval_text(evaluation.f1_interval(index), 2)
        rows.append((size, found, interval_text(recall, 2), right, interval_text(precision, 2), f1))
    return Table(("lesions", "found", "recall", "right", "precision", "F1"), tuple(rows), "Detection of single lesions")


def lesion_comparison_table(evaluations: Mapping[str, Evaluation]) -> Table:
    """Return a table of lesion detection, a row per method, with how many of each size were found."""
    rows = []
    for name, evaluation in evaluations.items():
        totals = (interval_text(evaluation.recall_interval(), 2), interval_text(evaluation.precision_interval(), 2))
        sizes = [evaluation.detection(index) for index in range(len(SIZE_NAMES))]
        found = (f"{score.found} of {score.truth}" for score in sizes)
        rows.append((name, *totals, _two_digits(evaluation.detection().f1), *found))
    columns = ("method", "recall", "precision", "F1", *SIZE_NAMES)
    caption = "Detection of single lesions; the last columns say how many of each size were found"
    return Table(columns, tuple(rows), caption)


def tumor_free_table(evaluations: Mapping[str, Evaluation]) -> Table:
    """Return a table of what was wrongly found in tumor-free studies, a row per method."""
    rows = []
    for name, evaluation in evaluations.items():
        studies = [study for study in evaluation.tumor_free if not study.failure]
        wrong = [study.false_positives for study in studies]
        count = len(studies)
        lesions = f"{sum(map(len, wrong)) / count:.2f}" if count else "–"
        volume = f"{sum(lesion.volume_ml for each in wrong for lesion in each) / count:.2f}" if count else "–"
        rows.append((name, str(count), str(sum(not each for each in wrong)), lesions, volume))
    columns = ("method", "studies", "without false positive", "false positives per study", "ml per study")
    return Table(columns, tuple(rows), "Tumor-free studies, not part of the means above")


def comparison_table(evaluations: Mapping[str, Evaluation], baseline: str, *, structure: str = "tumor") -> Table:
    """Return a table of each method's DSC against a baseline on the same studies, with paired tests.

    Raises:
        InputError: There is no such baseline, or methods were evaluated on different studies.
    """
    if baseline not in evaluations:
        raise InputError(f"There is no method '{baseline}'", expected="one of " + ", ".join(evaluations))
    rows = []
    for name, evaluation in evaluations.items():
        if name != baseline:
            paired = compare_evaluations(evaluation, evaluations[baseline], structure=structure, metric="dsc")
            p_values = f"{paired.wilcoxon_p:.3f}", f"{paired.permutation_p:.3f}"
            rows.append((name, interval_text(paired.difference), *p_values))
    columns = ("method", f"DSC minus {baseline}", "p (Wilcoxon)", "p (sign flip)")
    return Table(columns, tuple(rows), f"{structure.capitalize()} DSC against {baseline}, study by study")


def score_panels(evaluations: Mapping[str, Evaluation]) -> tuple[ScorePanel, ...]:
    """Return the panels of a chart that compares methods: tumor DSC, NSD and lesion recall."""
    metrics = [
        ScorePanel(
            f"tumor {METRIC_TITLES[metric]}",
            tuple((name, evaluation.interval("tumor", metric)) for name, evaluation in evaluations.items()),
        )
        for metric in ("dsc", "nsd_2mm")
    ]
    recalls = tuple((name, evaluation.recall_interval()) for name, evaluation in evaluations.items())
    return (*metrics, ScorePanel("lesion recall", recalls))


def worst_studies(evaluation: Evaluation, count: int = WORST_COUNT) -> tuple[StudyEvaluation, ...]:
    """Return the studies with the lowest tumor DSC, worst first (liver DSC where there are no tumors)."""
    scored = [study for study in evaluation.studies if study.tumor is not None]
    if scored:
        return tuple(sorted(scored, key=lambda study: study.tumor.dsc if study.tumor else 0.0)[:count])
    livers = [study for study in evaluation.studies if study.liver is not None]
    return tuple(sorted(livers, key=lambda study: study.liver.dsc if study.liver else 0.0)[:count])


def read_case(study: StudyEvaluation) -> SegmentationCase:
    """Read an evaluated study and its prediction again, to be pictured."""
    usable = study.predicted is not None and not study.failure
    predicted = read_segmentation(study.predicted) if usable and study.predicted else None
    metrics = study.tumor or study.liver
    caption = f"DSC {metrics.dsc:.2f}" if metrics and usable else "no prediction"
    return SegmentationCase(read_study(study.truth), predicted, caption)


def evaluation_report(evaluation: Evaluation) -> Report:
    """Return the report on one method, with its worst studies pictured."""
    alone = {"prediction": evaluation}
    overlap = Section(
        "Overlap and surfaces", (HOW_TO_READ,), tuple(metrics_table(alone, structure) for structure in STRUCTURES)
    )
    detection = Section("Single lesions", (LESION_RULE,), (lesion_table(evaluation), *_tumor_free_tables(evaluation)))
    cases = [read_case(study) for study in worst_studies(evaluation)]
    caption = (
        "The studies with the lowest DSC, worst first: the slice with the largest tumor, whole liver and close-up."
    )
    figures = (Figure(segmentation_figure(cases), caption),) if cases else ()
    worst = Section("Worst studies", figures=figures)
    failures = tuple((study_id, reason) for study_id, reason in evaluation.failures.items())
    failed = Section(
        "Studies without a usable prediction",
        ("They are scored as if nothing had been predicted, and part of the means above.",),
        (Table(("study", "why"), failures),),
    )
    sources = sorted({source for study in evaluation.studies for source in study.sources})
    return Report(
        title="Segmentation against annotation",
        introduction=_introduction(evaluation),
        sections=(overlap, detection, worst, *((failed,) if failures else ())),
        notice=PHANTOM_NOTE if any(source.endswith(MaskSource.PHANTOM) for source in sources) else "",
        provenance={
            "Version": f"Diff4MMLiTS {__version__}",
            "Truth drawn by": ", ".join(sources),
            "Intervals": f"{BOOTSTRAP_RESAMPLES} bootstrap resamples of studies, seed {SEED}",
            "Intended use": NOT_A_DEVICE,
        },
    )


def _tumor_free_tables(evaluation: Evaluation) -> tuple[Table, ...]:
    return (tumor_free_table({"prediction": evaluation}),) if evaluation.tumor_free else ()


def _two_digits(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "–"


def _introduction(evaluation: Evaluation) -> str:
    total, failed, free = len(evaluation.studies), len(evaluation.failures), len(evaluation.tumor_free)
    text = f"{total} annotated {'study' if total == 1 else 'studies'}, {free} of them free of tumor."
    if failed:
        text += f" {failed} had no usable prediction and {'counts' if failed == 1 else 'count'} as failed."
    if evaluation.without_truth:
        text += f" {len(evaluation.without_truth)} predictions have no annotation and were not looked at."
    return text
