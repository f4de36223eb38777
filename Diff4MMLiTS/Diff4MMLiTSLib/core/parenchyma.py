"""The patient's own parenchyma: its smooth level, its texture, and what a filled region must share with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

UNSCANNED_HU = -900.0
"""Below this a voxel of a liver lies outside the phase's scanned field; no tumor holds air."""
VESSEL_HU = 25.0
"""Where the smoothed liver is farther than this from its median, there are vessels, ducts, lesions or fat."""
VESSEL_SIGMA_MM = 1.5
"""Smoothing before that: takes the noise (10 to 30 HU) away and keeps vessels of 3 mm and more."""
LEVEL_SIGMA_MM = 12.0
"""Scale of the smooth level: wider than vessels, narrower than perfusion differences between segments."""
TEXTURE_SIGMA_MM = 4.0
"""What varies faster than this is texture: scanner noise and fine vessels."""
NOISE_SIGMA_MM = 12.0
"""What varies faster than this is supplied to a fill. A narrower filter would lose the slow part of the noise."""
LARGE_VESSEL_MM = 6.0
"""Diameter from which tumors displace vessels rather than grow through them."""
LARGEST_LAG = 8
"""Voxels beyond which noise is taken as uncorrelated; CT noise correlates over about one."""
SHELL_VOXELS = 3
"""Width of the shell of known texture that the noise must meet; CT noise correlates over one to two voxels."""
NUGGET = 0.05
"""Part of the variance that counts as uncorrelated: keeps the system of equations well conditioned."""
CONDITIONING_STEPS = 15
BANDS = 4
"""Spectra are compared in bands of equal width, up to the highest frequency along the axis of the largest voxels."""
FEWEST_VOXELS = 200
"""Below this many known voxels, a spectrum is not measured."""

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class TextureDistance:
    """A region against the parenchyma around it.

    Args:
        residual_hu: Median of the region minus median of the parenchyma.
        std_ratio: Ratio of the standard deviations.
        correlation_difference: Difference of the correlation of neighboring voxels.
        spectrum_difference: Mean |ln ratio| of the parts of the power in ``BANDS`` bands of frequency; 0 for equal
            spectra, about 0.25 between two regions of one liver (docs/inpainting.md).
    """

    residual_hu: float
    std_ratio: float
    correlation_difference: float
    spectrum_difference: float


def parenchyma_voxels(values: FloatArray, liver: BoolArray, spacing_zyx_mm: Spacing) -> BoolArray:
    """Return the liver's voxels that are parenchyma: scanned, without vessels and the surface, (Z, Y, X)."""
    liver = liver & (values > UNSCANNED_HU)
    if not liver.any():
        return liver
    smooth = without_noise(values, spacing_zyx_mm)
    return np.asarray(liver & (np.abs(smooth - np.median(values[liver])) <= VESSEL_HU))


def parenchyma_level(values: FloatArray, known: BoolArray, spacing_zyx_mm: Spacing) -> FloatArray:
    """Return the smooth level of the parenchyma everywhere, also where it is not known.

    Args:
        values: One phase, (Z, Y, X), HU.
        known: Liver that is neither tumor nor to be filled, (Z, Y, X).
        spacing_zyx_mm: Voxel size.

    Returns:
        (Z, Y, X), HU: a Gaussian mean of the known parenchyma, drawn to its median where none is near.
    """
    parenchyma = parenchyma_voxels(values, known, spacing_zyx_mm)
    if not parenchyma.any():
        return np.zeros_like(values, dtype=np.float32)
    median = float(np.median(values[parenchyma]))
    weight = _wide_mean(parenchyma.astype(np.float32), spacing_zyx_mm)
    total = _wide_mean(np.where(parenchyma, values - median, 0).astype(np.float32), spacing_zyx_mm)
    prior = 0.02  # as much weight as a fiftieth of the neighborhood
    return np.asarray(median + total / (np.maximum(weight, 0) + prior), dtype=np.float32)


def texture_of(
    values: FloatArray, region: BoolArray, spacing_zyx_mm: Spacing, *, sigma_mm: float = TEXTURE_SIGMA_MM
) -> FloatArray:
    """Return what varies fast inside a region: the values minus their local mean in the region; 0 outside."""
    sigmas = [sigma_mm / spacing for spacing in spacing_zyx_mm]
    inside = region.astype(np.float32)
    weight = ndimage.gaussian_filter(inside, sigmas, mode="constant")
    mean = ndimage.gaussian_filter(np.where(region, values, 0).astype(np.float32), sigmas, mode="constant")
    return np.asarray(np.where(region, values - mean / np.maximum(weight, 1e-6), 0), dtype=np.float32)


def without_noise(values: FloatArray, spacing_zyx_mm: Spacing) -> FloatArray:
    """Return an image smoothed so far that noise is gone and vessels of 3 mm and more are left, (Z, Y, X)."""
    sigmas = [VESSEL_SIGMA_MM / spacing for spacing in spacing_zyx_mm]
    return np.asarray(ndimage.gaussian_filter(np.asarray(values, dtype=np.float32), sigmas, truncate=2.0))


