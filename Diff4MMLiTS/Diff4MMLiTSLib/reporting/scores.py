"""What a comparison with the truth found: per study, per lesion, per cohort, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..core.errors import InputError
from ..core.lesions import SIZE_NAMES, DetectionScore, Lesion, LesionMatch, detection_score
from ..core.metrics import METRIC_NAMES, MaskMetrics
from ..core.statistics import Interval, PairedComparison, bootstrap, compare_paired, holm, mean_interval

SEED = 0
"""Of the bootstrap; fixed, so that the same segmentations always get the same intervals."""
ALL_SIZES = "all"
STRUCTURES = ("tumor", "liver")

Json = dict[str, Any]  # Any: plain JSON, written for other programs
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class StudyEvaluation:
    """One study's comparison.

    Args:
        study_id: The study.
        truth: Its folder with the annotation.
        predicted: Its folder with the prediction; None when there is none.
        tumor: Tumor metrics; None when the truth holds no tumor, or does not say.
        liver: Liver metrics; None when the truth has no liver.
        lesions: Its true and predicted lesions; None when the truth does not say whether there are tumors.
        sources: Who drew the true masks, ``annotation`` or ``phantom`` for example.
        failure: Why the prediction could not be used, and the study was scored as if it were empty; else empty.
    """

    study_id: str
    truth: Path
    predicted: Path | None
    tumor: MaskMetrics | None
    liver: MaskMetrics | None
    lesions: LesionMatch | None
    sources: tuple[str, ...] = ()
    failure: str = ""

    @property
    def is_tumor_free(self) -> bool:
        """Whether the truth says that there is no tumor."""
        return self.lesions is not None and self.tumor is None

    @property
    def false_positives(self) -> tuple[Lesion, ...]:
        """Predicted lesions that are not right."""
        return tuple(lesion for lesion in self.lesions.predicted if not lesion.agrees) if self.lesions else ()


@dataclass(frozen=True)
class Evaluation:
    """A cohort's comparison.

    Args:
        studies: Every study of the truth, by name.
        without_truth: Ids of predictions that have no truth; they were not looked at.
    """

    studies: tuple[StudyEvaluation, ...]
    without_truth: tuple[str, ...] = ()

    @property
    def failures(self) -> dict[str, str]:
        """Why a study has no usable prediction, by study id."""
        return {study.study_id: study.failure for study in self.studies if study.failure}

    @property
    def tumor_free(self) -> tuple[StudyEvaluation, ...]:
        """Studies whose truth holds no tumor."""
        return tuple(study for study in self.studies if study.is_tumor_free)

    def metric(self, structure: str, name: str) -> dict[str, float]:
        """Return one metric by study id, for the studies in which the structure is scored."""
        found = ((study.study_id, getattr(study, structure)) for study in self.studies)
        return {study_id: float(getattr(metrics, name)) for study_id, metrics in found if metrics is not None}

    def interval(self, structure: str, name: str) -> Interval:
        """Return a metric's mean over studies with its 95 % bootstrap interval."""
        return mean_interval(np.array(list(self.metric(structure, name).values())), np.random.default_rng(SEED))

    def matches(self) -> tuple[LesionMatch, ...]:
        """Return the lesions of the studies that have tumors."""
        return tuple(study.lesions for study in self.studies if study.lesions is not None and study.tumor is not None)

    def detection(self, size_class: int | None = None) -> DetectionScore:
        """Return detection over the studies that have tumors, of all sizes or of one class of ``SIZE_NAMES``."""
        return detection_score(self.matches(), size_class)

    def recall_interval(self, size_class: int | None = None) -> Interval:
        """Return lesion recall with its 95 % interval over studies."""
        counts = [detection_score([match], size_class) for match in self.matches()]
        return _ratio_interval([(count.found, count.truth) for count in counts])

    def f1_interval(self, size_class: int | None = None) -> Interval:
        """Return lesion F1 with its 95 % interval over studies."""
        counts = [detection_score([match], size_class) for match in self.matches()]
        rows = np.array([(c.found, c.truth, c.right, c.predicted) for c in counts], dtype=np.float64).reshape(-1, 4)
        return bootstrap(rows, _pooled_f1, np.random.default_rng(SEED))

    def precision_interval(self, size_class: int | None = None) -> Interval:
        """Return lesion precision with its 95 % interval over studies."""
        counts = [detection_score([match], size_class) for match in self.matches()]
        return _ratio_interval([(count.right, count.predicted) for count in counts])


