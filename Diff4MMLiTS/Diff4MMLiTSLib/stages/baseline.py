"""What plain thresholds achieve: a row in evaluations, so that a network's numbers can be judged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .. import __version__
from ..core.grid import Grid, Volume, resample
from ..core.phases import Phase
from ..core.study import HistoryEntry, Mask, MaskSource, RegisteredStudy, Segmentation
from ..training.datasets import downsample, working_grid
from ..training.inference import largest_component, without_small_components

SPACING_MM = 3.0
"""Thresholds need no finer grid."""
LIVER_HU = {Phase.NC: 58.0, Phase.AP: 78.0, Phase.PVP: 118.0, Phase.DELAY: 95.0}
"""Mean of the normal liver: Kanematsu (2005), Goshima (2006)."""
LIVER_RANGE_HU = 35.0
"""Half the width of the liver's window: three deviations between patients (8 to 15 HU)."""
TUMOR_CONTRAST_HU = 20.0
"""How much darker than the liver a tumor must be; in the portal venous phase metastases are by 43 HU, HCC by 13."""
SMOOTHING_MM = 3.0
OPENING_VOXELS = 2
"""Cuts the bridges of muscle and stomach to the liver."""
RIM_VOXELS = 2
"""Voxels at the liver's border, where partial volume looks like a tumor."""
MINIMUM_TUMOR_ML = 0.2

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


def threshold_baseline(study: RegisteredStudy, liver: Mask | None = None) -> Segmentation:
    """Segment the reference phase by thresholds.

    Liver: the largest piece in the HU window of that phase's normal liver. Tumor: what is darker inside it.

    Args:
        study: Only its reference phase is used.
        liver: Its liver, on the study's grid; found by the threshold when absent.

    Returns:
        Masks on the study's grid.
    """
    grid = working_grid(study.grid, SPACING_MM)
    smooth = ndimage.gaussian_filter(
        np.asarray(downsample(study.reference, grid).array, dtype=np.float32), SMOOTHING_MM / SPACING_MM
    )
    if liver is None:
        organ = _find_liver(smooth, LIVER_HU[study.reference_phase])
    else:
        organ = np.asarray(resample(liver.volume, grid, linear=False).array) > 0
    tumor = _find_tumor(smooth, organ)
    liver_volume = liver.volume if liver else _brought_back(organ, grid, study.grid)
    return Segmentation(
        study_id=study.study_id,
        liver=Mask(liver_volume, liver.source if liver else MaskSource.MODEL),
        tumor=Mask(_brought_back(tumor, grid, study.grid), MaskSource.MODEL),
        reference_phase=study.reference_phase,
        history=(*study.history, HistoryEntry(stage="threshold", version=__version__)),
    )


def _find_liver(smooth: FloatArray, liver_hu: float) -> BoolArray:
    inside = np.abs(smooth - liver_hu) < LIVER_RANGE_HU
    piece = largest_component(ndimage.binary_opening(inside, iterations=OPENING_VOXELS))
    return np.asarray(ndimage.binary_fill_holes(ndimage.binary_closing(piece, iterations=OPENING_VOXELS)))


def _find_tumor(smooth: FloatArray, organ: BoolArray) -> BoolArray:
    core = ndimage.binary_erosion(organ, iterations=RIM_VOXELS)
    if not core.any():
        return np.zeros_like(organ)
    dark = core & (smooth < np.median(smooth[core]) - TUMOR_CONTRAST_HU)
    return without_small_components(dark, minimum_voxels=MINIMUM_TUMOR_ML / (SPACING_MM**3 / 1000.0))


def _brought_back(mask: BoolArray, grid: Grid, target: Grid) -> Volume:
    soft = resample(Volume(mask.astype(np.float32), grid), target)
    return Volume((np.asarray(soft.array) > 0.5).astype(np.uint8), target)
