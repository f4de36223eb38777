"""Measures phase recognition from the image on benchmark phantoms: right, asked, and wrong without asking.

Usage:
  diff4mmlits phantom DIR --count 20 --seed 1100 --preset small                    (and again with --variant shifted)
  python benchmarks/phases.py DIR --out OUT

DIR holds phantom study folders. No file name, study file or DICOM tag is used, but in the row "with times": there the
four volumes are told in order, with the pauses of a liver protocol, as a DICOM examination without texts would be.
The row "swapped names" is not about recognition: AP and PVP bear each other's name, and nothing may be taken by it
("right" = not taken by a wrong name). Writes phases.md and phases.json.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from Diff4MMLiTSLib.core.images import read_volume
from Diff4MMLiTSLib.core.phase_evidence import TEXT_CONFIDENCE, PhaseEvidence, merge_evidence, phases_from_order
from Diff4MMLiTSLib.core.phase_image import ImageFindings, evidence_from_findings, findings_of
from Diff4MMLiTSLib.core.phases import ALL_PHASES, Phase
from Diff4MMLiTSLib.phantom.enhancement import Timing, draw_enhancement
from Diff4MMLiTSLib.phantom.patient import Ingredient, draw_patient, random_stream

OFFSETS_S = (0.0, 180.0, 215.0, 400.0)
LEAST_GAP = 0.3
"""Of the way from one phase to the next; closer scans cannot be told apart by anybody."""
WAYS = ("alone", "study", "study with times", "swapped names")


@dataclass(frozen=True)
class Row:
    """What was said of one volume.

    Args:
        study: Seed and variant.
        way: What was known besides the image.
        truth: The phase.
        found: The phase that was named.
        confidence: How surely.
        outcome: Right, asked or wrong.
        apart: Whether the phantom's phases were scanned in their order and not nearly at the same moment.
    """

    study: str
    way: str
    truth: Phase
    found: Phase | None
    confidence: float
    outcome: str
    apart: bool


def main() -> None:
    """Read the phantoms, recognize, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for study in sorted(path for path in arguments.folder.iterdir() if (path / "DELAY.nrrd").is_file()):
        started = time.monotonic()
        rows += rows_of(study)
        print(f"{study.name}: {time.monotonic() - started:.1f} s", flush=True)
        (arguments.out / "phases.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))
        (arguments.out / "phases.md").write_text(table_of(rows))
    print(table_of(rows))


def rows_of(folder: Path) -> Iterator[Row]:
    """Yield what is said of the volumes of one phantom study in every way."""
    variant, seed = re.fullmatch(r".*(standard|shifted)(?:-\w+)?-(\d+)", folder.name).groups()  # type: ignore[union-attr] # a wrong name is an error
    apart = is_apart(timing_of(int(seed), shifted=variant == "shifted"))
    findings = [findings_of(read_volume(folder / f"{phase}.nrrd")) for phase in ALL_PHASES]
    for way in WAYS:
        for phase, evidence, is_right in zip(ALL_PHASES, *judge(findings, way), strict=True):
            outcome = "asked" if not evidence.is_decisive else "right" if is_right else "wrong"
            if way == "swapped names":
                outcome = "wrong" if evidence.is_decisive and not is_right else "right"
            yield Row(f"{variant} {seed}", way, phase, evidence.phase, evidence.confidence, outcome, apart)


def judge(findings: Sequence[ImageFindings], way: str) -> tuple[list[PhaseEvidence], list[bool]]:
    """Return the evidence about the four volumes, and whether the phase named is the true one."""
    if way == "alone":
        found = [evidence_from_findings([each])[0] for each in findings]
    elif way == "study":
        found = list(evidence_from_findings(findings))
    elif way == "study with times":
        pairs = zip(phases_from_order(OFFSETS_S), evidence_from_findings(findings, in_order=True), strict=True)
        found = [merge_evidence(pair) for pair in pairs]
    else:
        names = (Phase.NC, Phase.PVP, Phase.AP, Phase.DELAY)
        said = (PhaseEvidence(name, TEXT_CONFIDENCE) for name in names)
        found = [merge_evidence(pair) for pair in zip(said, evidence_from_findings(findings), strict=True)]
    return found, [each.phase is phase for each, phase in zip(found, ALL_PHASES, strict=True)]


def timing_of(seed: int, *, shifted: bool) -> Timing:
    """Return when the phases of a phantom were scanned; drawn again, since the study folder does not say it."""
    return draw_enhancement(draw_patient(seed), random_stream(seed, Ingredient.ENHANCEMENT), shifted=shifted).timing


def is_apart(timing: Timing) -> bool:
    """Return whether AP, PVP and DELAY follow each other at a distance."""
    moments = (1 + timing.arterial, 2 + timing.portal, 3 + timing.delayed)
    return moments[1] - moments[0] >= LEAST_GAP and moments[2] - moments[1] >= LEAST_GAP


def table_of(rows: Sequence[Row]) -> str:
    """Return a Markdown table of outcomes per variant and way; in brackets those of phantoms whose phases are apart."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[row.study.partition(" ")[0], row.way][row.outcome] += 1
        counts[row.study.partition(" ")[0], row.way][f"{row.outcome} apart"] += row.apart
    lines = ["| variant | known besides the image | volumes | right | asked | wrong |", "|---|---|---|---|---|---|"]
    for (variant, way), count in sorted(
        counts.items(), key=lambda item: (item[0][0] != "standard", WAYS.index(item[0][1]))
    ):
        total, apart = (sum(count[f"{name}{end}"] for name in ("right", "asked", "wrong")) for end in ("", " apart"))
        cells = [f"{count[name]} ({count[f'{name} apart']})" for name in ("right", "asked", "wrong")]
        lines.append(f"| {variant} | {way} | {total} ({apart}) | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
