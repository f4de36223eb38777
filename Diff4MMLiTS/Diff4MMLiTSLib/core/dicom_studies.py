"""DICOM examinations -> studies: which series is which phase, and ids that do not tell who the patient is."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from .dicom import DicomExam, DicomFolder, DicomSeries
from .errors import InputError
from .files import new_file
from .phase_evidence import PhaseEvidence, merge_evidence, phase_from_tags, phases_from_order
from .phase_image import ImageFindings, evidence_from_findings
from .phases import ALL_PHASES, Phase, in_order

Look = Callable[[DicomSeries], ImageFindings]
"""Reads the pixels of a series and returns what they show."""

SALT_FILE = ".import-salt"
SAME_ACQUISITION_S = 3.0
"""Reconstructions of one acquisition start within a slice or two of each other; two phases are 10 s apart or more."""


@dataclass(frozen=True)
class PhaseChoice:
    """Which series of an examination become the phases of a study.

    Args:
        series: The series by phase.
        notes: How it was decided and what was left out, as sentences.
        headers: By phase, what the headers say, where they alone decided; the images may still contradict.
    """

    series: Mapping[Phase, DicomSeries]
    notes: tuple[str, ...]
    headers: Mapping[Phase, PhaseEvidence] = field(default_factory=dict)


@dataclass(frozen=True)
class Acquisition:
    """Series that were reconstructed from one scan, so that they show the same phase.

    Args:
        series: The reconstructions, the one to use first.
        evidence: What is known about their phase.
    """

    series: tuple[DicomSeries, ...]
    evidence: PhaseEvidence


def choose_phases(
    exam: DicomExam, assigned: Mapping[int, Phase], *, interpolate_gaps: bool, look: Look | None = None
) -> PhaseChoice:
    """Decide which series of an examination is which phase.

    Args:
        exam: From ``scan_folder``.
        assigned: Phase by series number, as the user says; when it names any series of this examination, the others
            are left out.
        interpolate_gaps: Whether series with uneven spacing up to one missing slice may be chosen.
        look: Asked where the headers do not decide; reading pixels is slow.

    Raises:
        InputError: The headers (and images) do not decide, contradict each other, or two series would be the same
            phase; the message lists the series by number. Or no reconstruction of a phase makes a volume.
    """
    named = {series: assigned[series.number] for series in exam.series if series.number in assigned}
    if named:
        if len(set(named.values())) < len(named):
            raise _undecided(exam, "Two series were given the same phase")
        return PhaseChoice({phase: series for series, phase in named.items()}, ())
    acquisitions = acquisitions_of(exam)
    needs_images = look is not None and any(map(_is_open, acquisitions))
    if look is not None and needs_images:
        acquisitions = add_image_evidence(acquisitions, look)
    _check_decided(exam, acquisitions)
    chosen, notes, headers = {}, [], {}
    for acquisition in acquisitions:
        phase = acquisition.evidence.phase
        if phase is None or not acquisition.evidence.is_decisive:
            notes.append(f"{acquisition.series[0].name} is not axial and of unknown phase: it was left out")
            continue
        series = _first_usable(acquisition.series, interpolate_gaps=interpolate_gaps)
        chosen[phase] = series
        headers[phase] = acquisition.evidence
        others = [each.name for each in acquisition.series if each is not series]
        also = f"; {', '.join(others)} of the same acquisition left out" if others else ""
        notes.append(f"{phase} is {series.name}: {', '.join(acquisition.evidence.reasons)}{also}")
    return PhaseChoice(chosen, tuple(notes), {} if needs_images else headers)


def add_image_evidence(acquisitions: Sequence[Acquisition], look: Look) -> tuple[Acquisition, ...]:
    """Return the acquisitions of an examination with what their images, seen together, say about their phases.

    Args:
        acquisitions: From ``acquisitions_of``.
        look: Reads the pixels of one series; series that make no volume are passed over.
    """
    seen = {index: findings for index, each in enumerate(acquisitions) if (findings := _look_at(each, look))}
    timed = all(acquisitions[index].series[0].offset_s is not None for index in seen)
    evidences = dict(zip(seen, evidence_from_findings(list(seen.values()), in_order=timed), strict=True))
    return tuple(
        replace(each, evidence=merge_evidence([each.evidence, evidences[index]])) if index in evidences else each
        for index, each in enumerate(acquisitions)
    )


def check_images(exam: DicomExam, choice: PhaseChoice, findings: Mapping[Phase, ImageFindings]) -> None:
    """Raise when the images contradict the phases that the headers name.

    Args:
        exam: What ``choice`` was made of.
        choice: From ``choose_phases``; phases that the user assigned, or images helped to decide, are not checked.
        findings: What the image of each phase shows.

    Raises:
        InputError: Says which series is in doubt and why, and lists the series by number.
    """
    timed = all(series.offset_s is not None for series in choice.series.values())
    evidences = dict(zip(findings, evidence_from_findings(list(findings.values()), in_order=timed), strict=True))
    for phase, headers in choice.headers.items():
        if not merge_evidence([headers, evidences[phase]]).is_decisive:
            reasons = ", ".join((*headers.reasons, *evidences[phase].reasons))
            raise _undecided(
                exam, f"Headers and image of {choice.series[phase].name} contradict each other ({reasons})"
            )


def check_assignment(folder: DicomFolder, assigned: Mapping[int, Phase]) -> None:
    """Raise when the user gave a phase to a series that is not there.

    Raises:
        InputError: Names the numbers and lists the series.
    """
    series = [each for exam in folder.exams for each in exam.series]
    if unknown := sorted(set(assigned) - {each.number for each in series}):
        raise InputError(
            f"A phase was given to series {', '.join(map(str, unknown))}, which the folder does not have",
            expected="a number from this list:\n  " + "\n  ".join(each.describe() for each in series),
        )


def acquisitions_of(exam: DicomExam) -> tuple[Acquisition, ...]:
    """Group the series of an examination by acquisition, in order of time, with what is known about each phase."""
    groups: list[list[DicomSeries]] = []
    for series in exam.series:
        if groups and _same_acquisition(groups[-1][0], series):
            groups[-1].append(series)
        else:
            groups.append([series])
    contrast_is_noted = any(series.header.has_contrast for series in exam.series)
    from_order = _evidence_from_order([group[0] for group in groups])
    return tuple(
        Acquisition(
            tuple(sorted(group, key=_preference)),
            merge_evidence([_strongest([evidence_of(each, contrast_is_noted) for each in group]), order]),
        )
        for group, order in zip(groups, from_order, strict=True)
    )


def evidence_of(series: DicomSeries, contrast_is_noted: bool) -> PhaseEvidence:
    """Return what the headers of one series say about its phase.

    Args:
        series: From ``scan_folder``.
        contrast_is_noted: Whether any series of the examination notes a contrast agent; if none, that tells nothing.
    """
    header, stack = series.header, series.stack
    both_noted = stack.time_s is not None and header.injection_s is not None
    return phase_from_tags(
        "" if stack.is_part else header.description,  # one text for several phases tells nothing about each
        "" if stack.is_part else header.protocol,
        has_contrast=header.has_contrast or not contrast_is_noted,
        seconds_after_injection=(stack.time_s or 0.0) - (header.injection_s or 0.0) if both_noted else None,
    )


def study_id_of(exam: DicomExam, salt: bytes) -> str:
    """Return the id of an examination: salted hashes of patient and examination.

    All examinations of a patient in a cohort share the first part, so that training and test data can be split by
    patient; importing an examination again gives the same id. Without the salt nobody can find out whose study it is
    by hashing a list of patient numbers; with it, everyone who has such a list can. So the salt stays with whoever
    holds the identities; deleting it cuts the link for good, and later imports get new ids. The images themselves
    remain those of the patient.
    """
    patient, whole = (_keyed_hash(salt, key) for key in (exam.patient_key, f"{exam.patient_key}\n{exam.exam_key}"))
    return f"dicom-{patient[:10]}-{whole[:6]}"


def cohort_salt(cohort: Path) -> bytes:
    """Return the salt of a cohort folder, made at the first import and readable by its owner only.

    Raises:
        InputError: The folder cannot be written.
    """
    file = cohort / SALT_FILE
    if not file.exists():
        with new_file(file) as partial:
            partial.touch(mode=0o600)
            partial.write_text(secrets.token_hex(32), encoding="ascii")
    return file.read_bytes()


def _keyed_hash(salt: bytes, text: str) -> str:
    return hmac.new(salt, text.encode("utf-8"), hashlib.sha256).hexdigest()


def _same_acquisition(first: DicomSeries, second: DicomSeries) -> bool:
    if first.offset_s is None or second.offset_s is None:
        return False
    same_series = first.header.series_key == second.header.series_key
    is_split = same_series and (first.stack.is_part or second.stack.is_part)
    return abs(second.offset_s - first.offset_s) <= SAME_ACQUISITION_S and not is_split


def _evidence_from_order(firsts: Sequence[DicomSeries]) -> tuple[PhaseEvidence, ...]:
    offsets = [series.offset_s for series in firsts if series.offset_s is not None]
    if len(offsets) < len(firsts):
        return tuple(PhaseEvidence() for _ in firsts)
    return phases_from_order(offsets)


def _look_at(acquisition: Acquisition, look: Look) -> ImageFindings | None:
    """Return what the first axial series that makes a volume shows."""
    for series in acquisition.series:
        if series.stack.is_axial:
            try:
                return look(series)
            except InputError:
                continue
    return None


def _strongest(evidences: Sequence[PhaseEvidence]) -> PhaseEvidence:
    """Return the surest evidence of one acquisition's series; none when two of them name different phases."""
    if len({evidence.phase for evidence in evidences if evidence.is_decisive}) > 1:
        return PhaseEvidence(reasons=("its reconstructions name different phases",))
    return max(evidences, key=lambda evidence: evidence.confidence)


