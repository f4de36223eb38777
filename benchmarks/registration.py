"""Measures registration beside its peers, on the same inputs in one run: error in mm in the liver, time, verdicts.

Usage (phantoms first: ``diff4mmlits phantom COHORT --count 10 --seed 1100 --preset medium [--variant shifted]``):
  python benchmarks/registration.py --phantoms COHORT --peers-on 4 --broken-on 10 --out DIR
  python benchmarks/registration.py --real CASE --seeds 2 --out DIR     phases derived from one real CT, known motion

Every moving phase is registered by this project; slow peers see one phase of each of the first ``--peers-on`` studies,
and broken phases are made of one phase of the first ``--broken-on`` studies. CASE is a folder with ct.nii.gz and
seg.nii.gz (liver = --label). Writes registration.md, registration.json and, for phantoms, registration_error.png. Peers
that are not installed are skipped; name an interpreter that has convexAdam with --convexadam-python.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from registration_peers import Pair, Peer, available_peers
from registration_report import Row, Said, draw, table, verdict_table
from scipy.ndimage import label, map_coordinates

from Diff4MMLiTSLib.core.config import Method, RegisterConfig
from Diff4MMLiTSLib.core.grid import Grid, Volume, resample
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study import Mask, MaskSource, PhaseQA, Study
from Diff4MMLiTSLib.core.study_io import TRUTH_FOLDER, find_studies, read_study
from Diff4MMLiTSLib.stages.registration import register_study
from Diff4MMLiTSLib.stages.registration_names import doubted_names
from Diff4MMLiTSLib.stages.registration_region import around

sys.path.insert(0, str(Path(__file__).parents[1] / "Testing" / "Python"))
from multiphase import Motion, derive_study

OURS = "Diff4MMLiTS deformable"
OURS_RIGID = "Diff4MMLiTS rigid"
POINTS = 4000
LEAST_LESION_MM = 10.0
LESION_POINTS = 500
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


def phantom_cases(cohort: Path) -> Iterator[Case]:
    """Yield every moving phase of a cohort of phantoms, ordered by the last digit of the seed: variants take turns."""
    for folder in sorted(find_studies(cohort), key=lambda folder: folder.name[-1]):
        study = read_study(folder)
        for phase in study.phases:
            if phase is not study.reference_phase:
                field = sitk.ReadImage(str(folder / TRUTH_FOLDER / f"displacement_{phase}.nrrd"))
                yield Case(study.study_id, phase, _two_phases(study, phase), _sampler(field))


def real_cases(folder: Path, label: int, seeds: Iterable[int]) -> Iterator[Case]:
    """Yield phases derived from a real CT: smooth residual of 4 mm RMS and 6, 14, 22, 30 mm along the body."""
    ct, liver = read_real(folder, label)
    for seed in seeds:
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
    points = points_of(liver)
    is_scanned = _is_scanned(points + case.truth(points), case.study.phases[case.phase].grid)
    points, scanned_fraction = points[is_scanned], float(is_scanned.mean())
    displacement = case.truth(points)
    size = np.linalg.norm(displacement, axis=1)
    pair = Pair(case.study.reference, case.study.phases[case.phase], liver, around(liver, 10.0))

    def row(method: str, found: Points, seconds: float, qa: PhaseQA | None = None, **more: object) -> Row:
        error = np.linalg.norm(found - points - displacement, axis=1)
        said = {} if qa is None else {"verdict": str(qa.verdict), "reasons": list(qa.reasons), **qa.measures, **more}
        return Row(
            case.name,
            case.phase,
            method,
            seconds,
            size.round(3).tolist(),
            error.round(3).tolist(),
            said,
            scanned_fraction,
        )

    for name, peer in peers.items():
        yield row(name, *peer(pair, points))
    for name, method in ((OURS_RIGID, Method.RIGID), (OURS, Method.DEFORMABLE)):
        if name == OURS or len(peers) > 1:
            started = time.perf_counter()
            result = register_study(case.study, config=RegisterConfig(method=method), progress=silent())
            seconds = time.perf_counter() - started
            transform = result.transforms[case.phase]
            found = np.array([transform.TransformPoint(point.tolist()) for point in points])
            changes = lesion_changes(case, transform)
            yield row(name, found, seconds, result.qa["register"].phases[case.phase], lesion_changes=changes)


def lesion_changes(case: Case, transform: sitk.Transform) -> list[tuple[float, float]]:
    """Return the relative change of volume of each lesion of at least 10 mm: as found, and in truth."""
    study = case.study
    if study.tumor_mask is None:
        return []
    grid = study.grid
    lesions, count = label(study.tumor_mask.array)
    changes = []
    for number in range(1, count + 1):
        inside = np.argwhere(lesions == number)[:, ::-1].astype(np.float64)
        diameter_mm = 2.0 * (3.0 * len(inside) * grid.voxel_ml * 1000.0 / (4.0 * np.pi)) ** (1 / 3)
        if diameter_mm >= LEAST_LESION_MM:
            points = grid.to_world(inside[:: max(1, len(inside) // LESION_POINTS)])
            found = _growth(points, lambda at: np.array([transform.TransformPoint(each.tolist()) for each in at]) - at)
            changes.append((found, _growth(points, case.truth)))
    return changes


def _growth(points: Points, displacement: Callable[[Points], Points]) -> float:
    """Return the mean determinant of the gradient of p + u(p) minus 1, by central differences of 2 mm."""
    steps = np.eye(3)
    slopes = [(displacement(points + step) - displacement(points - step)) / 2.0 for step in steps]
    return float(np.linalg.det(np.stack(slopes, axis=-1) + np.eye(3)).mean() - 1.0)


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


def judge_broken(case: Case, other: Case) -> Iterator[Said]:
    """Yield the verdict on every broken version of a case."""
    for fault, study in broken_phases(case, other).items():
        qa = register_study(study, config=RegisterConfig(), progress=silent()).qa["register"].phases[case.phase]
        yield Said(case.name, case.phase, fault, str(qa.verdict), list(qa.reasons), dict(qa.measures))


def judge_names(case: Case) -> Iterator[Said]:
    """Yield whether the image contradicts the phase's name: its own, and every wrong one."""
    study = case.study
    for name in (phase for phase in Phase if phase is not study.reference_phase):
        phases = {name: study.phases[case.phase], study.reference_phase: study.reference}
        doubts = doubted_names(phases, RegisterConfig().limits)
        verdict = "review" if doubts else "pass"
        yield Said(case.name, case.phase, f"called {name}", verdict, list(doubts.values()), {})


