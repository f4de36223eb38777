"""How tumors enhance: contrast against the parenchyma around them, and the families that differ in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .grid import Grid
from .lesions import TOUCHING
from .phases import Phase

CYST_HU = 25.0
"""Cysts hold water (0 to 20 HU) in every phase; solid tumors have 40 HU and more even before contrast."""
BRIGHT_HU = 10.0
"""Contrast above the parenchyma in AP that makes a tumor hypervascular; HCC has about 37 HU."""
PERSISTENT_HU = 5.0
"""Contrast above the parenchyma that remains in DELAY in a hemangioma (about 20 HU) and not in an HCC (washout)."""


class TumorFamily(StrEnum):
    """Kinds of liver tumors that enhance alike."""

    HCC = "hcc"
    HYPOVASCULAR = "hypovascular"
    CYST = "cyst"
    HEMANGIOMA = "hemangioma"


def tells_families(phases: Collection[Phase]) -> bool:
    """Return whether these phases tell families apart: that takes the arterial and a later phase."""
    return Phase.AP in phases and (Phase.PVP in phases or Phase.DELAY in phases)


def core_of(tumor: NDArray[np.bool_], grid: Grid) -> NDArray[np.bool_]:
    """Return the voxels at least half as deep as the deepest of their lesion: what no border blurs, (Z, Y, X)."""
    depth = ndimage.distance_transform_edt(np.pad(tumor, 1), sampling=grid.spacing_zyx_mm)[1:-1, 1:-1, 1:-1]
    lesions, count = ndimage.label(tumor, structure=TOUCHING)
    deepest = np.concatenate([[np.inf], ndimage.maximum(depth, lesions, np.arange(1, count + 1))])
    return np.asarray(2 * depth >= deepest[lesions])


def family_of(
    tumor_hu: Mapping[Phase, float], parenchyma_hu: Mapping[Phase, float], core_hu: Mapping[Phase, float]
) -> TumorFamily:
    """Return the family that a lesion's enhancement is most like.

    Args:
        tumor_hu: Median of the lesion in each phase that is there.
        parenchyma_hu: Median of the parenchyma around it, same phases.
        core_hu: Median of the lesion's core, same phases: a small cyst shows its water only there.
    """
    contrast = {phase: tumor_hu[phase] - parenchyma_hu[phase] for phase in tumor_hu}
    if max(core_hu.values()) < CYST_HU:
        return TumorFamily.CYST
    bright = contrast.get(Phase.AP, 0.0) > BRIGHT_HU
    late = contrast.get(Phase.DELAY, contrast.get(Phase.PVP, 0.0))
    if late > PERSISTENT_HU:
        return TumorFamily.HEMANGIOMA
    return TumorFamily.HCC if bright else TumorFamily.HYPOVASCULAR
