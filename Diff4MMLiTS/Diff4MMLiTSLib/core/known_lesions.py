"""What a synthesizer knows of the lesions that it has learned from: numbers, no image.

The family and the contrasts of a synthetic tumor are drawn from it. And it says whether a contrast is one that the
family has, and whether a tumor is a copy of one that was learned from. For that a lesion is described by a random
projection of its change of the image: distances between lesions survive it (Johnson and Lindenstrauss, 1984), while
thousands of voxels cannot be had back from ``NUMBERS`` numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import shake_256
from itertools import product

import numpy as np
from numpy.typing import NDArray

from .enhancement import TumorFamily
from .grid import Grid, Volume, resample
from .phases import ALL_PHASES, Phase
from .tumor_mask import faded

CELL_MM = 4.0
CELLS = 12
"""A lesion is described by its change on a lattice of 12 x 12 x 12 cells of 4 mm around its middle."""
NUMBERS = 64
"""Length of a description; relative distances are then right to about a tenth."""
CONTRAST_GAIN = 0.15
CONTRAST_HU = 3.0
"""How far a drawn contrast lies from that of a known lesion: relative, and deviation of each phase."""
WATER_HU, WATER_SPREAD_HU = 8.0, 4.0
"""Of cysts, mean and deviation; 0 to 20 HU in the literature."""
TOLERANCE_HU = 15.0
"""How far beyond the known lesions of its family a contrast may lie: two deviations of a family in the literature."""

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class KnownLesions:
    """The lesions that a synthesizer has learned from.

    Args:
        description: (N, NUMBERS), float32.
        contrast_hu: Of the flat tumor that is most like it (``flat_contrast``), by phase, (N, P), float32; NaN where
            the phase was missing or not trusted.
        family: Index into ``TumorFamily``, -1 where it was not known, (N,), int64.
        study: Number of the study, (N,), int64.
    """

    description: FloatArray
    contrast_hu: FloatArray
    family: NDArray[np.int64]
    study: NDArray[np.int64]

    def draw_family(self, rng: np.random.Generator) -> TumorFamily | None:
        """Draw a family as often as it was learned from; None when no family is known."""
        known = self.family[self.family >= 0]
        return list(TumorFamily)[int(rng.choice(known))] if known.size else None

    def draw_contrast(
        self, family: TumorFamily | None, parenchyma_hu: Mapping[Phase, float], rng: np.random.Generator
    ) -> FloatArray:
        """Draw the contrast of a tumor in each phase, (P,), HU: that of a known lesion, somewhat changed.

        Args:
            family: Whose lesions; all of them for None, or where none of the family is known. A cyst holds water
                whatever the liver around it shows, so its contrast is what the liver is brighter than water.
            parenchyma_hu: Level of the liver that it shall grow in, by phase.
            rng: Source of chance.
        """
        if family is TumorFamily.CYST:
            water_hu = rng.normal(WATER_HU, WATER_SPREAD_HU)
            levels = [parenchyma_hu.get(phase, water_hu) for phase in ALL_PHASES]
            return np.asarray([water_hu - level for level in levels], dtype=np.float32)
        table = self._of(family)
        if not len(table):
            return np.zeros(len(ALL_PHASES), dtype=np.float32)
        seen = np.isfinite(table)
        usual = np.where(seen, table, 0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
        chosen = table[int(rng.integers(len(table)))]
        whole = np.where(np.isfinite(chosen), chosen, usual)
        gain = 1.0 + rng.uniform(-CONTRAST_GAIN, CONTRAST_GAIN)
        return np.asarray(gain * whole + rng.normal(0.0, CONTRAST_HU, whole.shape), dtype=np.float32)

    def implausible(self, contrast_hu: Mapping[Phase, float], family: TumorFamily | None) -> tuple[str, ...]:
        """Return what no known lesion of the family (of any, for None) comes near, in words.

        Args:
            contrast_hu: Mean contrast of a tumor by phase.
            family: What it shall be; one that was never learned from has no envelope, nor has the cyst, whose contrast
                is that of the liver against water. Nothing is said then.
        """
        if family is TumorFamily.CYST:
            return ()
        table = self.contrast_hu if family is None else self.contrast_hu[self.family == _number(family)]
        found = []
        for phase, value in contrast_hu.items():
            known = table[:, ALL_PHASES.index(phase)]
            known = known[np.isfinite(known)]
            if not known.size:
                continue
            low, high = float(known.min()) - TOLERANCE_HU, float(known.max()) + TOLERANCE_HU
            if not low <= value <= high:
                found.append(f"{phase}: {value:+.0f} HU of contrast, known tumors have {low:+.0f} to {high:+.0f} HU")
        return tuple(found)

    def _of(self, family: TumorFamily | None) -> FloatArray:
        """Return the contrasts of the lesions of a family, or of all where it has none, (N, P)."""
        chosen = self.family == (-1 if family is None else _number(family))
        return self.contrast_hu[chosen] if family is not None and chosen.any() else self.contrast_hu

    def nearest(self, change_hu: FloatArray, tumor: BoolArray, grid: Grid) -> float:
        """Return the distance of a change to the nearest known lesion in any mirroring; infinite when none is known.

        Args:
            change_hu: (P, Z, Y, X).
            tumor: (Z, Y, X).
            grid: Their lattice.
        """
        cells = _cells(change_hu, tumor, grid)
        axes = [tuple(axis for axis, flip in enumerate(flips, start=1) if flip) for flips in product((0, 1), repeat=3)]
        mirrored = np.stack([_project(np.flip(cells, chosen)) for chosen in axes])
        return float(_distances(mirrored, self.description).min(initial=np.inf))

    def copy_limit(self) -> float:
        """Return the smallest distance between lesions of different studies; nearer ones are as good as copies."""
        distances = _distances(self.description, self.description)
        between = self.study[:, None] != self.study[None]
        return float(distances[between].min(initial=np.inf)) if between.any() else 0.0


def flat_contrast(change_hu: FloatArray, tumor: BoolArray, grid: Grid) -> FloatArray:
    """Return the contrast (P,), HU, of the flat tumor with a soft border that is most like a change (P, Z, Y, X)."""
    soft = faded(tumor, grid)
    return np.asarray((change_hu * soft).sum(axis=(1, 2, 3)) / max(float((soft**2).sum()), 1e-6), dtype=np.float32)


def describe(change_hu: FloatArray, tumor: BoolArray, grid: Grid) -> FloatArray:
    """Return the description of what a lesion changes, (NUMBERS,); arguments as ``KnownLesions.nearest``."""
    return _project(_cells(change_hu, tumor, grid))


def known_lesions(
    descriptions: Sequence[FloatArray],
    contrasts_hu: Sequence[FloatArray],
    families: Sequence[TumorFamily | None],
    studies: Sequence[str],
) -> KnownLesions:
    """Gather lesions, one entry of each argument per lesion; studies are told apart but not named."""
    order = list(TumorFamily)
    numbers = {name: index for index, name in enumerate(dict.fromkeys(studies))}
    return KnownLesions(
        np.stack(descriptions).astype(np.float32),
        np.stack(contrasts_hu).astype(np.float32),
        np.array([-1 if family is None else order.index(family) for family in families], dtype=np.int64),
        np.array([numbers[name] for name in studies], dtype=np.int64),
    )


def _number(family: TumorFamily) -> int:
    return list(TumorFamily).index(family)


def _cells(change_hu: FloatArray, tumor: BoolArray, grid: Grid) -> FloatArray:
    """Return the change on the lattice around the tumor's middle, (P, CELLS, CELLS, CELLS); 0 beyond the image."""
    occupied = np.argwhere(tumor)
    middle = grid.to_world((occupied.min(axis=0) + occupied.max(axis=0))[::-1] / 2)
    corner = middle - CELL_MM * (CELLS - 1) / 2
    lattice = Grid((CELLS,) * 3, (CELL_MM,) * 3, (float(corner[0]), float(corner[1]), float(corner[2])))
    return np.stack([np.asarray(resample(Volume(values, grid), lattice, outside=0.0).array) for values in change_hu])


def _project(cells: FloatArray) -> FloatArray:
    return np.asarray(_signs(cells.size) @ cells.ravel() / np.float32(np.sqrt(NUMBERS)), dtype=np.float32)


@lru_cache(maxsize=1)
def _signs(size: int) -> FloatArray:
    """Return the matrix of the projection, (NUMBERS, size): random signs that no version of any library changes."""
    stream = np.frombuffer(shake_256(b"lesions").digest(NUMBERS * size // 8), dtype=np.uint8)
    return np.asarray(2.0 * np.unpackbits(stream).reshape(NUMBERS, size) - 1.0, dtype=np.float32)


def _distances(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return |a - b| / (|a| + |b|) of all pairs, (A, B): 0 for a copy, 0.7 for lesions that share nothing."""
    lengths = np.linalg.norm(first, axis=1)[:, None] + np.linalg.norm(second, axis=1)[None]
    apart = np.linalg.norm(first[:, None] - second[None], axis=-1)
    return np.asarray(apart / np.maximum(lengths, 1e-6), dtype=np.float32)