def main() -> None:
    """Run the comparison."""
    arguments = _arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    real = arguments.real and real_cases(arguments.real, arguments.label, range(arguments.seeds))
    rows: list[Row] = []
    said: list[Said] = []
    earlier: dict[str, Case] = {}
    for case in real or phantom_cases(arguments.phantoms):
        number = len({row.case for row in rows} | {case.name}) - 1
        chosen = real or number % 3 == list(Phase).index(case.phase) % 3
        peers = available_peers(arguments.convexadam_python, slow=bool(chosen) and number < arguments.peers_on)
        for row in compare(case, peers):
            rows.append(row)
            print(row.describe(), flush=True)
        said += judge_names(case) if not real else ()
        if chosen and number < arguments.broken_on and earlier:
            said += judge_broken(case, next(iter(earlier.values())))
        if chosen:
            earlier = {case.name: case}
        text = table(rows) + verdict_table(rows, said, OURS)
        (arguments.out / "registration.md").write_text(text)
        record = {"rows": [vars(row) for row in rows], "said": [vars(each) for each in said]}
        (arguments.out / "registration.json").write_text(json.dumps(record))
    if not real:
        draw(rows, arguments.out / "registration_error.png")
    print(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--phantoms", type=Path, help="cohort of phantoms with truth")
    source.add_argument("--real", type=Path, help="folder with ct.nii.gz and seg.nii.gz")
    parser.add_argument("--label", type=int, default=1, help="label of the liver in seg.nii.gz")
    parser.add_argument("--seeds", type=int, default=2, help="random motions per phase of the real CT")
    parser.add_argument("--convexadam-python", help="interpreter that has convexAdam installed")
    parser.add_argument("--peers-on", type=int, default=4, help="studies that the slow peers see")
    parser.add_argument("--broken-on", type=int, default=0, help="studies of which broken phases are made")
    parser.add_argument("--out", type=Path, required=True, help="folder for table, numbers and figure")
    return parser.parse_args()


def points_of(liver: Mask) -> Points:
    """Return random points of a liver, (N, 3), LPS mm; always the same ones."""
    found = np.argwhere(liver.array)[:, ::-1].astype(np.float64)
    rng = np.random.default_rng(0)
    return liver.volume.grid.to_world(found[rng.choice(len(found), min(POINTS, len(found)), replace=False)])


def _is_scanned(points: Points, grid: Grid) -> NDArray[np.bool_]:
    """Whether points lie in a volume: what the moving phase does not show, nobody can find in it."""
    index = grid.to_index(points)
    return np.asarray(((index >= 0) & (index <= np.array(grid.size) - 1)).all(axis=1))


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
