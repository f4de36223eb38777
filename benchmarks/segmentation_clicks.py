"""Measures what one click does on phantoms: a positive one on a missed lesion, a negative one on what was invented.

Usage: python benchmarks/segmentation_clicks.py --model MODEL COHORT     (registered phantoms with tumors)

A lesion is missed when less than a tenth of it is found. Since few are, every lesion is also clicked on as if
nothing had been found at all. Clicks go to the deepest voxel, where users click, and 3 mm beside it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from Diff4MMLiTSLib.core.config import SegmentConfig
from Diff4MMLiTSLib.core.grid import Grid, Volume
from Diff4MMLiTSLib.core.lesions import LEAST_OVERLAP, TOUCHING, ball_diameter_mm
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study import Mask, RegisteredStudy, Segmentation
from Diff4MMLiTSLib.core.study_io import find_studies, read_registered
from Diff4MMLiTSLib.stages.segmentation import MultimodalSegmenter
from Diff4MMLiTSLib.stages.segmentation_clicks import Click, apply_clicks

ASIDE_MM = 3.0


@dataclass(frozen=True)
class Outcome:
    """What one click did.

    Args:
        kind: Which of the experiments.
        diameter_mm: Of the lesion.
        before: Dice of the lesion before the click.
        after: And after it; for a negative click the part of the component that is left.
        farthest_mm: Distance of the farthest voxel that changed.
        seconds: It took.
    """

    kind: str
    diameter_mm: float
    before: float
    after: float
    farthest_mm: float
    seconds: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("cohort", type=Path)
    options = parser.parse_args()
    segmenter = MultimodalSegmenter.load(options.model)
    outcomes = [
        outcome for folder in find_studies(options.cohort) for outcome in _outcomes(segmenter, read_registered(folder))
    ]
    print("| click | number | before, median | after, median | gain, median | gain >= 0.3 | farthest mm | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in dict.fromkeys(outcome.kind for outcome in outcomes):
        rows = [outcome for outcome in outcomes if outcome.kind == kind]
        before, after = (np.array([getattr(row, name) for row in rows]) for name in ("before", "after"))
        middle = " | ".join(f"{np.median(values):.2f}" for values in (before, after, after - before))
        enough = f"{int((after - before >= 0.3).sum())} of {len(rows)}"
        farthest, seconds = max(row.farthest_mm for row in rows), np.median([row.seconds for row in rows])
        print(f"| {kind} | {len(rows)} | {middle} | {enough} | {farthest:.1f} | {seconds:.2f} |")
    for row in outcomes:
        print(f"  {row.kind}: {row.diameter_mm:.0f} mm, {row.before:.2f} -> {row.after:.2f}")


def _outcomes(segmenter: MultimodalSegmenter, study: RegisteredStudy) -> Iterator[Outcome]:
    if study.tumor_mask is None:
        return
    truth = study.tumor_mask.array
    automatic = segmenter.segment(study, config=SegmentConfig(), progress=silent())
    nothing = replace(automatic, tumor=_mask(automatic.tumor, np.zeros_like(truth)))
    rng = np.random.default_rng(0)
    for lesion in _components(truth):
        found = float((automatic.tumor.array & lesion).sum() / lesion.sum())
        places = [("deepest", _deepest(lesion, study.grid)), ("beside", _beside(lesion, study.grid, rng))]
        for place, point in places:
            if found < LEAST_OVERLAP:
                yield _positive(segmenter, study, automatic, lesion, point, f"positive on a missed lesion, {place}")
            yield _positive(segmenter, study, nothing, lesion, point, f"positive, nothing found yet, {place}")
    for component in _components(automatic.tumor.array):
        kind = "invented" if (truth & component).sum() < LEAST_OVERLAP * component.sum() else "true"
        point = _deepest(component, study.grid)
        yield _negative(segmenter, study, automatic, component, point, f"negative on a {kind} component")


def _positive(
    segmenter: MultimodalSegmenter,
    study: RegisteredStudy,
    start: Segmentation,
    lesion: np.ndarray,
    point: np.ndarray,
    kind: str,
) -> Outcome:
    after, farthest, seconds = _click(segmenter, study, start, point, positive=True)
    scores = [_lesion_dice(found.tumor.array, lesion) for found in (start, after)]
    return Outcome(kind, ball_diameter_mm(lesion.sum() * study.grid.voxel_ml), scores[0], scores[1], farthest, seconds)


def _negative(
    segmenter: MultimodalSegmenter,
    study: RegisteredStudy,
    start: Segmentation,
    component: np.ndarray,
    point: np.ndarray,
    kind: str,
) -> Outcome:
    after, farthest, seconds = _click(segmenter, study, start, point, positive=False)
    left = float((after.tumor.array & component).sum() / component.sum())
    return Outcome(kind, ball_diameter_mm(component.sum() * study.grid.voxel_ml), 1.0, left, farthest, seconds)


def _click(
    segmenter: MultimodalSegmenter, study: RegisteredStudy, start: Segmentation, point: np.ndarray, *, positive: bool
) -> tuple[Segmentation, float, float]:
    x, y, z = (float(value) for value in point)
    started = time.perf_counter()
    after = apply_clicks(segmenter, study, start, [Click((x, y, z), positive)], progress=silent())
    seconds = time.perf_counter() - started
    changed = (after.tumor.array != start.tumor.array) | (after.liver.array != start.liver.array)
    distance = np.linalg.norm(study.grid.to_world(np.argwhere(changed)[:, ::-1].astype(float)) - point, axis=-1)
    return after, float(distance.max(initial=0.0)), seconds


def _lesion_dice(found: np.ndarray, lesion: np.ndarray) -> float:
    """Return the Dice of a lesion and of all found components that touch it."""
    labels, _ = ndimage.label(found, structure=TOUCHING)
    touching = np.isin(labels, np.setdiff1d(labels[lesion], 0))
    return 2 * float((touching & lesion).sum()) / float(touching.sum() + lesion.sum())


def _components(mask: np.ndarray) -> Iterator[np.ndarray]:
    labels, count = ndimage.label(mask, structure=TOUCHING)
    for number in range(1, count + 1):
        yield labels == number


def _deepest(mask: np.ndarray, grid: Grid) -> np.ndarray:
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), grid.spacing_zyx_mm)[1:-1, 1:-1, 1:-1]
    return _world(np.unravel_index(int(depth.argmax()), mask.shape), grid)


def _beside(mask: np.ndarray, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Return the voxel of a lesion nearest to a place 3 mm beside its deepest one, in a random direction."""
    direction = rng.standard_normal(3)
    aim = _deepest(mask, grid) + ASIDE_MM * direction / np.linalg.norm(direction)
    voxels = np.argwhere(mask)
    distance = np.linalg.norm(grid.to_world(voxels[:, ::-1].astype(float)) - aim, axis=-1)
    return _world(tuple(voxels[int(distance.argmin())]), grid)


def _world(voxel: tuple[int, ...], grid: Grid) -> np.ndarray:
    return grid.to_world(np.array(voxel[::-1], dtype=float))


def _mask(like: Mask, array: np.ndarray) -> Mask:
    return Mask(Volume(array.astype(np.uint8), like.volume.grid), like.source)


if __name__ == "__main__":
    main()
