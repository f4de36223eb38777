"""Do the metrics of ``evaluate`` agree with independent implementations?

    python -m venv /tmp/peers
    /tmp/peers/bin/pip install -e . surface-distance-based-measures panoptica
    /tmp/peers/bin/python benchmarks/metrics_agreement.py [--predicted SEGMENTED --truth COHORT]

Masks: touching and separate ellipsoids with ragged borders, on anisotropic grids, some cut by the image border; and,
where they are given, the tumors and livers of a cohort with its segmentations. Peers: surface-distance (the same
definition of a surface, with its area) and panoptica (overlap the same; its surfaces are border voxels without area).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import surface_distance
from numpy.typing import NDArray
from panoptica.metrics import Metric

from Diff4MMLiTSLib.core.grid import Grid
from Diff4MMLiTSLib.core.metrics import HAUSDORFF_PERCENTILE, METRIC_NAMES, NSD_TOLERANCE_MM, compare_masks
from Diff4MMLiTSLib.core.study_io import folders_by_id, read_segmentation, read_study

BoolArray = NDArray[np.bool_]
Case = tuple[str, BoolArray, BoolArray, Grid]
SPACINGS_MM = ((1.0, 1.0, 1.0), (0.7, 0.8, 2.5), (0.68, 0.68, 5.0), (1.5, 1.5, 2.0))
SHAPE = (24, 40, 44)
TOLERANCE = 1e-6


def made_up_cases(count: int, seed: int) -> Iterator[Case]:
    """Yield pairs of masks that overlap more or less."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        spacing_mm = SPACINGS_MM[number % len(SPACINGS_MM)]
        grid = Grid((SHAPE[2], SHAPE[1], SHAPE[0]), spacing_mm)
        truth = _lesions(rng)
        predicted = np.roll(truth, rng.integers(-2, 3, 3), axis=(0, 1, 2)) & (rng.random(SHAPE) > 0.03)
        predicted |= _lesions(rng) & (number % 3 == 0)
        yield f"made up, {'x'.join(map(str, spacing_mm))} mm", predicted, truth, grid


def cohort_cases(predicted: Path, truth: Path) -> Iterator[Case]:
    """Yield tumor and liver of every study that has both masks and a segmentation."""
    segmentations = folders_by_id([predicted])
    for study_id, folder in folders_by_id([truth]).items():
        study = read_study(folder)
        if study_id not in segmentations:
            continue
        found = read_segmentation(segmentations[study_id])
        pairs = (("tumor", found.tumor, study.tumor_mask), ("liver", found.liver, study.liver))
        for name, ours, theirs in pairs:
            if theirs is not None and theirs.array.any() and ours.array.any():
                yield f"cohort, {name}", ours.array, theirs.array, study.grid


def peer_values(predicted: BoolArray, truth: BoolArray, grid: Grid) -> dict[str, dict[str, float]]:
    """Return each metric by the peer that has it."""
    distances = surface_distance.compute_surface_distances(truth, predicted, grid.spacing_zyx_mm)
    masks = {"reference_arr": truth.astype(np.uint8), "prediction_arr": predicted.astype(np.uint8)}
    return {
        "surface-distance": {
            "dsc": surface_distance.compute_dice_coefficient(truth, predicted),
            "nsd_2mm": surface_distance.compute_surface_dice_at_tolerance(distances, NSD_TOLERANCE_MM),
            "hd95_mm": surface_distance.compute_robust_hausdorff(distances, HAUSDORFF_PERCENTILE),
        },
        "panoptica": {
            "dsc": float(Metric.DSC(**masks)),
            "jaccard": float(Metric.IOU(**masks)),
            "hd95_mm": float(Metric.HD95(**masks, voxelspacing=grid.spacing_zyx_mm)),
        },
    }


def main() -> None:
    """Print the largest difference of each metric by group of masks."""
    parser = argparse.ArgumentParser(description="Agreement of the metrics with other implementations.")
    parser.add_argument("--count", type=int, default=60, help="made-up pairs of masks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--predicted", type=Path)
    parser.add_argument("--truth", type=Path)
    options = parser.parse_args()
    cases = list(made_up_cases(options.count, options.seed))
    if options.predicted and options.truth:
        cases += cohort_cases(options.predicted, options.truth)
    largest: defaultdict[tuple[str, str], float] = defaultdict(float)
    groups: defaultdict[str, int] = defaultdict(int)
    for name, predicted, truth, grid in cases:
        ours = compare_masks(predicted, truth, grid)
        groups[name] += 1
        for peer, values in peer_values(predicted, truth, grid).items():
            for metric, value in values.items():
                key = f"{name} ({peer})", metric
                largest[key] = max(largest[key], abs(getattr(ours, metric) - value))
    print("| masks (peer) | pairs | " + " | ".join(METRIC_NAMES) + " |\n|---|---|" + "---|" * len(METRIC_NAMES))
    for group in sorted({name for name, _ in largest}):
        cells = [f"{largest[group, m]:.1e}" if (group, m) in largest else "" for m in METRIC_NAMES]
        print(f"| {group} | {groups[group.rpartition(' (')[0]]} | " + " | ".join(cells) + " |")
    worst = max(value for (name, _), value in largest.items() if name.endswith("(surface-distance)"))
    print(f"\nAgainst surface-distance at most {worst:.1e}: {'agrees' if worst <= TOLERANCE else 'DISAGREES'}")


def _lesions(rng: np.random.Generator) -> BoolArray:
    """Return one to four ellipsoids with holes in their border; they may touch each other and the image's border."""
    z, y, x = np.indices(SHAPE)
    mask = np.zeros(SHAPE, dtype=bool)
    for _ in range(rng.integers(1, 5)):
        center, radii = rng.uniform(0, SHAPE), rng.uniform((1.5, 2, 2), (6, 11, 11))
        offsets = zip((z, y, x), center, radii, strict=True)
        parts = sum(((index - middle) / radius) ** 2 for index, middle, radius in offsets)
        mask |= parts < 1 + 0.25 * rng.normal(size=SHAPE)
    return mask


if __name__ == "__main__":
    main()
