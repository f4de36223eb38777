"""Measures how well the contrast of lesions survives misaligned phases, against the truth of phantoms.

Usage:
  python benchmarks/synthesis_alignment.py --phantoms RAW --registered COHORT --normal COHORT

RAW holds the phantoms with their truth, COHORT the same registered, and inpainted. Compared are the contrast that
training sees in the mask of each lesion (study minus normal CT) and that of the phantom's own tumor in each phase:
without moving the lesion onto its mask, moved, and moved where the phase is trusted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from synthesis_cases import PATCH, SPACING_MM

from Diff4MMLiTSLib.core.config import DenoiserTrainConfig
from Diff4MMLiTSLib.core.images import read_volume
from Diff4MMLiTSLib.core.phases import ALL_PHASES
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study_io import find_studies
from Diff4MMLiTSLib.pairing import paired_with_normal
from Diff4MMLiTSLib.training.cohorts import load_cohort
from Diff4MMLiTSLib.training.pairs import LEAST_TRUST, lesion_patches

SMALLEST_VOXELS = 20

FloatArray = NDArray[np.float64]


def true_contrasts(folder: Path) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Return, by phase, the volume (voxels) and the contrast (HU) of each lesion of a phantom, largest first."""
    found = {}
    for phase in ALL_PHASES:
        tumor = read_volume(folder / "truth" / f"tumor_{phase}.nrrd", is_ct=False)
        labels, count = ndimage.label(np.asarray(tumor.array) > 0, structure=np.ones((3, 3, 3)))
        change = np.asarray(read_volume(folder / f"{phase}.nrrd").array, dtype=np.float64)
        change -= np.asarray(read_volume(folder / "truth" / f"normal_{phase}.nrrd").array, dtype=np.float64)
        scale = tumor.grid.voxel_ml / (SPACING_MM**3 / 1000)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:] * scale
        means = np.array([change[labels == label].mean() for label in range(1, count + 1)])
        order = np.argsort(-sizes)
        found[str(phase)] = (sizes[order], means[order])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--phantoms", type=Path, required=True)
    parser.add_argument("--registered", type=Path, required=True)
    parser.add_argument("--normal", type=Path, required=True)
    options = parser.parse_args()
    reach_mm = DenoiserTrainConfig().largest_shift_mm
    errors: dict[str, list[list[float]]] = {name: [[] for _ in ALL_PHASES] for name in ("in place", "moved", "trusted")}
    raw = {folder.name: folder for folder in find_studies(options.phantoms)}
    studies = load_cohort(
        [options.registered], spacing_mm=SPACING_MM, margin_mm=30.0, training=False, progress=silent()
    )
    for study in (study for study in studies if study.tumor.any()):
        pair = paired_with_normal([study], [options.normal])
        truth = true_contrasts(raw[study.study_id])
        for name, reach in (("in place", 0.0), ("moved", reach_mm)):
            patches = sorted(lesion_patches(pair, PATCH, largest_shift_mm=reach), key=lambda p: -int(p.tumor.sum()))
            for rank, patch in enumerate(patches):
                if patch.tumor.sum() < SMALLEST_VOXELS:
                    continue
                for index in np.flatnonzero(patch.presence):
                    sizes, means = truth[str(ALL_PHASES[index])]
                    if len(sizes) <= rank or not 0.5 < sizes[rank] / patch.tumor.sum() < 2:  # another lesion
                        continue
                    seen = float((patch.changed - patch.normal)[index][patch.tumor].mean())
                    errors[name][index].append(abs(seen - means[rank]))
                    if name == "moved" and patch.trust[index] >= LEAST_TRUST:
                        errors["trusted"][index].append(abs(seen - means[rank]))
    print("| lesions | " + " | ".join(ALL_PHASES) + " |\n|---" * 1 + "|---" * len(ALL_PHASES) + "|")
    for name, phases in errors.items():
        print(f"| {name} | " + " | ".join(f"{np.mean(part):.1f} ({len(part)})" for part in phases) + " |")


if __name__ == "__main__":
    main()
