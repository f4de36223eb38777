"""Which contrast phase each volume is, for everything that can hold one: image files, DICOM folders, studies, cohorts.

Names and headers are one source of evidence, the images another, independent one; they are merged, and where they
contradict each other or say too little, the user is asked.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .dicom import DicomExam, DicomFolder, read_series, scan_folder
from .dicom_studies import acquisitions_of, add_image_evidence
from .errors import InputError
from .images import read_volume
from .phase_evidence import TEXT_CONFIDENCE, PhaseEvidence, merge_evidence, phase_from_text
from .phase_image import evidence_from_findings, findings_of
from .phases import ALL_PHASES, Phase
from .progress import Progress
from .study_io import STUDY_FILE, find_studies, phase_files

HEADERS_SHARE = 0.3
"""Share of a DICOM folder's progress for reading headers."""
DICOM_PREAMBLE, DICOM_MARK = 128, b"DICM"


@dataclass(frozen=True)
class PhaseFinding:
    """What is known about the phase of one volume.

    Args:
        source: File name (with the study's folder in a cohort), or number of the DICOM series; never a path. Where
            several sources were given and their names do not tell them apart, their number comes first.
        evidence: Phase, confidence and reasons.
    """

    source: str
    evidence: PhaseEvidence


def recognize_phases(sources: Sequence[Path], progress: Progress) -> tuple[PhaseFinding, ...]:
    """Return the phase of every volume in the sources.

    Args:
        sources: Image files, DICOM folders, study folders or cohorts.
        progress: Told after every volume.

    Raises:
        InputError: A source does not exist or holds no CT, or a file cannot be read.
        CanceledError: The user asked to stop.
    """
    found: list[PhaseFinding] = []
    for index, (source, prefix) in enumerate(zip(sources, _prefixes(sources), strict=True)):
        piece = progress.part(index / len(sources), (index + 1) / len(sources))
        found += [PhaseFinding(prefix + each.source, each.evidence) for each in _recognizer(source)(source, piece)]
    return tuple(found)


def as_text(findings: Sequence[PhaseFinding]) -> str:
    """Return one paragraph per volume: phase, confidence, and the reasons below it."""
    lines = []
    for each in findings:
        phase = each.evidence.phase or "unknown"
        sure = "" if each.evidence.is_decisive else "  <- not sure"
        lines.append(f"{each.source}: {phase} (confidence {each.evidence.confidence:.2f}){sure}")
        lines += [f"    {reason}" for reason in each.evidence.reasons]
    return "\n".join(lines)


def as_json(findings: Sequence[PhaseFinding]) -> str:
    """Return a JSON array of ``{"source", "phase", "confidence", "evidence"}``; phase is null when nothing tells."""
    records = [
        {
            "source": each.source,
            "phase": each.evidence.phase,
            "confidence": round(each.evidence.confidence, 3),
            "evidence": each.evidence.reasons,
        }
        for each in findings
    ]
    return json.dumps(records, ensure_ascii=False, indent=1)


def check_decided(findings: Sequence[PhaseFinding]) -> None:
    """Raise when the phase of any volume is open.

    Raises:
        InputError: Lists the open volumes with what they may be.
    """
    if open_ones := [each for each in findings if not each.evidence.is_decisive]:
        listing = "\n".join(f"  {each.source}: {_choices(each.evidence)}" for each in open_ones)
        raise InputError(
            f"The contrast phase of {len(open_ones)} of {len(findings)} volumes is not sure",
            expected="names, headers and image that agree",
            remedy=f'Look at these volumes and say what they are ("import --phase NUMBER=PHASE", '
            f"or the columns of an import table):\n{listing}",
        )


def _choices(evidence: PhaseEvidence) -> str:
    others = [phase for phase in ALL_PHASES if phase is not evidence.phase]
    return f"{evidence.phase} (most likely), {', '.join(others)}" if evidence.phase else ", ".join(ALL_PHASES)


