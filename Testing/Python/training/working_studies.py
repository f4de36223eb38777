"""Working studies made of plain shapes, with noise, for the tests of generative training."""

from __future__ import annotations

import numpy as np

from conftest import ball
from Diff4MMLiTSLib.core.grid import Grid
from Diff4MMLiTSLib.training.datasets import WorkingStudy

GRID = Grid((24, 24, 20), (3.0, 3.0, 3.0))
LIVER_HU = np.array([58, 78, 118, 95], dtype=np.float32)
TUMOR_HU = np.array([42, 58, 75, 72], dtype=np.float32)


def working_study(seed: int = 0, *, with_tumor: bool = True, radius_mm: float = 9.0, shift_mm: float = 0.0):
    """Return a study with a round tumor in a round liver; ``shift_mm`` displaces it along x in AP against its mask."""
    rng = np.random.default_rng(seed)
    liver = ball(GRID, GRID.center_mm, 28.0)
    tumor = ball(GRID, GRID.center_mm, radius_mm)
    phases = np.empty((4, *GRID.shape), dtype=np.float32)
    for index in range(4):
        center = np.add(GRID.center_mm, (shift_mm * (index == 1), 0.0, 0.0))
        seen = ball(GRID, center, radius_mm if with_tumor else 0.0)
        phases[index] = np.where(seen, TUMOR_HU[index], np.where(liver, LIVER_HU[index], -100))
    phases += rng.normal(0, 6, phases.shape).astype(np.float32)
    shown = tumor if with_tumor else np.zeros_like(tumor)
    return WorkingStudy(f"study {seed}", phases, np.ones(4, dtype=np.float32), liver, shown, GRID)
