"""Measures registration beside its peers, on the same inputs in one run: error in mm in the liver, time, verdicts.

Usage:
  python benchmarks/registration.py --phantoms 20 --out DIR             phantoms (medium, both variants), seeds 1100 on
  python benchmarks/registration.py --real CASE --seeds 2 --out DIR     phases derived from one real CT, known motion
  python benchmarks/registration.py --phantoms 10 --verdicts --out DIR  what the verdict says of good and broken phases

CASE is a folder with ct.nii.gz and seg.nii.gz (liver = --label). Writes registration.md, registration.json and, for
phantoms, registration_error.png. Peers that are not installed are skipped; name an interpreter that has convexAdam with
--convexadam-python.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from registration_peers import Pair, Peer, available_peers
from scipy.ndimage import map_coordinates

from Diff4MMLiTSLib.core.config import Method, RegisterConfig
from Diff4MMLiTSLib.core.grid import Grid, Volume, resample
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study import Mask, MaskSource, PhaseQA, Study, Verdict
from Diff4MMLiTSLib.phantom.generator import Variant, make_phantom
from Diff4MMLiTSLib.phantom.scanner import Preset
from Diff4MMLiTSLib.stages.registration import register_study
from Diff4MMLiTSLib.stages.registration_region import around

sys.path.insert(0, str(Path(__file__).parents[1] / "Testing" / "Python"))
from multiphase import Motion, derive_study

OURS = "Diff4MMLiTS deformable"
OURS_RIGID = "Diff4MMLiTS rigid"
FIRST_SEED = 1100
"""Seeds 1100-1199 are kept for benchmarks."""
POINTS = 4000
REAL_SPACING_MM = (1.5, 1.5, 2.0)
Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Case:
    """A study with one moving phase and what is known about it.

    Args:
        name: Where it comes from.
        phase: The moving phase.
        study: Reference and moving phase.
        truth: Displacement (N, 3) mm of reference points (N, 3).
    """

    name: str
    phase: Phase
    study: Study
    truth: Callable[[Points], Points]


@dataclass(frozen=True)
class Row:
    """One method on one case."""

    case: str
    phase: str
    method: str
    seconds: float
    displacement_mm: list[float]
    error_mm: list[float]
    qa: dict[str, object]


def phantom_cases(count: int, preset: Preset) -> Iterator[Case]:
    """Yield every moving phase of phantoms, both variants in turn."""
    for number in range(count):
        variant = list(Variant)[number % 2]
        phantom = make_phantom(FIRST_SEED + number, preset=preset, variant=variant, progress=silent())
        for phase, image in phantom.displacement.items():
            yield Case(phantom.study.study_id, phase, _two_phases(phantom.study, phase), _sampler(image))


def real_cases(folder: Path, label: int, seeds: int) -> Iterator[Case]:
    """Yield phases derived from a real CT: smooth residual of 4 mm RMS and 6, 14, 22, 30 mm along the body."""
    ct, liver = read_real(folder, label)
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        for phase, along in ((Phase.NC, -22.0), (Phase.AP, -14.0), (Phase.DELAY, 30.0 if seed % 2 else -6.0)):
            motion = Motion((0.2 * along, 0.35 * along, along), tuple(rng.uniform(-3, 3, 3) * (seed % 2)), 4.0)
            derived = derive_study(ct, liver, {phase: motion}, rng)
            yield Case(f"{folder.name} seed {seed}", phase, derived.study, derived.truth[phase].at)


def read_real(folder: Path, label: int) -> tuple[Volume, Mask]:
    """Return a real CT and its liver at the resolution of the comparison."""
    image = sitk.DICOMOrient(sitk.ReadImage(str(folder / "ct.nii.gz"), sitk.sitkFloat32), "LPS")
    mask = sitk.DICOMOrient(sitk.ReadImage(str(folder / "seg.nii.gz")), "LPS")
    spacing = np.array(image.GetSpacing())
    sigma = 0.42 * np.sqrt(np.maximum(np.array(REAL_SPACING_MM) ** 2 - spacing**2, 1e-4))
    grid = Grid.of_image(image).with_spacing(REAL_SPACING_MM)
    ct = resample(Volume.from_image(sitk.SmoothingRecursiveGaussian(image, sigma.tolist())), grid, outside=-1000)
    liver = Volume.from_image(sitk.Cast(mask == label, sitk.sitkUInt8))
    return (
        Volume(np.rint(ct.array).astype(np.int16), grid),
        Mask(resample(liver, grid, linear=False), MaskSource.ANNOTATION),
    )


def compare(case: Case, peers: dict[str, Peer]) -> Iterator[Row]:
    """Yield the rows of all methods on one case."""
    liver = case.study.liver
    assert liver is not None
    points = _points(liver)
    displacement = case.truth(points)
    size = np.linalg.norm(displacement, axis=1)
    pair = Pair(case.study.reference, case.study.phases[case.phase], liver, around(liver, 10.0))

    def row(method: str, found: Points, seconds: float, qa: PhaseQA | None = None) -> Row:
        error = np.linalg.norm(found - points - displacement, axis=1)
        said = {} if qa is None else {"verdict": str(qa.verdict), "reasons": list(qa.reasons), **qa.measures}
        return Row(case.name, case.phase, method, seconds, size.round(3).tolist(), error.round(3).tolist(), said)

    for name, peer in peers.items():
        yield row(name, *peer(pair, points))
    for name, method in ((OURS_RIGID, Method.RIGID), (OURS, Method.DEFORMABLE)):
        started = time.perf_counter()
        result = register_study(case.study, config=RegisterConfig(method=method), progress=silent())
        seconds = time.perf_counter() - started
        transform = result.transforms[case.phase]
        found = np.array([transform.TransformPoint(point.tolist()) for point in points])
        yield row(name, found, seconds, result.qa["register"].phases[case.phase])


def broken_phases(case: Case, other: Case) -> dict[str, Study]:
    """Return the study with its moving phase broken in several ways; ``other`` is another patient."""
    moving = case.study.phases[case.phase]
    array, grid = np.asarray(moving.array), moving.grid
    half = grid.size[2] // 2
    volumes = {
        "upside down": Volume(array[::-1].copy(), grid),
        "mirrored": Volume(array[:, :, ::-1].copy(), grid),
        "upper half only": Volume(
            array[half:].copy(), grid.cropped((0, 0, half), (*grid.size[:2], grid.size[2] - half))
        ),
        "lower half only": Volume(array[:half].copy(), grid.cropped((0, 0, 0), (*grid.size[:2], half))),
        "other patient": other.study.phases[other.phase],
    }
    return {name: _replaced(case, volume) for name, volume in volumes.items()}


def judge_broken(cases: list[Case]) -> list[tuple[str, str, str, dict[str, float]]]:
    """Return (case, fault, verdict, measures) of every case broken in every way."""
    rows = []
    for number, case in enumerate(cases):
        for fault, study in broken_phases(case, cases[(number + 3) % len(cases)]).items():
            qa = register_study(study, config=RegisterConfig(), progress=silent()).qa["register"].phases[case.phase]
            rows.append((f"{case.name} {case.phase}", fault, str(qa.verdict), dict(qa.measures)))
            print(case.name, case.phase, fault, qa.verdict, dict(qa.measures), flush=True)
    return rows


def table(rows: list[Row]) -> str:
    """Return the comparison as Markdown: pooled over all points, then by phase."""
    text = "| method | phase | median mm | 95 % mm | max mm | seconds | verdicts |\n|---|---|---|---|---|---|---|\n"
    for method in dict.fromkeys(row.method for row in rows):
        for phase in ("all", *dict.fromkeys(row.phase for row in rows)):
            chosen = [row for row in rows if row.method == method and phase in ("all", row.phase)]
            error = np.concatenate([row.error_mm for row in chosen])
            verdicts = [str(row.qa["verdict"]) for row in chosen if row.qa]
            said = ", ".join(f"{verdicts.count(v)} {v}" for v in Verdict if v in verdicts) or "–"
            seconds = np.median([row.seconds for row in chosen])
            median, tail = np.percentile(error, [50, 95])
            text += f"| {method} | {phase} | {median:.2f} | {tail:.2f} | {error.max():.1f} | {seconds:.1f} | {said} |\n"
    return text


def draw(rows: list[Row], path: Path) -> None:
    """Draw the error against the true displacement, per method: median and 95 % in bins of the displacement."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), constrained_layout=True)
    for method in dict.fromkeys(row.method for row in rows):
        chosen = [row for row in rows if row.method == method]
        size = np.concatenate([row.displacement_mm for row in chosen])
        error = np.concatenate([row.error_mm for row in chosen])
        edges = np.unique(np.quantile(size, np.linspace(0, 1, 9)))
        bins = [error[(size >= low) & (size <= high)] for low, high in pairwise(edges)]
        middle = (edges[:-1] + edges[1:]) / 2
        for axis, share in zip(axes, (50, 95), strict=True):
            axis.plot(middle, [np.percentile(part, share) for part in bins], "o-", ms=4, label=method)
    for axis, name in zip(axes, ("Median", "95 %"), strict=True):
        axis.set(xlabel="true displacement of the liver point (mm)", ylabel=f"{name} error (mm)", yscale="log")
        axis.set_yticks([0.2, 0.5, 1, 2, 5, 10, 20], ["0.2", "0.5", "1", "2", "5", "10", "20"])
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run the comparison."""
    arguments = _arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    cases = (
        real_cases(arguments.real, arguments.label, arguments.seeds)
        if arguments.real
        else phantom_cases(arguments.phantoms, Preset(arguments.preset))
    )
    if arguments.verdicts:
        rows = judge_broken(list(cases))
        (arguments.out / "verdicts.json").write_text(json.dumps(rows, indent=1))
        passed = sum(verdict == Verdict.PASS for _, _, verdict, _ in rows)
        print(f"{passed} of {len(rows)} broken phases passed")
        return
    peers = available_peers(arguments.convexadam_python) if not arguments.no_peers else {}
    results: list[Row] = []
    for case in cases:
        for row in compare(case, peers):
            results.append(row)
            median, tail = np.percentile(row.error_mm, [50, 95])
            said = row.qa.get("verdict", ""), row.qa.get("reasons", "")
            print(
                f"{row.case} {row.phase} {row.method}: {median:.2f} {tail:.2f} {row.seconds:.1f} s", *said, flush=True
            )
    (arguments.out / "registration.md").write_text(table(results))
    (arguments.out / "registration.json").write_text(json.dumps([vars(row) for row in results]))
    if not arguments.real:
        draw(results, arguments.out / "registration_error.png")
    print(table(results))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=int, default=4, help="number of phantoms")
    parser.add_argument("--preset", default="medium", choices=[str(preset) for preset in Preset])
    parser.add_argument("--real", type=Path, help="folder with ct.nii.gz and seg.nii.gz instead of phantoms")
    parser.add_argument("--label", type=int, default=1, help="label of the liver in seg.nii.gz")
    parser.add_argument("--seeds", type=int, default=2, help="random motions per phase of the real CT")
    parser.add_argument("--convexadam-python", help="interpreter that has convexAdam installed")
    parser.add_argument("--no-peers", action="store_true", help="measure this project alone")
    parser.add_argument("--verdicts", action="store_true", help="judge broken phases instead")
    parser.add_argument("--out", type=Path, required=True, help="folder for table, numbers and figure")
    return parser.parse_args()


def _points(liver: Mask) -> Points:
    found = np.argwhere(liver.array)[:, ::-1].astype(np.float64)
    rng = np.random.default_rng(0)
    return liver.volume.grid.to_world(found[rng.choice(len(found), min(POINTS, len(found)), replace=False)])


def _two_phases(study: Study, phase: Phase) -> Study:
    phases = {name: study.phases[name] for name in (phase, study.reference_phase)}
    return Study(study.study_id, phases, study.reference_phase, liver=study.liver, tumor=study.tumor)


def _replaced(case: Case, volume: Volume) -> Study:
    study = case.study
    phases = {study.reference_phase: study.reference, case.phase: volume}
    return Study(study.study_id, phases, study.reference_phase, liver=study.liver, tumor=study.tumor)


def _sampler(image: sitk.Image) -> Callable[[Points], Points]:
    field, grid = sitk.GetArrayFromImage(image), Grid.of_image(image)

    def sample(points: Points) -> Points:
        at = grid.to_index(points)[:, ::-1].T
        return np.stack([map_coordinates(field[..., k], at, order=1, mode="nearest") for k in range(3)], axis=1)

    return sample


if __name__ == "__main__":
    main()
