"""Measures stage 2 on real CTs: random holes are cut into livers and filled by a model that saw phantoms only.

Usage:
  python benchmarks/inpainting_real.py --model MODEL --case FOLDER PHASE LABEL [--case …] --out DIR [--holes 12]

FOLDER has ct.nii.gz and seg.nii.gz (liver = LABEL). Per hole: the median against that of the parenchyma around it, the
ratio of deviations, the difference of neighbors' correlations, the steps at the border; goals: within 8 HU, 30 %, 0.15,
no seam. The same measures of the genuine CT at the same places say what is usual. Writes inpainting_real.md and a
picture per case.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from Diff4MMLiTSLib.core.config import InpaintConfig, TumorMaskConfig
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.grid import Grid, Volume
from Diff4MMLiTSLib.core.parenchyma import parenchyma_voxels, seam_ratio, texture_of
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study import Mask, MaskSource, RegisteredStudy
from Diff4MMLiTSLib.core.tumor_mask import dilate_mm, distance_mm, draw_tumors, inpainting_mask
from Diff4MMLiTSLib.stages.inpainting import NormalCTGenerator

HOLE = TumorMaskConfig(tumors=1, diameter_mm=(12.0, 36.0), minimum_inside=0.6, tries=40)
MARGIN_MM = 5.0
GAP_MM = 16.0
SHELL_MM = 20.0
"""Parenchyma within this distance of a hole is its neighborhood."""
GOALS = {"residual_hu": 8.0, "std": 0.3, "correlation": 0.15, "seam": 0.3}
"""Of the correlation a difference: noise of thick slices has next to none, and its ratio would mean nothing."""

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Measures:
    """A hole against the parenchyma around it; ratios are 1.0 and differences 0 when nothing can be seen.

    Args:
        residual_hu: Difference of the medians.
        std: Ratio of the texture's deviations.
        correlation: Difference of the correlations of neighboring voxels.
        seam: Steps at the border against those in the parenchyma.
    """

    residual_hu: float
    std: float
    correlation: float
    seam: float

    def reaches(self) -> dict[str, bool]:
        """Return which goals are reached."""
        values = {"residual_hu": abs(self.residual_hu), "std": abs(self.std - 1)}
        values |= {"correlation": abs(self.correlation), "seam": self.seam - 1}
        return {name: value <= GOALS[name] for name, value in values.items()}


def read_case(folder: Path, phase: Phase, label: int) -> RegisteredStudy:
    """Return a real CT as a study of one phase, with its liver."""
    ct = sitk.DICOMOrient(sitk.ReadImage(str(folder / "ct.nii.gz"), sitk.sitkInt16), "LPS")
    liver = sitk.DICOMOrient(sitk.ReadImage(str(folder / "seg.nii.gz")), "LPS") == label
    mask = Mask(Volume(sitk.GetArrayFromImage(liver), Grid.of_image(ct)), MaskSource.ANNOTATION)
    return RegisteredStudy(folder.name, {phase: Volume.from_image(ct)}, phase, liver=mask)


def cut_holes(study: RegisteredStudy, count: int, rng: np.random.Generator) -> BoolArray:
    """Return random tumor shapes inside the liver, (Z, Y, X)."""
    assert study.liver is not None  # read_case gives it one
    holes = np.zeros(study.grid.shape, dtype=bool)
    for _ in range(count):
        try:
            taken = dilate_mm(holes, study.grid, GAP_MM)
            holes |= draw_tumors(study.liver.array, study.grid, config=HOLE, rng=rng, obstacles=taken).mask
        except InputError:  # no room for another one of this size
            continue
    return holes


def measure(values: FloatArray, region: BoolArray, liver: BoolArray, grid: Grid) -> Iterator[Measures]:
    """Yield the measures of each hole of a region."""
    labels, count = ndimage.label(region)
    interior = np.asarray(ndimage.binary_erosion(liver))
    for number in range(1, count + 1):
        hole = (labels == number) & interior
        around = interior & ~region & (distance_mm(labels == number, grid, SHELL_MM) <= SHELL_MM)
        known = parenchyma_voxels(values, around, grid.spacing_zyx_mm)
        alike = parenchyma_voxels(values, hole | known, grid.spacing_zyx_mm) & hole
        if alike.sum() < 50 or known.sum() < 50:
            continue
        own, other = (texture_of(values, part, grid.spacing_zyx_mm) for part in (alike, known))
        yield Measures(
            float(np.median(values[hole]) - np.median(values[known])),
            float(own[alike].std() / other[known].std()),
            _correlation(own, alike) - _correlation(other, known),
            seam_ratio(values, hole, known),
        )


def report(name: str, rows: list[Measures]) -> str:
    """Return one line of the table: median and worst of each measure, and how many holes reach its goal."""
    parts = []
    for measure_name in GOALS:
        values = np.array([getattr(row, measure_name) for row in rows])
        worst = values[np.abs(values - (measure_name in ("std", "seam"))).argmax()]
        reached = sum(row.reaches()[measure_name] for row in rows)
        parts.append(f"{np.median(values):.2f} ({worst:.2f}), {reached}/{len(rows)}")
    return f"| {name} | " + " | ".join(parts) + " |\n"


def draw(before: FloatArray, after: FloatArray, region: BoolArray, path: Path) -> None:
    """Draw the three axial slices with the largest filled areas: the CT, and the CT with the filled holes."""
    area = region.sum(axis=(1, 2))
    slices = sorted(np.argsort(area)[::-1][:: max(1, int((area > 0).sum()) // 6)][:3])
    figure, axes = plt.subplots(2, len(slices), figsize=(3.2 * len(slices), 5.4), squeeze=False)
    level = float(np.median(before[region]))
    for column, index in enumerate(slices):
        for line, (title, values) in enumerate((("CT", before), ("holes filled", after))):
            axis = axes[line, column]
            axis.imshow(values[index], cmap="gray", vmin=level - 120, vmax=level + 120)
            if line:
                axis.contour(region[index], [0.5], colors="orange", linewidths=0.4)
            axis.set(xticks=[], yticks=[], title=title)
    figure.tight_layout(pad=0.4, h_pad=2.0)
    figure.savefig(path, dpi=110)


def _correlation(texture: FloatArray, region: BoolArray) -> float:
    both = region[..., 1:] & region[..., :-1]
    covariance = (texture[..., :-1][both] * texture[..., 1:][both]).mean()
    return float(covariance / max(float(texture[region].var()), 1e-6))


def main() -> None:
    """Fill holes in every case and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--case", action="append", nargs=3, required=True, metavar=("FOLDER", "PHASE", "LABEL"))
    parser.add_argument("--holes", type=int, default=12)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    generator = NormalCTGenerator.load(arguments.model)
    text = "| case | residual HU | deviation | correlation | seam |\n|---|---|---|---|---|\n"
    for folder, phase, label in arguments.case:
        study = read_case(Path(folder), Phase(phase), int(label))
        assert study.liver is not None  # read_case gives it one
        holes = cut_holes(study, arguments.holes, np.random.default_rng(0))
        tumor = Mask(Volume(holes.astype(np.uint8), study.grid), MaskSource.ANNOTATION)
        config = InpaintConfig(margin_mm=MARGIN_MM)
        rng = np.random.default_rng(0)
        normal = generator.inpaint(replace(study, tumor=tumor), config=config, rng=rng, progress=silent())
        liver = study.liver.array
        region = inpainting_mask(holes, liver, study.grid, margin_mm=MARGIN_MM, rim_mm=config.rim_mm)
        before, after = (np.asarray(one.reference.array, dtype=np.float32) for one in (study, normal.study))
        text += report(f"{study.study_id} {phase}, filled", list(measure(after, region, liver, study.grid)))
        text += report(f"{study.study_id} {phase}, genuine", list(measure(before, region, liver, study.grid)))
        draw(before, after, region, arguments.out / f"{study.study_id}.png")
        print(text, flush=True)
    (arguments.out / "inpainting_real.md").write_text(text)


if __name__ == "__main__":
    main()
