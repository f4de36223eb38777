"""Compares ``segment`` with MONAI's plain sliding windows over the whole volume: same network, same run.

Usage: python benchmarks/segmentation.py --model MODEL --case CASE [--field X Y Z] [--phantoms COHORT] [--fast]

CASE is a folder with ct.nii.gz and seg.nii.gz (liver = 1). The CT gets three more phases by ``multiphase.enhance``,
without motion, and 512 x 512 x 150 voxels: time and peak memory. They cover what the CT covers, or a field of X by Y by
Z mm around its middle, with air where the CT ends. COHORT holds registered phantoms: Dice. Ratios
are of processor seconds, which other jobs on the machine disturb least.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.inferers import sliding_window_inference

from Diff4MMLiTSLib.core.config import SegmentConfig
from Diff4MMLiTSLib.core.grid import Grid, Volume, resample
from Diff4MMLiTSLib.core.images import read_mask, read_volume
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study import Mask, MaskSource, RegisteredStudy
from Diff4MMLiTSLib.core.study_io import find_studies, read_registered
from Diff4MMLiTSLib.nets.segmenter import LIVER, TUMOR, segmenter_input
from Diff4MMLiTSLib.stages.segmentation import MultimodalSegmenter
from Diff4MMLiTSLib.training.datasets import downsample, stack_on, working_grid
from Diff4MMLiTSLib.training.inference import masks_of
from Diff4MMLiTSLib.training.search import Found
from multiphase import enhance

SIZE = (512, 512, 150)
ENHANCED_SPACING_MM = (1.5, 1.5, 2.0)
"""Of the derived phases before they get their size: their look is not what is measured."""
MOVING = (Phase.NC, Phase.AP, Phase.DELAY)

Masks = tuple[np.ndarray, np.ndarray]
Method = Callable[[RegisteredStudy], Masks]


@dataclass(frozen=True)
class Cost:
    """What one method took on the large study."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    masks: Masks


def main() -> None:
    """Measure and print."""
    options = _options()
    segmenter = MultimodalSegmenter.load(options.model, "cuda" if torch.cuda.is_available() else "cpu")
    config = SegmentConfig().fast() if options.fast else SegmentConfig()
    methods: dict[str, Method] = {
        "segment --fast" if options.fast else "segment": lambda study: _ours(segmenter, study, config),
        "plain, overlap 0.25": lambda study: _plain(segmenter, study, 0.25),
        "plain, overlap 0.5": lambda study: _plain(segmenter, study, 0.5),
    }
    print(f"{torch.get_num_threads()} threads; {segmenter.card.name}, {segmenter.card.spacing_mm} mm")
    study, truth = _large_study(options.case, options.field)
    costs = {name: _cost(method, study) for name, method in methods.items()}
    first = next(iter(costs.values()))
    field = " x ".join(f"{n * mm:.0f}" for n, mm in zip(study.grid.size, study.grid.spacing_mm, strict=True))
    print(f"| 512 x 512 x 150, {field} mm | seconds | of processors | ratio | peak MB | liver Dice | tumor ml |")
    print("|---|---|---|---|---|---|---|")
    for name, cost in costs.items():
        liver, tumor = cost.masks
        times = f"{cost.seconds:.1f} | {cost.cpu_seconds:.1f} | {cost.cpu_seconds / first.cpu_seconds:.2f}"
        found = f"{_dice(liver, truth):.3f} | {tumor.sum() * study.grid.voxel_ml:.1f}"
        print(f"| {name} | {times} | {cost.peak_mb:.0f} | {found} |")
    if options.phantoms:
        _print_dice(methods, options.phantoms)


