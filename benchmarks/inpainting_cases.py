"""Registered phantoms with random holes in their healthy liver, and the truth: the cases of ``inpainting.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from Diff4MMLiTSLib.core.config import DemoConfig, RegisterConfig, TumorMaskConfig, load_config
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.grid import Volume, resample
from Diff4MMLiTSLib.core.images import read_volume, write_volume
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study import Mask, MaskSource, RegisteredStudy, without_rejected
from Diff4MMLiTSLib.core.study_io import read_registered, write_study
from Diff4MMLiTSLib.core.tumor_mask import dilate_mm, draw_tumors, inpainting_mask
from Diff4MMLiTSLib.phantom.generator import Variant, make_phantom
from Diff4MMLiTSLib.phantom.scanner import Preset
from Diff4MMLiTSLib.stages.registration import register_study

RECIPES = Path(__file__).parents[1] / "Diff4MMLiTS" / "Resources" / "Recipes"
MARGIN_MM = 5.0
HOLES = 8
HOLE = TumorMaskConfig(tumors=1, diameter_mm=(14.0, 36.0), minimum_inside=0.6, tries=40)
GAP_MM = 16.0
"""Between holes: more than two margins, so that each has its own parenchyma around it."""

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Case:
    """A registered phantom with holes, and the truth.

    Args:
        study: Its tumor mask holds its own tumors and the holes.
        truth: Noise-free tumor-free phases, brought to the study's grid by the estimated transforms.
        holes: The healthy part of the region, (Z, Y, X): there the CT itself is genuine.
        region: All that is filled, (Z, Y, X).
    """

    study: RegisteredStudy
    truth: Mapping[Phase, Volume]
    holes: BoolArray
    region: BoolArray

    @property
    def liver(self) -> BoolArray:
        """The liver without its outermost voxels, (Z, Y, X)."""
        assert self.study.liver is not None
        return np.asarray(ndimage.binary_erosion(self.study.liver.array))


def load_case(seed: int, preset: Preset, folder: Path) -> Case:
    """Return a case from its folder; it is made when it is not there."""
    variant = list(Variant)[seed % 2]
    at = folder / f"{variant}-{seed}"
    if not (at / "study" / "study.json").exists():
        _make_case(seed, preset, variant, at)
    study = without_rejected(read_registered(at / "study"))
    assert study.liver is not None and study.tumor_mask is not None  # phantoms have both
    own = read_volume(at / "own.nrrd", is_ct=False).array > 0
    truth = {phase: read_volume(at / f"{phase}.nrrd") for phase in study.phases}
    region = inpainting_mask(study.tumor_mask.array, study.liver.array, study.grid, margin_mm=MARGIN_MM, rim_mm=2.0)
    return Case(study, truth, region & ~dilate_mm(own, study.grid, 12.0), region)


def _make_case(seed: int, preset: Preset, variant: Variant, at: Path) -> None:
    phantom = make_phantom(seed, preset=preset, variant=variant, progress=silent())
    study = register_study(phantom.study, config=_registration(preset), progress=silent())
    assert study.liver is not None
    own = study.tumor_mask.array if study.tumor_mask else np.zeros(study.grid.shape, dtype=bool)
    mask = own | _random_holes(study.liver.array, own, study, np.random.default_rng(seed))
    for phase, volume in phantom.normal.items():
        brought = resample(volume, study.grid, transform=study.transforms.get(phase), outside=-1000)
        _write(brought, at / f"{phase}.nrrd")
    _write(Volume(own.astype(np.uint8), study.grid), at / "own.nrrd")
    tumor = Mask(Volume(mask.astype(np.uint8), study.grid), MaskSource.PHANTOM)
    write_study(replace(study, tumor=tumor), at / "study")


def _registration(preset: Preset) -> RegisterConfig:
    """Return the settings of registration; voxels of 3 mm need no finer ones than the demo's."""
    if preset is not Preset.SMALL:
        return RegisterConfig()
    return load_config(DemoConfig, RECIPES / "demo.toml").recipe.register_studies


def _write(volume: Volume, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_volume(volume, file)


def _random_holes(liver: BoolArray, own: BoolArray, study: RegisteredStudy, rng: np.random.Generator) -> BoolArray:
    holes = np.zeros_like(liver)
    for _ in range(HOLES):
        taken = dilate_mm(own | holes, study.grid, GAP_MM)
        try:
            holes |= draw_tumors(liver, study.grid, config=HOLE, rng=rng, obstacles=taken).mask
        except InputError:  # no room for another one of this size
            continue
    return holes