@dataclass(frozen=True)
class Comparison:
    """A method against the baseline, by one metric of one structure.

    Args:
        method: The method.
        structure: ``tumor`` or ``liver``.
        metric: Name of the metric.
        paired: Method minus baseline.
        holm_p: The p of Wilcoxon's test, corrected for the number of methods that are compared.
    """

    method: str
    structure: str
    metric: str
    paired: PairedComparison
    holm_p: float


def compare_evaluations(first: Evaluation, second: Evaluation, *, structure: str, metric: str) -> PairedComparison:
    """Compare two methods on the same studies: first minus second, with paired tests.

    Raises:
        InputError: They were evaluated on different studies.
    """
    ours, theirs = first.metric(structure, metric), second.metric(structure, metric)
    if ours.keys() != theirs.keys():
        raise InputError("The methods were evaluated on different studies", expected="the same studies for both")
    values = [np.array([scores[study_id] for study_id in sorted(ours)]) for scores in (ours, theirs)]
    return compare_paired(values[0], values[1], np.random.default_rng(SEED))


def compare_methods(evaluations: Mapping[str, Evaluation], baseline: str) -> tuple[Comparison, ...]:
    """Compare every method with a baseline, by every metric of every structure that the truth has.

    Raises:
        InputError: There is no such baseline, or methods were evaluated on different studies.
    """
    if baseline not in evaluations:
        raise InputError(f"There is no method '{baseline}'", expected="one of " + ", ".join(evaluations))
    others = {name: found for name, found in evaluations.items() if name != baseline}
    found = []
    for structure in STRUCTURES:
        for metric in METRIC_NAMES:
            if evaluations[baseline].metric(structure, metric):
                pairs = {
                    name: compare_evaluations(each, evaluations[baseline], structure=structure, metric=metric)
                    for name, each in others.items()
                }
                corrected = holm([pair.wilcoxon_p for pair in pairs.values()])
                found += [
                    Comparison(name, structure, metric, pair, p)
                    for (name, pair), p in zip(pairs.items(), corrected, strict=True)
                ]
    return tuple(found)


def recall_difference(first: Evaluation, second: Evaluation) -> Interval:
    """Return by how much the lesion recall of two methods on the same studies differs: first minus second."""
    scores = [[detection_score([match]) for match in each.matches()] for each in (first, second)]
    rows = [(ours.found - theirs.found, ours.truth) for ours, theirs in zip(*scores, strict=True)]

    return _ratio_interval(rows)


def evaluation_record(evaluation: Evaluation) -> Json:
    """Return an evaluation as plain JSON: fractions, millimeters, milliliters; null where nothing is defined."""
    intervals = {s: {name: evaluation.interval(s, name) for name in METRIC_NAMES} for s in STRUCTURES}
    return {
        "format": 1,
        "version": __version__,
        "studies": {study.study_id: _study_record(study) for study in evaluation.studies},
        "mean": {s: {name: finite(entry.mean) for name, entry in intervals[s].items()} for s in STRUCTURES},
        "ci95": {s: {name: limits(entry) for name, entry in intervals[s].items()} for s in STRUCTURES},
        "count": {s: intervals[s]["dsc"].count for s in STRUCTURES},
        "lesions": {
            ALL_SIZES: _detection_record(evaluation, None),
            **{name: _detection_record(evaluation, index) for index, name in enumerate(SIZE_NAMES)},
        },
        "tumor_free": _tumor_free_record(evaluation.tumor_free),
        "failures": evaluation.failures,
        "without_truth": list(evaluation.without_truth),
        "unknown_tumor": [study.study_id for study in evaluation.studies if study.lesions is None],
        "truth_sources": sorted({source for study in evaluation.studies for source in study.sources}),
    }