def _print_dice(methods: dict[str, Method], cohort: Path) -> None:
    studies = [read_registered(folder) for folder in find_studies(cohort)]
    print(f"| {len(studies)} phantoms | liver Dice | tumor Dice | processor seconds |\n|---|---|---|---|")
    for name, method in methods.items():
        livers, tumors, seconds = [], [], 0.0
        for study in studies:
            started = time.process_time()
            liver, tumor = method(study)
            seconds += time.process_time() - started
            if study.liver is not None:
                livers.append(_dice(liver, study.liver.array))
            if study.tumor_mask is not None:
                tumors.append(_dice(tumor, study.tumor_mask.array))
        print(f"| {name} | {np.mean(livers):.4f} | {np.mean(tumors):.4f} | {seconds:.1f} |")


def _ours(segmenter: MultimodalSegmenter, study: RegisteredStudy, config: SegmentConfig) -> Masks:
    found = segmenter.segment(study, config=config, progress=silent())
    return found.liver.array, found.tumor.array


def _plain(segmenter: MultimodalSegmenter, study: RegisteredStudy, overlap: float) -> Masks:
    """Segment with MONAI's inferer over everything, at the model's resolution."""
    sight = segmenter.sight
    grid = working_grid(study.grid, sight.spacing_mm)
    phases, presence = stack_on(study, grid)
    device = next(segmenter.network.parameters()).device
    images = torch.from_numpy(sight.window.normalize(phases))[None].to(device)
    flags = torch.from_numpy(presence).to(device)

    def forward(windows: torch.Tensor) -> torch.Tensor:
        return segmenter.network(segmenter_input(windows, flags.expand(len(windows), -1))).softmax(dim=1)

    with torch.no_grad():
        found = sliding_window_inference(images, sight.patch, 2, forward, overlap=overlap, mode="gaussian", cval=-1.0)
    whole = found[0].cpu().numpy()
    organ, tumor = Found(whole[LIVER] + whole[TUMOR], whole[TUMOR], grid).on(study.grid)
    return masks_of(organ, tumor, voxel_ml=study.grid.voxel_ml, config=SegmentConfig())


def _cost(method: Method, study: RegisteredStudy) -> Cost:
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak restarts from what is used now
    started, worked = time.perf_counter(), time.process_time()
    masks = method(study)
    return Cost(time.perf_counter() - started, time.process_time() - worked, _peak_mb(), masks)


def _large_study(case: Path, field_mm: Sequence[float] | None) -> tuple[RegisteredStudy, np.ndarray]:
    """Return the four-phase study of 512 x 512 x 150 voxels and its true liver."""
    ct, liver = read_volume(case / "ct.nii.gz"), read_mask(case / "seg.nii.gz", MaskSource.ANNOTATION)
    extent = np.array(field_mm or np.array(ct.grid.size) * np.array(ct.grid.spacing_mm))
    spacing_mm = extent / np.array(SIZE)
    x, y, z = (float(value) for value in spacing_mm)
    first = ct.grid.center_mm - ct.grid.direction_matrix @ (spacing_mm * (np.array(SIZE) - 1) / 2)
    grid = Grid(SIZE, (x, y, z), tuple(float(value) for value in first), ct.grid.direction)
    truth = np.asarray(resample(liver.volume, grid, linear=False).array) > 0
    coarse = ct.grid.with_spacing(ENHANCED_SPACING_MM)
    small = downsample(ct, coarse), Mask(resample(liver.volume, coarse, linear=False), liver.source)
    phases = {phase: enhance(*small, phase) for phase in MOVING} | {Phase.PVP: ct}
    whole = {phase: _whole(resample(volume, grid, outside=-1000)) for phase, volume in phases.items()}
    return RegisteredStudy("large", whole, Phase.PVP), truth


def _dice(one: np.ndarray, two: np.ndarray) -> float:
    return 2 * float((one & two).sum()) / max(1.0, float(one.sum() + two.sum()))


def _whole(volume: Volume) -> Volume:
    return Volume(np.rint(volume.array).astype(np.int16), volume.grid)


def _peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--case", type=Path, required=True)
    parser.add_argument("--field", type=float, nargs=3, metavar="MM")
    parser.add_argument("--phantoms", type=Path)
    parser.add_argument("--fast", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