def missing_texture(
    values: FloatArray,
    region: BoolArray,
    parenchyma: BoolArray,
    *,
    spacing_zyx_mm: Spacing,
    rng: np.random.Generator,
    borrowed: FloatArray | None = None,
) -> FloatArray:
    """Return the texture that a region lacks against the parenchyma.

    It is as strong as the power that the parenchyma's texture has beyond the region's, all frequencies alike, so what
    resampling and a smooth network have lost comes back.

    Args:
        values: One phase with its region filled, (Z, Y, X), HU.
        region: What was filled.
        parenchyma: Known parenchyma near it.
        spacing_zyx_mm: Voxel size.
        rng: Source of the noise.
        borrowed: Texture to use, HU, strong as the parenchyma's (``healthy_liver.borrowed_texture``); where it is NaN,
            and everywhere without it, Gaussian noise of the parenchyma's spectrum is drawn.

    Returns:
        (Z, Y, X), HU; 0 outside the region, and everywhere when there is too little to measure. At the border it
        goes on as the patient's own texture begins, so that there is no seam.

    Source: Chiles and Delfiner, "Geostatistics" (2012), section 7.3, for conditioning a simulation on what is known.
    """
    if int(parenchyma.sum()) < FEWEST_VOXELS or not region.any():
        return np.zeros_like(values, dtype=np.float32)
    texture = texture_of(values, parenchyma, spacing_zyx_mm, sigma_mm=NOISE_SIGMA_MM)
    spectrum = _spectrum(texture, parenchyma)
    white = np.fft.rfftn(rng.standard_normal(values.shape).astype(np.float32))
    source = np.fft.irfftn(white * np.sqrt(spectrum), s=values.shape)
    if borrowed is not None:
        source = np.where(np.isnan(borrowed), source, borrowed)
    part = _lacking_part(values, region, parenchyma, spacing_zyx_mm)
    strength = np.sqrt(part)
    continued = _continue(
        strength * source, strength * texture, region=region, parenchyma=parenchyma, spectrum=part * spectrum
    )
    return np.asarray(np.where(region, continued, 0), dtype=np.float32)


def _lacking_part(values: FloatArray, region: BoolArray, parenchyma: BoolArray, spacing_zyx_mm: Spacing) -> float:
    """Return which part of the power of the parenchyma's texture a region lacks, 0 to 1.

    Only what varies fast tells: slower, a fill without any texture has the network's own unevenness.
    """
    level = float(np.median(values[parenchyma]))
    measured = region & (np.abs(without_noise(values, spacing_zyx_mm) - level) <= VESSEL_HU)  # no surface, no vessel
    if not measured.any():
        return 1.0
    wanted, found = (float(texture_of(values, part, spacing_zyx_mm)[part].var()) for part in (parenchyma, measured))
    return min(1.0, max(0.0, 1.0 - found / max(wanted, 1e-3)))


def compare_texture(
    values: FloatArray, region: BoolArray, parenchyma: BoolArray, spacing_zyx_mm: Spacing
) -> TextureDistance:
    """Measure a region against the parenchyma around it; both must not be empty."""
    own, other = (texture_of(values, part, spacing_zyx_mm) for part in (region, parenchyma))
    deviation = max(float(other[parenchyma].std()), 1e-3)
    return TextureDistance(
        residual_hu=float(np.median(values[region]) - np.median(values[parenchyma])),
        std_ratio=float(own[region].std()) / deviation,
        correlation_difference=_neighbor_correlation(own, region) - _neighbor_correlation(other, parenchyma),
        spectrum_difference=_spectrum_difference(
            _spectrum(own, region), _spectrum(other, parenchyma), region.shape, spacing_zyx_mm
        ),
    )


def seam_ratio(values: FloatArray, region: BoolArray, parenchyma: BoolArray) -> float:
    """Return the mean step across the border of a region, as a multiple of that inside the parenchyma; 1.0 = no seam.

    Args:
        values: One phase, (Z, Y, X), HU.
        region: (Z, Y, X).
        parenchyma: Known parenchyma outside the region; steps are taken from the region into it.
    """
    across, within = [], []
    for axis in range(3):
        step = np.abs(np.diff(values, axis=axis))
        first, second = ((slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None)))
        crossing = (region[first] & parenchyma[second]) | (parenchyma[first] & region[second])
        across.append(step[crossing])
        within.append(step[parenchyma[first] & parenchyma[second]])
    steps, usual = np.concatenate(across), np.concatenate(within)
    if not steps.size or not usual.size:
        return 1.0
    return float(steps.mean() / max(float(usual.mean()), 1e-3))


