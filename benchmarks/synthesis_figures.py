"""Draws the figures of docs/synthesis.md.

Usage:
  python benchmarks/synthesis_figures.py families --registered COHORT --normal COHORT --out FILE
      [--model MODEL] [--family hcc hypovascular cyst hemangioma] [--lesions 4]
  python benchmarks/synthesis_figures.py real --case FOLDER PHASE LABEL --vessel LABEL --out FILE [--model MODEL]

The first shows, per family, true lesions of phantoms beside synthetic ones in the same masks. For the second, FOLDER
has ct.nii.gz and seg.nii.gz (liver and a vessel by their labels); the CT is taken for free of tumor, and gets tumors of
several sizes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from inpainting_real import read_case
from matplotlib.axes import Axes
from scipy import ndimage
from synthesis_cases import BoolArray, Case, FloatArray, cases_of
from synthesis_peers import images_of

from Diff4MMLiTSLib.core.config import SynthesizeConfig, TumorMaskConfig
from Diff4MMLiTSLib.core.enhancement import TumorFamily
from Diff4MMLiTSLib.core.phases import ALL_PHASES, Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study import TUMOR_FREE, NormalStudy, RegisteredStudy
from Diff4MMLiTSLib.stages.synthesis import MultimodalCTSynthesizer

MODELS = Path(__file__).parents[1] / "Diff4MMLiTS" / "Resources" / "Models"
HALF_MM = 48.0
"""Half the width of a picture."""
HALF_WINDOW_HU = 90.0
SIZES = (
    ("small", TumorFamily.HYPOVASCULAR, (9.0, 11.0), 0.95),
    ("medium", TumorFamily.CYST, (18.0, 22.0), 0.95),
    ("large", TumorFamily.HYPOVASCULAR, (36.0, 42.0), 0.9),
    ("at the capsule", TumorFamily.HYPOVASCULAR, (22.0, 26.0), 0.6),
)
"""Name, family, range of diameters in mm, and the part of the shape that must lie in the liver."""
VESSEL_TUMOR_MM = 20.0
"""Diameter of the tumor at a vessel."""


def draw_families(chosen: Sequence[Case], model: MultimodalCTSynthesizer, file: Path) -> None:
    """Draw true lesions on the left and synthetic ones in the same masks on the right."""
    widths = [1.0] * 4 + [0.3] + [1.0] * 4
    figure, axes = plt.subplots(len(chosen), 9, figsize=(13.5, 1.55 * len(chosen)), width_ratios=widths)
    for row, (case, places) in enumerate(zip(chosen, axes, strict=True)):
        config = SynthesizeConfig(family=case.family, redraws=2)
        rng = np.random.default_rng(row)
        pair = model.synthesize(case.normal, tumor=case.tumor, config=config, rng=rng, progress=silent())
        for column, phases in ((0, case.study.phases), (5, pair.study.phases)):
            for index, phase in enumerate(ALL_PHASES):
                _show(places[column + index], images_of(phases).get(phase), case.mask, case)
        places[0].set_ylabel(str(case.family), fontsize=9)
        places[4].axis("off")
    for index, phase in enumerate(ALL_PHASES):
        axes[0, index].set_title(f"true, {phase}", fontsize=9)
        axes[0, 5 + index].set_title(f"synthetic, {phase}", fontsize=9)
    _save(figure, file)


def draw_real(study: RegisteredStudy, vessel: BoolArray, model: MultimodalCTSynthesizer, file: Path) -> None:
    """Draw a real CT before and after tumors of several sizes grew in it."""
    (phase,) = study.phases
    normal = NormalStudy(replace(study, tumor=TUMOR_FREE))
    tumors = [
        (name, family, TumorMaskConfig(diameter_mm=diameter_mm, minimum_inside=inside))
        for name, family, diameter_mm, inside in SIZES
    ]
    tumors.append(("at a vessel", TumorFamily.HYPOVASCULAR, _beside(vessel, study)))
    figure, axes = plt.subplots(2, len(tumors), figsize=(3 * len(tumors), 6.2))
    for index, (name, family, tumor) in enumerate(tumors):
        config = SynthesizeConfig(family=family, tumor=tumor)
        rng = np.random.default_rng(index)
        pair = model.synthesize(normal, config=config, rng=rng, progress=silent()).study
        assert pair.tumor_mask is not None
        for row, shown in enumerate((study, pair)):
            values = images_of(shown.phases)[phase]
            _panel(axes[row, index], values, pair.tumor_mask.array, _level(study, phase), study.grid.spacing_mm)
        quality = pair.qa["synthesize"]
        axes[0, index].set_title(f"{name}, {family}", fontsize=9)
        print(name, quality.verdict, quality.reasons, dict(quality.phases[phase].measures))
    axes[0, 0].set_ylabel("the patient's CT", fontsize=9)
    axes[1, 0].set_ylabel("SYNTHETIC tumor", fontsize=9)
    _save(figure, file)


def _beside(vessel: BoolArray, study: RegisteredStudy) -> TumorMaskConfig:
    """Return a tumor that touches the vessel and lies as deep in the liver as it can."""
    assert study.liver is not None
    spacing = study.grid.spacing_zyx_mm
    free = (study.liver.array > 0) & ~vessel
    depth_mm = ndimage.distance_transform_edt(free, sampling=spacing)
    away_mm = ndimage.distance_transform_edt(~vessel, sampling=spacing)
    touching = np.abs(away_mm - VESSEL_TUMOR_MM / 2) < max(spacing)
    z, y, x = np.unravel_index(int(np.where(touching, depth_mm, 0).argmax()), depth_mm.shape)
    center = study.grid.to_world(np.array([x, y, z], dtype=float))
    return TumorMaskConfig(
        center_mm=(float(center[0]), float(center[1]), float(center[2])),
        diameter_mm=(VESSEL_TUMOR_MM, VESSEL_TUMOR_MM),
        minimum_inside=0.7,
    )


def _largest(cases: Sequence[Case], family: TumorFamily, lesions: int) -> list[Case]:
    """Return the lesions of a family, largest first."""
    found = [case for case in cases if case.family is family]
    return sorted(found, key=lambda case: -int(case.mask.sum()))[:lesions]


def _show(axes: Axes, values: FloatArray | None, mask: BoolArray, case: Case) -> None:
    if values is None:
        axes.axis("off")
        return
    level = float(np.median(values[case.liver]))
    _panel(axes, values, mask, level, case.study.grid.spacing_mm)


def _panel(
    axes: Axes, values: FloatArray, mask: BoolArray, level_hu: float, spacing_mm: tuple[float, float, float]
) -> None:
    """Draw the slice with most tumor, around the tumor."""
    z = int(np.argmax(mask.sum(axis=(1, 2))))
    y, x = (int(np.rint(part.mean())) for part in np.nonzero(mask[z]))
    half = [int(HALF_MM / spacing) for spacing in (spacing_mm[1], spacing_mm[0])]
    padded = np.pad(values[z], [(half[0], half[0]), (half[1], half[1])], constant_values=-1000)
    cut = padded[y : y + 2 * half[0], x : x + 2 * half[1]]
    low, high = level_hu - HALF_WINDOW_HU, level_hu + HALF_WINDOW_HU
    axes.imshow(cut, cmap="gray", vmin=low, vmax=high, extent=(-HALF_MM, HALF_MM, HALF_MM, -HALF_MM))
    axes.set_xticks([])
    axes.set_yticks([])


def _level(study: RegisteredStudy, phase: Phase) -> float:
    assert study.liver is not None
    return float(np.median(study.phases[phase].array[study.liver.array]))


def _save(figure: plt.Figure, file: Path) -> None:
    figure.tight_layout(pad=0.3)
    figure.savefig(file, dpi=80)
    plt.close(figure)


def main() -> None:
    """Draw one of the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("figure", choices=["families", "real"])
    parser.add_argument("--model", type=Path, default=MODELS / "phantom-synthesizer")
    parser.add_argument("--registered", type=Path)
    parser.add_argument("--normal", type=Path)
    parser.add_argument("--family", type=TumorFamily, nargs="+", default=list(TumorFamily))
    parser.add_argument("--lesions", type=int, default=4, help="of each family")
    parser.add_argument("--case", nargs=3, metavar=("FOLDER", "PHASE", "LABEL"))
    parser.add_argument("--vessel", type=int, help="label of a vessel in seg.nii.gz")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    model = MultimodalCTSynthesizer.load(options.model)
    if options.figure == "families":
        cases = list(cases_of(options.registered, options.normal))
        chosen = [case for family in options.family for case in _largest(cases, family, options.lesions)]
        draw_families(chosen, model, options.out)
    else:
        folder, phase, label = options.case
        vessel = read_case(Path(folder), Phase(phase), options.vessel).liver
        assert vessel is not None
        draw_real(read_case(Path(folder), Phase(phase), int(label)), vessel.array > 0, model, options.out)


if __name__ == "__main__":
    main()
