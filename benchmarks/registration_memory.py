"""Measures the peak memory of ``register`` on a pair of 512 x 512 x 150 voxels, with the time it takes.

Usage: python benchmarks/registration_memory.py CASE     (a folder with ct.nii.gz and seg.nii.gz; liver = 1)

The CT is resampled to that size; the moving phase is derived from it with a known motion.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from registration import points_of, read_real

from Diff4MMLiTSLib.core.config import RegisterConfig
from Diff4MMLiTSLib.core.grid import Volume, resample
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study import Mask
from Diff4MMLiTSLib.stages.registration import register_study
from multiphase import Motion, derive_study

SIZE = (512, 512, 150)


def main() -> None:
    """Register the pair and print peak memory, time and error."""
    ct, liver = read_real(Path(sys.argv[1]), 1)
    extent = np.array(ct.grid.size) * np.array(ct.grid.spacing_mm)
    grid = ct.grid.with_spacing(tuple(float(value) for value in extent / np.array(SIZE)))
    large = Volume(np.rint(resample(ct, grid).array).astype(np.int16), grid)
    mask = Mask(resample(liver.volume, grid, linear=False), liver.source)
    rng = np.random.default_rng(0)
    derived = derive_study(large, mask, {Phase.AP: Motion((-2.8, -4.9, -14.0), (0.0, 0.0, 0.0), 4.0)}, rng)
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak restarts from what is used now
    started = time.perf_counter()
    result = register_study(derived.study, config=RegisterConfig(), progress=silent())
    seconds = time.perf_counter() - started
    points = points_of(mask)
    transform = result.transforms[Phase.AP]
    found = np.array([transform.TransformPoint(point.tolist()) for point in points]) - points
    error = np.linalg.norm(found - derived.truth[Phase.AP].at(points), axis=1)
    print(f"{grid.size} voxels: peak {_peak_mb():.0f} MB, {seconds:.0f} s")
    print(f"error {np.median(error):.2f} mm (median), {np.percentile(error, 95):.2f} mm (95 %)")


def _peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
