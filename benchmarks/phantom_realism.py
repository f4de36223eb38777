"""Compares the phantom with a real CT: the same windows and layout, HU of the liver and its noise power spectrum.

Usage: python benchmarks/phantom_realism.py REAL.nii.gz OUT.png [--liver MASK] [--label 5] [--seed 12] [--preset medium]

The real CT is not part of this project; its picture may be published only where its license allows it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from Diff4MMLiTSLib.core.grid import Volume, resample
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.phantom.anatomy import Tissue
from Diff4MMLiTSLib.phantom.generator import Phantom, Variant, make_phantom
from Diff4MMLiTSLib.phantom.scanner import Preset

WINDOW_HU = (-115.0, 235.0)
PATCH_MM = 24.0
"""Side of the square patches of parenchyma whose power spectrum is averaged."""
BANDS = ((0.03, 0.1), (0.1, 0.2), (0.2, 0.35), (0.35, 0.6))
"""Spatial frequency bands, cycles per mm."""
TABLE_TISSUES = (Tissue.LIVER, Tissue.SPLEEN, Tissue.ARTERY, Tissue.CAVA, Tissue.KIDNEY_CORTEX, Tissue.MUSCLE)
TOTALSEGMENTATOR_LABELS = {"liver": 5, "spleen": 1, "artery": 52, "cava": 63, "muscle": 86}


def read(path: Path) -> Volume:
    """Return an image in LPS order."""
    return Volume.from_image(sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS"))


def power_by_band(ct: Volume, liver: NDArray[np.bool_]) -> list[float]:
    """Return the deviation in liver patches, then the share of in-plane variance in each frequency band."""
    side = max(8, round(PATCH_MM / ct.grid.spacing_mm[0]))
    room = ndimage.distance_transform_edt(liver, sampling=ct.grid.spacing_zyx_mm) > 0.75 * PATCH_MM
    centers = np.argwhere(room)
    rng = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(side, ct.grid.spacing_mm[0]),) * 2, indexing="ij"))
    total, deviations = np.zeros((side, side)), []
    values = np.asarray(ct.array, dtype=np.float64)
    for z, y, x in centers[rng.choice(len(centers), min(400, len(centers)), replace=False)]:
        patch = values[z, y - side // 2 : y - side // 2 + side, x - side // 2 : x - side // 2 + side]
        deviations.append(patch.std())
        total += np.abs(np.fft.fft2(patch - patch.mean())) ** 2
    shares = [total[(frequency >= low) & (frequency < high)].sum() / total.sum() for low, high in BANDS]
    return [float(np.median(deviations)), *map(float, shares)]


def interior_hu(ct: Volume, mask: NDArray[np.bool_]) -> str:
    """Return mean and deviation in the eroded mask."""
    inner = ndimage.binary_erosion(mask, iterations=1)
    values = np.asarray(ct.array)[inner if inner.any() else mask]
    return f"{values.mean():7.1f} ±{values.std():5.1f}" if values.size else "    –"


def draw(rows: dict[str, Volume], path: Path) -> None:
    """Draw axial, coronal and sagittal slices of several CTs, one row each, in the same window."""
    figure, axes = plt.subplots(len(rows), 6, figsize=(17, 2.9 * len(rows)), facecolor="black")
    for line, (name, ct) in zip(axes, rows.items(), strict=True):
        values, (dx, dy, dz) = np.asarray(ct.array), ct.grid.spacing_mm
        depth, height, width = values.shape
        slices = [(values[int(depth * part)], dy / dx) for part in (0.72, 0.55, 0.35)]
        slices += [(values[::-1, int(height * part)], dz / dx) for part in (0.42, 0.58)]
        slices += [(values[::-1, :, int(width * 0.3)], dz / dy)]
        for axis, (image, aspect) in zip(line, slices, strict=True):
            axis.imshow(image, cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1], aspect=aspect)
            axis.axis("off")
        line[0].set_title(name, color="white", fontsize=9, loc="left")
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=62, facecolor="black")


def main() -> None:
    """Make the phantom, print the tables, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--masks", type=Path, help="label map of the real CT")
    parser.add_argument("--liver-label", type=int, default=1)
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--preset", type=Preset, default=Preset.MEDIUM)
    parser.add_argument("--phase", type=Phase, default=Phase.PVP)
    arguments = parser.parse_args()
    real, started = read(arguments.real), time.monotonic()
    phantom = make_phantom(arguments.seed, preset=arguments.preset, variant=Variant.STANDARD, progress=silent())
    print(f"phantom {arguments.preset}: {time.monotonic() - started:.1f} s")
    draw({"real": real, "phantom": phantom.study.phases[arguments.phase]}, arguments.out)
    report_phantom(phantom, arguments.phase)
    if arguments.masks:
        report_real(real, read(arguments.masks), arguments.liver_label)


def report_phantom(phantom: Phantom, phase: Phase) -> None:
    """Print HU per tissue and the power spectrum of the phantom's liver in one phase."""
    ct = phantom.study.phases[phase]
    transform = None
    if phase is not Phase.PVP:
        backward = sitk.InvertDisplacementField(phantom.displacement[phase])  # rough, enough for eroded masks
        transform = sitk.DisplacementFieldTransform(sitk.Cast(backward, sitk.sitkVectorFloat64))
    organs = np.asarray(resample(phantom.organs, ct.grid, transform=transform, linear=False).array)
    for tissue in TABLE_TISSUES:
        print(f"phantom {tissue.name.lower():15s} {interior_hu(ct, organs == tissue)}")
    print("phantom liver patches: deviation, share per band", np.round(power_by_band(ct, organs == Tissue.LIVER), 3))


def report_real(ct: Volume, masks: Volume, liver_label: int) -> None:
    """Print the same of the real CT."""
    labels = np.asarray(masks.array)
    known = TOTALSEGMENTATOR_LABELS if liver_label == TOTALSEGMENTATOR_LABELS["liver"] else {"liver": liver_label}
    for name, label in known.items():
        print(f"real    {name:15s} {interior_hu(ct, labels == label)}")
    print("real    liver patches: deviation, share per band", np.round(power_by_band(ct, labels == liver_label), 3))


if __name__ == "__main__":
    main()
