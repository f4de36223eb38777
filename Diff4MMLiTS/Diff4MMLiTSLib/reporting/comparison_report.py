"""The report on several methods: scores side by side, differences with paired tests, and where each is worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .. import __version__
from ..core.statistics import BOOTSTRAP_RESAMPLES, Interval
from ..core.study import MaskSource
from .charts import scores_figure
from .evaluation_report import (
    HOW_TO_READ,
    LESION_RULE,
    METRIC_DIGITS,
    METRIC_TITLES,
    lesion_comparison_table,
    metrics_table,
    read_case,
    score_panels,
    tumor_free_table,
    worst_studies,
)
from .figures import segmentation_figure
from .html import NOT_A_DEVICE, PHANTOM_NOTE, Figure, Report, Section, Table, interval_text
from .scores import SEED, STRUCTURES, Comparison, Evaluation

HOW_TO_COMPARE = (
    "Differences are method minus baseline, study by study; brackets hold the 95 % interval of a bootstrap over "
    "studies. A smaller HD95 is better. Both p values are two-sided: Wilcoxon's signed-rank test, also corrected for "
    "the number of methods (Holm), and a permutation test that exchanges the two methods in each study."
)


def comparison_report(
    evaluations: Mapping[str, Evaluation],
    baseline: str,
    comparisons: Sequence[Comparison],
    recalls: Mapping[str, Interval],
) -> Report:
    """Return the report.

    Args:
        evaluations: Evaluation by the name of the method; all on the same studies.
        baseline: The method that the others are compared with.
        comparisons: From ``compare_methods``.
        recalls: Difference of the lesion recall by method.
    """
    sources = sorted({s for each in evaluations.values() for study in each.studies for s in study.sources})
    return Report(
        title="Segmentation methods compared",
        introduction=_introduction(evaluations, baseline),
        sections=(
            _scores(evaluations),
            Section("Differences", (HOW_TO_COMPARE,), (*_paired_tables(comparisons, baseline), _recalls(recalls))),
            _detection(evaluations),
            *(_worst(name, each) for name, each in evaluations.items()),
            *_failed(evaluations),
        ),
        notice=PHANTOM_NOTE if any(source.endswith(MaskSource.PHANTOM) for source in sources) else "",
        provenance={
            "Version": f"Diff4MMLiTS {__version__}",
            "Truth drawn by": ", ".join(sources),
            "Intervals": f"{BOOTSTRAP_RESAMPLES} bootstrap resamples of studies, seed {SEED}",
            "Intended use": NOT_A_DEVICE,
        },
    )


def _introduction(evaluations: Mapping[str, Evaluation], baseline: str) -> str:
    first = next(iter(evaluations.values()))
    free = len(first.tumor_free)
    return (
        f"{len(evaluations)} methods on the same {len(first.studies)} annotated studies, {free} of them free of tumor. "
        f"The baseline is {baseline}."
    )


def _scores(evaluations: Mapping[str, Evaluation]) -> Section:
    tables = tuple(metrics_table(evaluations, structure) for structure in STRUCTURES)
    chart = Figure(
        scores_figure(score_panels(evaluations)), "Tumor scores by method, with 95 % intervals over studies."
    )
    return Section("Overlap and surfaces", (HOW_TO_READ,), tables, (chart,))


def _paired_tables(comparisons: Sequence[Comparison], baseline: str) -> tuple[Table, ...]:
    columns = ("method", "metric", f"minus {baseline}", "p (Wilcoxon)", "p (Holm)", "p (permutation)")
    tables = []
    for structure in STRUCTURES:
        rows = tuple(
            (
                each.method,
                METRIC_TITLES[each.metric],
                interval_text(each.paired.difference, METRIC_DIGITS[each.metric]),
                *(f"{p:.4f}" for p in (each.paired.wilcoxon_p, each.holm_p, each.paired.permutation_p)),
            )
            for each in comparisons
            if each.structure == structure
        )
        if rows:
            tables.append(Table(columns, rows, f"{structure.capitalize()}, study by study"))
    return tuple(tables)


def _recalls(recalls: Mapping[str, Interval]) -> Table:
    rows = tuple((name, interval_text(interval)) for name, interval in recalls.items())
    return Table(("method", "difference of recall"), rows, "Lesion recall against the baseline")


def _detection(evaluations: Mapping[str, Evaluation]) -> Section:
    free = any(each.tumor_free for each in evaluations.values())
    tables = (lesion_comparison_table(evaluations), *((tumor_free_table(evaluations),) if free else ()))
    return Section("Single lesions", (LESION_RULE,), tables)


def _worst(name: str, evaluation: Evaluation) -> Section:
    cases = [read_case(study) for study in worst_studies(evaluation)]
    caption = f"{name}: the studies with the lowest DSC, worst first: the slice with the largest tumor, and close-up."
    return Section(f"Worst studies of {name}", figures=(Figure(segmentation_figure(cases), caption),) if cases else ())


def _failed(evaluations: Mapping[str, Evaluation]) -> tuple[Section, ...]:
    rows = tuple(
        (study_id, name, reason) for name, each in evaluations.items() for study_id, reason in each.failures.items()
    )
    words = ("They are scored as if nothing had been predicted, and part of the means above.",)
    table = Table(("study", "method", "why"), rows)
    return (Section("Studies without a usable prediction", words, (table,)),) if rows else ()