def _prefixes(sources: Sequence[Path]) -> list[str]:
    """Return what sets the sources apart: nothing for one, else study names, and numbers where names do not suffice.

    The name of a DICOM folder is often the patient's, so such folders are numbered.
    """
    if len(sources) == 1:
        return [""]
    names = Counter(source.name for source in sources)
    result = []
    for number, source in enumerate(sources, start=1):
        is_ours = source.is_file() or _holds_studies(source)
        mark = "" if is_ours and names[source.name] == 1 else f"source {number}: "
        result.append(mark + (f"{source.name}/" if is_ours and not source.is_file() else ""))
    return result


def _holds_studies(folder: Path) -> bool:
    return (folder / STUDY_FILE).is_file() or any(folder.glob(f"[!.]*/{STUDY_FILE}"))


def _recognizer(source: Path) -> Callable[[Path, Progress], list[PhaseFinding]]:
    if source.is_file():
        return _of_file
    return _of_studies if _holds_studies(source) else _of_dicom


def _of_file(file: Path, progress: Progress) -> list[PhaseFinding]:
    progress.update(0.0, "reading the image")
    _refuse_dicom(file)
    (from_image,) = evidence_from_findings([findings_of(read_volume(file))])
    from_name = phase_from_text(file.name.partition(".")[0], where="file name")
    return [PhaseFinding(file.name, merge_evidence([from_name, from_image]))]


def _refuse_dicom(file: Path) -> None:
    with file.open("rb") as stream:
        if stream.read(DICOM_PREAMBLE + len(DICOM_MARK)).endswith(DICOM_MARK):
            raise InputError(
                "A single DICOM file was given",
                expected="the folder that holds all DICOM files of the examination",
                remedy="Give the folder: its series and their times are found in it",
            )


def _of_studies(path: Path, progress: Progress) -> list[PhaseFinding]:
    folders = find_studies(path)
    result = []
    for index, folder in enumerate(folders):
        prefix = "" if folder == path else f"{folder.name}/"
        piece = progress.part(index / len(folders), (index + 1) / len(folders))
        result += [PhaseFinding(prefix + each.source, each.evidence) for each in _of_study(folder, piece)]
    return result


def _of_study(folder: Path, progress: Progress) -> list[PhaseFinding]:
    files = phase_files(folder)
    findings = []
    for index, file in enumerate(files.values()):
        progress.update(index / len(files), f"looking at {file.name}")
        findings.append(findings_of(read_volume(file)))
    from_images = evidence_from_findings(findings)
    return [
        PhaseFinding(file.name, merge_evidence([_declared(phase), from_image]))
        for (phase, file), from_image in zip(files.items(), from_images, strict=True)
    ]


def _declared(phase: Phase) -> PhaseEvidence:
    return PhaseEvidence(phase, TEXT_CONFIDENCE, (f"the study names it {phase}",))


def _of_dicom(folder: Path, progress: Progress) -> list[PhaseFinding]:
    found: DicomFolder = scan_folder(folder, progress.part(0.0, HEADERS_SHARE))
    rest = progress.part(HEADERS_SHARE, 1.0)
    count = len(found.exams)
    return [
        finding
        for index, exam in enumerate(found.exams)
        for finding in _of_exam(exam, rest.part(index / count, (index + 1) / count))
    ]


def _of_exam(exam: DicomExam, progress: Progress) -> list[PhaseFinding]:
    acquisitions = add_image_evidence(
        acquisitions_of(exam), lambda series: findings_of(read_series(series, progress, interpolate_gaps=True)[0])
    )
    decided = [each.evidence.phase for each in acquisitions if each.evidence.is_decisive]
    result = []
    for each in acquisitions:
        evidence = each.evidence
        if evidence.is_decisive and decided.count(evidence.phase) > 1:
            reason = f"another acquisition of the examination would be {evidence.phase} too"
            evidence = PhaseEvidence(evidence.phase, 0.5 * evidence.confidence, (*evidence.reasons, reason))
        result += [(series.number, PhaseFinding(series.name, evidence)) for series in each.series]
    return [finding for _, finding in sorted(result, key=lambda pair: pair[0])]
