"""Is the autoencoder good enough to build on? What it cannot render, no synthetic tumor can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from ..core.config import AutoencoderLimits
from ..core.errors import InputError
from ..core.intensity import Window
from ..core.parenchyma import parenchyma_voxels, texture_of
from ..nets.autoencoder import Autoencoder
from .datasets import FloatArray, WorkingStudy

STUDIES = 4
"""Studies that are measured; each has tens of thousands of voxels of liver."""
LARGEST_BOX = 96
"""Voxels per axis that are reconstructed at once."""
BORDER = 2
"""Voxels at the liver's border that are left out of the texture: there, blur adds to the deviation."""
SSIM_SIGMA = 1.5
SSIM_CONSTANTS = (0.01**2, 0.03**2)
"""Of Wang et al., "Image quality assessment" (2004): Gaussian window and (K L)^2 for a range of 1."""


@dataclass(frozen=True)
class _Score:
    """One phase of one study; HU where a name says so."""

    square_error: float
    ssim: float
    liver_bias_hu: float
    tumor_bias_hu: float
    std_ratio: float


@torch.no_grad()
def measure_autoencoder(network: Autoencoder, studies: Sequence[WorkingStudy], window: Window) -> dict[str, float]:
    """Reconstruct the livers of studies and measure what became of them.

    Args:
        network: Trained; put into evaluation mode and back.
        studies: Best ones that were not learned from.
        window: The network's intensity window.

    Returns:
        ``psnr_db`` and ``ssim`` over the window; ``liver_bias_hu`` and ``tumor_bias_hu``, the largest mean error of a
        phase; ``std_ratio``, deviation of the parenchyma against the genuine one. The last is a mean over phases.
    """
    was_training = network.training
    network.eval()
    scores = [score for study in studies[:STUDIES] for score in _scores(network, study, window)]
    network.train(was_training)
    tumors = [abs(score.tumor_bias_hu) for score in scores if np.isfinite(score.tumor_bias_hu)]
    return {
        "psnr_db": float(-10 * np.log10(np.mean([score.square_error for score in scores]) + 1e-12)),
        "ssim": float(np.mean([score.ssim for score in scores])),
        "liver_bias_hu": float(max(abs(score.liver_bias_hu) for score in scores)),
        "tumor_bias_hu": float(max(tumors, default=0.0)),
        "std_ratio": float(np.mean([score.std_ratio for score in scores])),
    }


def check_autoencoder(numbers: Mapping[str, float], limits: AutoencoderLimits, *, name: str) -> None:
    """Refuse an autoencoder that changes tumors more than a tumor changes the liver.

    Args:
        numbers: What ``measure_autoencoder`` found, from the model's card.
        limits: What is asked for.
        name: The model's, for the message.

    Raises:
        InputError: A measure is missing or beyond its limit.
    """
    low, high = limits.std_ratio
    wanted = {
        "psnr_db": (limits.psnr_db, np.inf),
        "ssim": (limits.ssim, np.inf),
        "liver_bias_hu": (0.0, limits.bias_hu),
        "tumor_bias_hu": (0.0, limits.bias_hu),
        "std_ratio": (low, high),
    }
    if missing := sorted(set(wanted) - set(numbers)):
        raise InputError(
            f"The card of '{name}' does not say how well it reconstructs ({', '.join(missing)})",
            expected="an autoencoder that was measured when it was trained",
            remedy="Train it again",
        )
    failed = [
        f"{key} {numbers[key]:.2f} (allowed {least:g} to {most:g})"
        for key, (least, most) in wanted.items()
        if not least <= numbers[key] <= most
    ]
    if failed:
        raise InputError(
            f"The autoencoder '{name}' reconstructs too badly: {'; '.join(failed)}",
            expected="an autoencoder that keeps what a tumor changes",
            remedy="Train it longer, or with less compression (fewer levels or more latent channels)",
        )


def _scores(network: Autoencoder, study: WorkingStudy, window: Window) -> list[_Score]:
    box = _box(study, network.factor)
    liver, tumor = study.liver[box], study.tumor[box]
    spacing = study.grid.spacing_zyx_mm
    half_window_hu = (window.high_hu - window.low_hu) / 2
    scores = []
    for index in np.flatnonzero(study.presence):
        values = study.phases[index][box]
        genuine = window.normalize(values)
        made = _reconstruct(network, genuine)
        error_hu = (made - genuine) * half_window_hu
        inner = ndimage.binary_erosion(liver & ~tumor, iterations=BORDER)
        parenchyma = parenchyma_voxels(values, inner, spacing)
        deviations = [float(texture_of(image, parenchyma, spacing)[parenchyma].std()) for image in (made, genuine)]
        scores.append(
            _Score(
                square_error=float(np.square((made - genuine)[liver] / 2).mean()),
                ssim=float(_ssim((made + 1) / 2, (genuine + 1) / 2)[liver].mean()),
                liver_bias_hu=float(error_hu[liver & ~tumor].mean()),
                tumor_bias_hu=float(error_hu[tumor].mean()) if tumor.any() else float("nan"),
                std_ratio=deviations[0] / max(deviations[1], 1e-6),
            )
        )
    return scores


def _box(study: WorkingStudy, factor: int) -> tuple[slice, slice, slice]:
    """Return a box of whole cells, at most ``LARGEST_BOX`` wide, around the largest lesion or else around the liver."""
    inside = max(study.lesions, key=len) if study.lesions else np.argwhere(study.liver)
    middle = (inside.min(axis=0) + inside.max(axis=0)) // 2
    slices = []
    for center, size in zip(middle, study.liver.shape, strict=True):
        width = min(size, LARGEST_BOX) // factor * factor
        start = int(np.clip(center - width // 2, 0, size - width))
        slices.append(slice(start, start + width))
    return slices[0], slices[1], slices[2]


def _reconstruct(network: Autoencoder, image: FloatArray) -> FloatArray:
    """Return one normalized phase (Z, Y, X) after encoding and decoding, as the synthesizer does it."""
    device = next(network.parameters()).device
    made = network.decode(network.encode(torch.from_numpy(image[None, None]).to(device)))
    return np.asarray(made[0, 0].cpu().numpy(), dtype=np.float32)


def _ssim(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the structural similarity of two images of range 1 at each voxel."""

    def mean(values: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.asarray(ndimage.gaussian_filter(values.astype(np.float64), SSIM_SIGMA))

    one, other = mean(first), mean(second)
    variances = mean(first**2) - one**2 + mean(second**2) - other**2
    covariance = mean(first * second) - one * other
    low, high = SSIM_CONSTANTS
    return (2 * one * other + low) * (2 * covariance + high) / ((one**2 + other**2 + low) * (variances + high))
