"""Cohorts of small synthetic pairs with their sources, as ``synthesize`` leaves them."""

from __future__ import annotations

import numpy as np

from Diff4MMLiTSLib.core.grid import Grid, Volume
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.study import (
    TUMOR_FREE,
    HistoryEntry,
    Mask,
    MaskSource,
    PhaseQA,
    RegisteredStudy,
    StageQA,
    Verdict,
)
from Diff4MMLiTSLib.core.study_io import input_hashes, write_study

GRID = Grid((20, 18, 8), (2.0, 2.0, 4.0), (-20.0, -10.0, 30.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
CENTER = (4, 9, 10)
"""(Z, Y, X) of the tumor of every pair."""


def add_pairs(root, count, source_id="study-1", phases=(Phase.AP, Phase.PVP)):
    """Write ``normal/<source>`` and ``pairs/<source>_synthetic-0001`` … below ``root``; return the pairs' folder."""
    rng = np.random.default_rng(3)
    values = {phase: rng.normal(100, 10, GRID.shape).astype(np.int16) for phase in phases}
    liver = Mask(Volume(np.ones(GRID.shape, np.uint8), GRID), MaskSource.PHANTOM)
    for each in values.values():
        each[:, :, :6] = -100  # fat
    volumes = {phase: Volume(each, GRID) for phase, each in values.items()}
    normal = RegisteredStudy(source_id, volumes, phases[-1], liver=liver, tumor=TUMOR_FREE)
    write_study(normal, root / "normal" / source_id)
    inputs = input_hashes(root / "normal" / source_id)
    z, y, x = np.ogrid[tuple(slice(size) for size in GRID.shape)]
    for number in range(1, count + 1):
        ball = (z - CENTER[0]) ** 2 + (y - CENTER[1]) ** 2 + (x - CENTER[2]) ** 2 <= (1 + number % 4) ** 2
        changed = {
            phase: Volume(np.where(ball, 60 + number, each).astype(np.int16), GRID) for phase, each in values.items()
        }
        mask = Mask(Volume(ball.astype(np.uint8), GRID), MaskSource.SYNTHETIC)
        made = HistoryEntry("synthesize", "0.1.0", {"source_study": source_id}, number, inputs)
        contrast = {phase: PhaseQA(Verdict.PASS, measures={"contrast_hu": -40.0 + number}) for phase in phases}
        measures = {"tumor_ml": 0.5 * number}
        reasons = ("a seam is seen",) if number == 2 else ()
        verdict = Verdict.REVIEW if number == 2 else Verdict.PASS
        qa = StageQA(verdict, 1.0, reasons, phases=contrast, measures=measures)
        name = f"{source_id}_synthetic-{number:04d}"
        pair = RegisteredStudy(
            name, changed, phases[-1], liver=liver, tumor=mask, synthetic=True, history=(made,), qa={"synthesize": qa}
        )
        write_study(pair, root / "pairs" / name)
    return root / "pairs"