def large_vessels(values: FloatArray, liver: BoolArray, spacing_zyx_mm: Spacing) -> BoolArray:
    """Return enhanced vessels of ``LARGE_VESSEL_MM`` and more in one phase, (Z, Y, X); none without contrast."""
    if not liver.any():
        return liver
    smooth = without_noise(values, spacing_zyx_mm)
    bright = liver & (smooth > np.median(values[liver]) + VESSEL_HU)
    reach = LARGE_VESSEL_MM / 2 + VESSEL_SIGMA_MM  # smoothing has widened them
    core = np.asarray(ndimage.distance_transform_edt(bright, sampling=spacing_zyx_mm) > reach)
    if not core.any():
        return core
    return np.asarray(bright & (ndimage.distance_transform_edt(~core, sampling=spacing_zyx_mm) <= reach))


def _wide_mean(values: FloatArray, spacing_zyx_mm: Spacing) -> FloatArray:
    """Return a Gaussian mean of LEVEL_SIGMA_MM as two box means, whose time does not grow with their width."""
    widths = [max(1, round(np.sqrt(6.0) * LEVEL_SIGMA_MM / spacing)) for spacing in spacing_zyx_mm]
    once = ndimage.uniform_filter(values, widths, mode="constant")
    return np.asarray(ndimage.uniform_filter(once, widths, mode="constant"), dtype=np.float32)


def _spectrum(texture: FloatArray, region: BoolArray) -> NDArray[np.float64]:
    """Return the power spectrum of a texture known in a region, from its autocovariance (Wiener and Khinchin)."""
    padded = [size + LARGEST_LAG for size in texture.shape]
    products = np.fft.irfftn(np.abs(np.fft.rfftn(texture, padded)) ** 2, s=padded)
    pairs = np.fft.irfftn(np.abs(np.fft.rfftn(region.astype(np.float32), padded)) ** 2, s=padded)
    covariance = np.zeros(texture.shape)
    lags = [
        np.arange(-min(LARGEST_LAG, (size - 1) // 2), min(LARGEST_LAG, (size - 1) // 2) + 1) for size in region.shape
    ]
    at = np.ix_(*lags)
    taper = np.ones([len(lag) for lag in lags])
    for axis, lag in enumerate(lags):
        window = 0.5 + 0.5 * np.cos(np.pi * lag / (len(lag) // 2 + 1))
        taper = taper * window.reshape([-1 if other == axis else 1 for other in range(3)])
    covariance[at] = products[at] / np.maximum(pairs[at], 1.0) * taper
    return np.maximum(np.fft.rfftn(covariance).real, 0.0)


def _spectrum_difference(
    first: NDArray[np.float64], second: NDArray[np.float64], shape: tuple[int, ...], spacing_zyx_mm: Spacing
) -> float:
    """Return how the power of two half spectra of an image of ``shape`` is spread over the bands of frequency."""
    axes = [np.fft.fftfreq(size, spacing) for size, spacing in zip(shape[:2], spacing_zyx_mm[:2], strict=True)]
    axes.append(np.fft.rfftfreq(shape[2], spacing_zyx_mm[2]))
    squares = [
        axis.reshape([-1 if other == index else 1 for other in range(3)]) ** 2 for index, axis in enumerate(axes)
    ]
    frequency = np.sqrt(sum(squares))
    highest = 0.5 / max(spacing_zyx_mm)
    band = np.minimum((frequency / highest * BANDS).astype(int), BANDS)  # the last bin holds the corners, uncompared
    parts = [np.bincount(band.ravel(), spectrum.ravel(), BANDS + 1)[:BANDS] for spectrum in (first, second)]
    shares = [np.maximum(part / max(float(part.sum()), 1e-9), 1e-3) for part in parts]
    return float(np.abs(np.log(shares[0] / shares[1])).mean())


def _continue(
    noise: NDArray[np.float64],
    texture: FloatArray,
    *,
    region: BoolArray,
    parenchyma: BoolArray,
    spectrum: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return noise of a spectrum, changed so that it meets the known texture beside a region.

    What is added is the best linear prediction of (known texture - noise) from the shell into the region: the
    covariance times the solution of (covariance + nugget) x = difference on the shell, by conjugate gradients.
    """
    shell = ndimage.binary_dilation(region, iterations=SHELL_VOXELS) & parenchyma

    def covariance(field: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.fft.irfftn(np.fft.rfftn(field) * spectrum, s=field.shape))

    nugget = NUGGET * float(spectrum.mean())
    residual = np.where(shell, texture - noise, 0.0)
    solution, direction = np.zeros_like(noise), residual
    power = float((residual**2).sum())
    for _ in range(CONDITIONING_STEPS):
        image = np.where(shell, covariance(direction), 0.0) + nugget * direction
        step = power / max(float((direction * image).sum()), 1e-12)
        solution, residual = solution + step * direction, residual - step * image
        before, power = power, float((residual**2).sum())
        direction = residual + power / max(before, 1e-12) * direction
    return np.asarray(noise + covariance(solution))


def _neighbor_correlation(texture: FloatArray, region: BoolArray) -> float:
    """Return the correlation of voxels that are neighbors along x, both in the region."""
    both = region[..., 1:] & region[..., :-1]
    if not both.any():
        return 0.0
    left, right = texture[..., :-1][both], texture[..., 1:][both]
    return float((left * right).mean() / max(float(texture[region].var()), 1e-6))
