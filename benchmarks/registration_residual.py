"""Compares the residual that ``register`` reports with the true error, for several limits of what a block must tell.

Usage:
  python benchmarks/registration_residual.py --phantoms COHORT [--real CASE]   validation phantoms, seeds 1000 to 1099

Per pair: the true error, and the residual's 95 % and the matched fraction with the pair registered, aligned rigidly
only, and registered to a moving phase that lies upside down.
"""

from __future__ import annotations

import argparse
from itertools import chain
from pathlib import Path
from unittest.mock import patch

import numpy as np
import SimpleITK as sitk
from registration import Case, broken_phases, phantom_cases, points_of, real_cases

from Diff4MMLiTSLib.core.config import Method, RegisterConfig
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study import Study
from Diff4MMLiTSLib.stages import registration_qa
from Diff4MMLiTSLib.stages.registration import register_study
from Diff4MMLiTSLib.stages.registration_qa import Alignment, judge
from Diff4MMLiTSLib.stages.registration_region import around

LIMITS = (0.25, 0.35, 0.45, 0.55)
VALIDATION_SEED = 100
"""Of the motion of the real CT; the comparison with peers uses others."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=Path, required=True, help="cohort of phantoms with truth")
    parser.add_argument("--real", type=Path, help="folder with ct.nii.gz and seg.nii.gz; liver = 1")
    arguments = parser.parse_args()
    real = real_cases(arguments.real, 1, [VALIDATION_SEED]) if arguments.real else ()
    columns = [f"{limit:.0%}" for limit in LIMITS]
    print("| pair | alignment | true 95 % mm | " + " | ".join(columns) + " |\n|" + "---|" * (3 + len(LIMITS)))
    for case in chain(real, phantom_cases(arguments.phantoms)):
        upside_down = broken_phases(case, case)["upside down"]
        for name, study, method in (
            ("registered", case.study, Method.DEFORMABLE),
            ("rigid", case.study, Method.RIGID),
            ("upside down", upside_down, Method.DEFORMABLE),
        ):
            transform = register_study(study, config=RegisterConfig(method=method), progress=silent()).transforms
            error = f"{_error(case, transform[case.phase]):.1f}" if study is case.study else "–"
            found = " | ".join(_judged(study, case, transform[case.phase]))
            print(f"| {case.name} {case.phase} | {name} | {error} | {found} |", flush=True)


def _error(case: Case, transform: sitk.Transform) -> float:
    assert case.study.liver is not None  # every case has one
    points = points_of(case.study.liver)
    found = np.array([transform.TransformPoint(point.tolist()) for point in points]) - points
    return float(np.percentile(np.linalg.norm(found - case.truth(points), axis=1), 95))


def _judged(study: Study, case: Case, transform: sitk.Transform) -> list[str]:
    """Return 95 % of the residual in mm and the matched fraction for every limit."""
    organ = study.liver
    assert organ is not None  # every case has one
    alignment = Alignment(study.reference, study.phases[case.phase], organ, around(organ, 10.0), None, transform)
    cells = []
    for limit in LIMITS:
        with patch.object(registration_qa, "LEAST_CONTRAST", limit):
            measures = judge(alignment, None, RegisterConfig(), silent()).measures
        cells.append(f"{measures.get('residual_p95_mm', np.nan):.1f} ({measures['matched_fraction']:.2f})")
    return cells


if __name__ == "__main__":
    main()
