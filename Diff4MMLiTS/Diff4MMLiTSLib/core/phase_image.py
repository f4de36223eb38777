"""Which contrast phase a CT is, as far as the image itself tells: a likelihood over the time since the injection.

Contrast agent passes aorta, kidneys, spleen, portal vein and liver one after the other. For each organ there is a curve
of brightness over contrast time (1, 2, 3 are the textbook moments of AP, PVP, DELAY), scaled by the patient's dose and
offset by liver fat. The likelihood of what was measured is summed over all times that a phase may be scanned at, and
over dose and fat; what was not found is left out. Volumes of one study share dose and fat and show different phases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from .grid import Volume
from .phase_evidence import PhaseEvidence
from .phase_landmarks import Landmarks, find_landmarks
from .phases import ALL_PHASES, Phase

KNOTS = (0.0, 1.0, 2.0, 3.0, 4.0)
"""Contrast times of the curves: early arterial, AP, PVP, DELAY, late."""
NATIVE_HU: Mapping[str, float] = {
    "aorta": 41, "cava": 42, "liver": 57, "portal": 13, "spleen": 48, "cortex": 50, "medulla": 28,
}  # fmt: skip
"""What the landmarks measure before contrast."""
NAMES: Mapping[str, str] = {
    "aorta": "aorta", "cava": "vena cava", "liver": "liver", "portal": "portal vein above liver", "spleen": "spleen",
    "cortex": "renal cortex", "medulla": "renal medulla",
}  # fmt: skip
"""What to call the landmarks."""
CURVES_HU: Mapping[str, tuple[float, float, float, float, float]] = {
    "aorta": (345, 320, 165, 110, 88),
    "cava": (52, 82, 155, 106, 86),
    "liver": (62, 78, 115, 95, 86),
    "portal": (15, 36, 41, 22, 14),
    "spleen": (73, 140, 125, 98, 86),
    "cortex": (150, 210, 195, 165, 145),
    "medulla": (55, 124, 145, 120, 105),
}
"""What they measure after it: the literature's means (Goshima 2006, Kanematsu 2005, Naruo 2007), as seen through the
landmarks on phantoms with standard timing (seeds 0 to 39; portal vein 1000 to 1004). The outer knots continue the
inflow and the washout."""
DEVIATION: Mapping[str, tuple[float, float]] = {
    "aorta": (7.0, 0.12),
    "cava": (8.0, 0.15),
    "liver": (8.0, 0.15),
    "portal": (6.0, 0.25),
    "spleen": (9.0, 0.12),
    "cortex": (15.0, 0.15),
    "medulla": (15.0, 0.15),
}
"""Standard deviation in HU, and as a share of the enhancement, between patients of equal dose: 8 to 15 HU of parenchyma
and 15 % of vessels in the literature, half of it dose; kidneys more, since their parts are cut by slices."""
TIMES = np.arange(0.0, 4.01, 0.1)
TIME_DEVIATION: Mapping[Phase, float] = {Phase.AP: 0.4, Phase.PVP: 0.4, Phase.DELAY: 0.3}
"""How far protocols and circulations put a phase from its textbook moment; half way to the next is open. Contrast fades
slowly in minutes, so the delayed phase varies less."""
DOSES = np.linspace(0.55, 1.6, 15)
DOSE_DEVIATION = 0.2
"""Iodine per kg of body weight, and cardiac output."""
FAT_HU = (0.0, -12.0, -25.0)
"""Offset of the liver: normal, mild and marked steatosis (58, 46 and 32 HU without contrast)."""
FAT_SHARES = (0.7, 0.15, 0.15)
OUTLIER_SHARE = 0.04
"""How often a landmark is something else: a calcified aorta, bowel with oral contrast beside the spine."""
OUTLIER_RANGE_HU = 500.0
FEWEST_LANDMARKS = 3
"""With fewer, one mistaken landmark would decide."""
LEAST_GAP = 0.3
"""Two enhanced phases closer than this in contrast time (about 10 s of AP to PVP) are not told apart by their order."""
LEAST_SHARE_ALONE = 0.05
"""Where a volume alone makes its phase less probable than this, the volumes are not all different phases: one may be
there twice. Then each is judged by itself."""
NOT_ALL_DIFFERENT = "the volumes do not look like as many different phases, so each was judged by itself"
HIGHEST_CONFIDENCE = 0.99

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ImageFindings:
    """What was measured in one volume and how likely that is.

    Args:
        landmarks: Brightness of the organs, HU.
        native: Likelihood without contrast, (dose, fat).
        enhanced: Likelihood at each contrast time, (time, dose, fat).
    """

    landmarks: Landmarks
    native: FloatArray
    enhanced: FloatArray

    @property
    def count(self) -> int:
        """How many landmarks were found."""
        return len(_found(self.landmarks))


def evidence_from_image(volume: Volume) -> PhaseEvidence:
    """Return what one CT volume alone says about its contrast phase.

    Args:
        volume: CT values (Z, Y, X), HU, any orientation.

    Returns:
        The most probable phase; the confidence is its probability minus that of the next one, and 0 without a phase
        when too few organs were found.
    """
    return evidence_from_findings([findings_of(volume)])[0]


def findings_of(volume: Volume) -> ImageFindings:
    """Measure a volume; findings are small, so that the volumes of a study need not be in memory together."""
    return weigh(find_landmarks(volume))


def weigh(landmarks: Landmarks) -> ImageFindings:
    """Return how likely the brightness of the organs is at each contrast time, dose and liver fat."""
    values = _found(landmarks)
    dose, fat = DOSES[None, :, None], np.array(FAT_HU)[None, None, :]
    log_native = np.zeros((1, len(DOSES), len(FAT_HU)))
    log_enhanced = np.zeros((len(TIMES), len(DOSES), len(FAT_HU)))
    for name, value in values.items():
        offset = fat if name == "liver" else np.zeros((1, 1, 1))
        rise = np.interp(TIMES, KNOTS, CURVES_HU[name])[:, None, None] - NATIVE_HU[name]
        base, relative = DEVIATION[name]
        log_native += _log_likelihood(value - NATIVE_HU[name] - offset, base)
        log_enhanced += _log_likelihood(value - NATIVE_HU[name] - offset - dose * rise, np.hypot(base, relative * rise))
    return ImageFindings(landmarks, np.exp(log_native[0]), np.exp(log_enhanced))


def evidence_from_findings(findings: Sequence[ImageFindings], *, in_order: bool = False) -> tuple[PhaseEvidence, ...]:
    """Decide the phases of one patient's volumes together: all are different, dose and liver fat are the same.

    Args:
        findings: From ``findings_of``, at most one volume per phase; more than four are decided one by one.
        in_order: Whether they are sorted by acquisition time, so that phases must ascend.

    Returns:
        One evidence per volume. Two may name the same phase, when the volumes do not look like different phases.
    """
    if len(findings) > len(ALL_PHASES):
        return tuple(evidence_from_findings([each])[0] for each in findings)
    usable = [index for index, each in enumerate(findings) if each.count >= FEWEST_LANDMARKS]
    joint = _decide([findings[index] for index in usable], in_order=in_order)
    decided = dict(zip(usable, joint, strict=True))
    return tuple(decided.get(index, _too_little(each)) for index, each in enumerate(findings))


def _decide(findings: Sequence[ImageFindings], *, in_order: bool) -> tuple[PhaseEvidence, ...]:
    if not findings:
        return ()
    by_phase = [_by_phase(each) for each in findings]
    chances = _chances(by_phase, in_order=in_order)
    best = max(chances, key=lambda phases: chances[phases])
    if not all(_is_plausible(tables, phase) for tables, phase in zip(by_phase, best, strict=True)):
        alone = (_decide([each], in_order=False)[0] for each in findings)
        return tuple(replace(each, reasons=(*each.reasons, NOT_ALL_DIFFERENT)) for each in alone)
    apart = _told_apart(findings, best)
    result = []
    for index, phase in enumerate(best):
        share = {each: sum(c for a, c in chances.items() if a[index] is each) for each in ALL_PHASES}
        margin = share[phase] - max(share[each] for each in ALL_PHASES if each is not phase)
        confidence = float(np.clip(margin, 0.0, HIGHEST_CONFIDENCE)) * (1.0 if apart[index] else 0.5)
        result.append(PhaseEvidence(phase, confidence, _reasons(findings[index], share, apart=apart[index])))
    return tuple(result)


def _chances(by_phase: Sequence[Mapping[Phase, FloatArray]], *, in_order: bool) -> dict[tuple[Phase, ...], float]:
    """Return the probability of every assignment of different phases, summed over dose and fat of the one patient."""
    prior, chances = _dose_prior(), {}
    for phases in _assignments(len(by_phase), in_order=in_order):
        product = prior.copy()
        for tables, phase in zip(by_phase, phases, strict=True):
            product = product * tables[phase]
        chances[phases] = float(product.sum())
    total = sum(chances.values())
    return {phases: chance / total for phases, chance in chances.items()}


def _is_plausible(tables: Mapping[Phase, FloatArray], phase: Phase) -> bool:
    """Return whether a volume could be this phase by itself, whatever the others leave for it."""
    alone = {each: float((table * _dose_prior()).sum()) for each, table in tables.items()}
    return alone[phase] >= LEAST_SHARE_ALONE * sum(alone.values())


def _assignments(count: int, *, in_order: bool) -> Iterator[tuple[Phase, ...]]:
    for phases in permutations(ALL_PHASES, count):
        if not in_order or list(phases) == sorted(phases, key=ALL_PHASES.index):
            yield phases


def _by_phase(findings: ImageFindings) -> dict[Phase, FloatArray]:
    """Return the likelihood of one volume in each phase, (dose, fat), summed over the times it may be scanned at."""
    result = {Phase.NC: findings.native}
    for phase in ALL_PHASES[1:]:
        result[phase] = np.tensordot(_time_prior(phase), findings.enhanced, axes=1)
    return result


def _time_prior(phase: Phase) -> FloatArray:
    weight = np.exp(-0.5 * ((TIMES - ALL_PHASES.index(phase)) / TIME_DEVIATION[phase]) ** 2)
    return np.asarray(weight / weight.sum())


def _dose_prior() -> FloatArray:
    weight = np.exp(-0.5 * ((DOSES - 1.0) / DOSE_DEVIATION) ** 2)
    return np.asarray(np.outer(weight / weight.sum(), FAT_SHARES))


def _told_apart(findings: Sequence[ImageFindings], phases: Sequence[Phase]) -> list[bool]:
    """Return for every volume whether its contrast time keeps its distance from the neighboring phases'."""
    prior = _dose_prior()
    shared = np.prod([_by_phase(each)[phase] for each, phase in zip(findings, phases, strict=True)], axis=0) * prior
    dose, fat = np.unravel_index(int(shared.argmax()), shared.shape)
    times = {
        phase: float(TIMES[each.enhanced[:, dose, fat].argmax()])
        for each, phase in zip(findings, phases, strict=True)
        if phase is not Phase.NC
    }
    close = {
        phase
        for phase, time in times.items()
        for other, moment in times.items()
        if other is not phase and (moment - time) * (ALL_PHASES.index(other) - ALL_PHASES.index(phase)) < LEAST_GAP
    }
    return [phase not in close for phase in phases]


