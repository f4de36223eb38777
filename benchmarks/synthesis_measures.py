"""What ``synthesis.py`` measures of a tumor: statistics per phase, features of our encoder, alignment of phases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from synthesis_cases import Case, FloatArray, Images

from Diff4MMLiTSLib.core.intensity import Window
from Diff4MMLiTSLib.core.parenchyma import compare_texture, parenchyma_voxels
from Diff4MMLiTSLib.core.phases import ALL_PHASES, Phase
from Diff4MMLiTSLib.core.tumor_mask import box_around, cropped_grid, distance_mm
from Diff4MMLiTSLib.nets.autoencoder import Autoencoder
from Diff4MMLiTSLib.training.pairs import align_change

NEAR_MM, FAR_MM = 4.0, 12.0
"""The edge is measured over the first, the parenchyma up to the second distance from the mask."""
REACH_MM = 8.0
"""How far a tumor is searched beside its mask."""
SEEN_HU = 10.0
"""Contrast below which a tumor has no edge, and no place, to be measured."""
SMOOTH_MM = 3.0
"""Takes most of the noise away and leaves rims, nodules and necrosis."""
PATCH = 4
"""Edge of the classifier's patches in voxels."""
PATCHES_PER_LESION = 20


@dataclass(frozen=True)
class Statistics:
    """One tumor in one phase; NaN where it cannot be said.

    Args:
        contrast_hu: Median in the mask minus that of the parenchyma.
        texture: Log of the deviation inside against that of the parenchyma.
        structure: Log of the deviation of the smoothed image in the mask, HU: rims, nodules and necrosis.
        sharpness: Part of the contrast that is reached within ``NEAR_MM`` of the border; 1 is a step.
        shift_mm: Where the change of the image lies beside the mask.
    """

    contrast_hu: float
    texture: float
    structure: float
    sharpness: float
    shift_mm: float


def statistics_of(case: Case, images: Images) -> dict[Phase, Statistics]:
    """Return the statistics of a tumor in the case's mask, by phase."""
    grid = case.study.grid
    box = box_around(case.mask, grid, FAR_MM + REACH_MM)
    mask, native = case.mask[box], cropped_grid(grid, box)
    outside = distance_mm(mask, native, FAR_MM)
    inside = distance_mm(~mask, native, FAR_MM)
    shell = case.liver[box] & ~case.others[box] & ~mask & (outside <= FAR_MM)
    found = {}
    for phase, values in images.items():
        cut = values[box]
        parenchyma = parenchyma_voxels(cut, shell, native.spacing_zyx_mm)
        parenchyma = parenchyma if parenchyma.any() else shell
        texture = compare_texture(cut, mask, parenchyma, native.spacing_zyx_mm)
        contrast = float(np.median(cut[mask]) - np.median(cut[parenchyma]))
        rim, near = mask & (inside <= NEAR_MM), parenchyma & (outside <= NEAR_MM)
        smooth = ndimage.gaussian_filter(cut, [SMOOTH_MM / spacing for spacing in native.spacing_zyx_mm])
        step = float(cut[rim].mean() - cut[near].mean()) if rim.any() and near.any() else np.nan
        change = cut - np.asarray(case.normal.study.phases[phase].array[box], dtype=np.float32)
        shift, _ = align_change(change * ~case.others[box], mask, native, REACH_MM)
        is_seen = abs(contrast) >= SEEN_HU
        found[phase] = Statistics(
            contrast_hu=contrast,
            texture=float(np.log(max(texture.std_ratio, 1e-2))),
            structure=float(np.log(max(float(smooth[mask].std()), 1.0))),
            sharpness=step / contrast if is_seen else float("nan"),
            shift_mm=float(np.linalg.norm(np.multiply(shift, native.spacing_zyx_mm))) if is_seen else float("nan"),
        )
    return found


@torch.no_grad()
def features_of(case: Case, images: Images, autoencoder: Autoencoder, window: Window) -> NDArray[np.float64]:
    """Return mean and deviation of the latents in the mask, minus what the normal CT has there, (P * 2 C,)."""
    grid, factor = case.study.grid, autoencoder.factor
    z, y, x = box_around(case.mask, grid, FAR_MM)
    z, y, x = (slice(part.start, part.stop - (part.stop - part.start) % factor) for part in (z, y, x))
    cells = torch.nn.functional.avg_pool3d(torch.from_numpy(case.mask[z, y, x][None, None].astype(np.float32)), factor)
    chosen = cells[0, 0] >= min(0.5, float(cells.max()))
    found = []
    for phase in ALL_PHASES:
        if phase not in images:
            found.append(np.zeros(2 * autoencoder.latent_channels))
            continue
        pair = (images[phase], np.asarray(case.normal.study.phases[phase].array, dtype=np.float32))
        stack = torch.from_numpy(np.stack([window.normalize(values[z, y, x]) for values in pair]))[:, None]
        grown, normal = autoencoder.encode(stack)[:, :, chosen].double().numpy()  # (C, cells) each
        found.append(np.concatenate((grown.mean(1) - normal.mean(1), grown.std(1) - normal.std(1))))
    return np.concatenate(found)


def places_of(case: Case, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Return corners of patches whose middle lies in the tumor or at its border."""
    centers = rng.permutation(np.argwhere(case.mask))[:PATCHES_PER_LESION] - PATCH // 2
    last = np.array(case.mask.shape) - PATCH
    return [np.clip(center, 0, last) for center in centers]


def patches_of(case: Case, images: Images, places: list[NDArray[np.int64]]) -> FloatArray:
    """Return patches (N, P, Z, Y, X), HU minus the median of the patient's liver; missing phases are 0."""
    cut = np.zeros((len(places), len(ALL_PHASES), PATCH, PATCH, PATCH), dtype=np.float32)
    for number, phase in enumerate(ALL_PHASES):
        if phase in images:
            level = np.median(np.asarray(case.normal.study.phases[phase].array)[case.liver])
            for index, place in enumerate(places):
                cut[index, number] = images[phase][tuple(slice(a, a + PATCH) for a in place)] - level
    return cut