def _ratio_interval(pairs: Sequence[tuple[int, int]]) -> Interval:
    return bootstrap(np.array(pairs, dtype=np.float64).reshape(-1, 2), _pooled_ratio, np.random.default_rng(SEED))


def _pooled_ratio(counts: FloatArray, axis: int) -> FloatArray:
    part, whole = np.moveaxis(np.sum(counts, axis=axis), -1, 0)
    return np.asarray(np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0))


def _pooled_f1(counts: FloatArray, axis: int) -> FloatArray:
    """Return 2 r p / (r + p) of summed (found, truth, right, predicted); NaN where recall or precision is not defined.

    As in ``DetectionScore.f1``, it is 0 where either of them is 0.
    """
    found, truth, right, predicted = np.moveaxis(np.sum(counts, axis=axis), -1, 0)
    nothing = ((truth > 0) & (found == 0)) | ((predicted > 0) & (right == 0))
    both = found * predicted + right * truth
    f1 = np.divide(2 * found * right, both, out=np.full_like(both, np.nan), where=both > 0)
    return np.asarray(np.where(nothing, 0.0, f1))


def _study_record(study: StudyEvaluation) -> Json:
    record: Json = {
        name: {key: finite(value) for key, value in vars(metrics).items()}
        for name, metrics in (("tumor", study.tumor), ("liver", study.liver))
        if metrics is not None
    }
    if study.lesions is not None:
        record["lesions"] = {
            "truth": [_lesion_record(lesion, "found") for lesion in study.lesions.truth],
            "predicted": [_lesion_record(lesion, "right") for lesion in study.lesions.predicted],
        }
    return record


def _lesion_record(lesion: Lesion, verdict: str) -> Json:
    diameter, volume = round(lesion.diameter_mm, 2), round(lesion.volume_ml, 4)
    return {"diameter_mm": diameter, "volume_ml": volume, verdict: lesion.agrees}


def _detection_record(evaluation: Evaluation, size_class: int | None) -> Json:
    score = evaluation.detection(size_class)
    intervals = {
        "recall": evaluation.recall_interval(size_class),
        "precision": evaluation.precision_interval(size_class),
        "f1": evaluation.f1_interval(size_class),
    }
    return {
        **vars(score),
        "recall": finite(score.recall),
        "precision": finite(score.precision),
        "f1": finite(score.f1),
        "ci95": {name: limits(interval) for name, interval in intervals.items()},
    }


def _tumor_free_record(studies: Sequence[StudyEvaluation]) -> Json:
    each = {
        study.study_id: {
            "count": len(study.false_positives),
            "volume_ml": round(sum(lesion.volume_ml for lesion in study.false_positives), 4),
        }
        for study in studies
        if not study.failure
    }
    counts, volumes = [entry["count"] for entry in each.values()], [entry["volume_ml"] for entry in each.values()]
    intervals = [mean_interval(np.array(values, float), np.random.default_rng(SEED)) for values in (counts, volumes)]
    return {
        "studies": each,
        "mean_count": finite(intervals[0].mean),
        "mean_volume_ml": finite(intervals[1].mean),
        "ci95": {"count": limits(intervals[0]), "volume_ml": limits(intervals[1])},
        "without_false_positive": sum(count == 0 for count in counts),
    }


def finite(value: float) -> float | None:
    """Return a number that JSON can hold; None for NaN and infinity."""
    return float(value) if math.isfinite(value) else None


def limits(interval: Interval) -> list[float | None]:
    """Return the limits of an interval as JSON."""
    return [finite(interval.low), finite(interval.high)]