def _preference(series: DicomSeries) -> tuple[bool, bool, int]:
    """Sort axial before reformatted, soft before sharp kernels, thin before thick slices."""
    return not series.stack.is_axial, series.header.is_sharp, -len(series.stack.slices)


def _first_usable(candidates: Sequence[DicomSeries], *, interpolate_gaps: bool) -> DicomSeries:
    errors = []
    for series in candidates:
        try:
            series.stack.check(series.name, interpolate_gaps=interpolate_gaps)
        except InputError as error:
            errors.append(error)
        else:
            return series
    raise errors[0]


def _check_decided(exam: DicomExam, acquisitions: Sequence[Acquisition]) -> None:
    decided = [each.evidence.phase for each in acquisitions if each.evidence.phase and each.evidence.is_decisive]
    open_axial = [each for each in acquisitions if _is_open(each)]
    if open_axial or not decided:
        names = ", ".join(each.series[0].name for each in open_axial or acquisitions)
        raise _undecided(exam, f"The headers do not tell the contrast phase of {names}")
    if len(set(decided)) < len(decided):
        twice = ", ".join(in_order({phase for phase in decided if decided.count(phase) > 1}))
        raise _undecided(exam, f"Several acquisitions would be the phase {twice}")
    timed = [each for each in acquisitions if each.evidence.is_decisive and each.series[0].offset_s is not None]
    ranks = [ALL_PHASES.index(each.evidence.phase) for each in timed if each.evidence.phase]
    if any(later < earlier for earlier, later in pairwise(ranks)):
        raise _undecided(exam, "The phases that the headers name contradict the order of acquisition")


def _is_open(acquisition: Acquisition) -> bool:
    return not acquisition.evidence.is_decisive and acquisition.series[0].stack.is_axial


def _undecided(exam: DicomExam, found: str) -> InputError:
    listing = "\n".join(f"  {series.describe()}" for series in exam.series)
    first, last = exam.series[0].number, exam.series[-1].number
    example = f"--phase {first}=AP --phase {last}=PVP" if last > first else f"--phase {first}=PVP"
    return InputError(
        found,
        expected="one series per phase " + ", ".join(ALL_PHASES),
        remedy=f"Say which series is which phase, for example {example}; the others are then left out:\n{listing}",
    )