def _log_likelihood(difference: FloatArray, deviation: FloatArray | float) -> FloatArray:
    normal = np.exp(-0.5 * (difference / deviation) ** 2) / (np.sqrt(2 * np.pi) * deviation)
    return np.asarray(np.log((1 - OUTLIER_SHARE) * normal + OUTLIER_SHARE / OUTLIER_RANGE_HU))


def _found(landmarks: Landmarks) -> dict[str, float]:
    pairs = ((field.name, getattr(landmarks, field.name)) for field in fields(landmarks))
    return {name: float(value) for name, value in pairs if value is not None}


def _reasons(findings: ImageFindings, share: Mapping[Phase, float], *, apart: bool) -> tuple[str, ...]:
    measured = ", ".join(f"{NAMES[name]} {value:.0f}" for name, value in _found(findings.landmarks).items())
    ranked = sorted(share, key=lambda phase: share[phase], reverse=True)[:2]
    reasons = [f"the image shows, in HU: {measured}"]
    if share[ranked[1]] > 0.1:
        chances = " or ".join(f"{phase} ({100 * share[phase]:.0f} %)" for phase in ranked)
        reasons.append(f"by its enhancement it is {chances}")
    if not apart:
        reasons.append("its enhancement is hardly different from that of another volume of the study")
    return tuple(reasons)


def _too_little(findings: ImageFindings) -> PhaseEvidence:
    found = (
        ", ".join(NAMES[name] for name in _found(findings.landmarks))
        or "none of aorta, cava, liver, spleen and kidneys"
    )
    return PhaseEvidence(reasons=(f"too little of the abdomen was recognized in the image to tell ({found})",))
