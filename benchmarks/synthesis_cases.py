"""The cases of ``synthesis.py``: registered phantoms, the same inpainted, and their lesions one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from inpainting_cases import RECIPES
from numpy.typing import NDArray
from scipy import ndimage

from Diff4MMLiTSLib.core.config import DemoConfig, DenoiserTrainConfig, InpaintConfig, RegisterConfig, load_config
from Diff4MMLiTSLib.core.enhancement import TumorFamily
from Diff4MMLiTSLib.core.grid import Volume
from Diff4MMLiTSLib.core.lesions import TOUCHING
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study import Mask, MaskSource, NormalStudy, RegisteredStudy, without_rejected
from Diff4MMLiTSLib.core.study_io import find_studies, read_normal, read_registered, write_normal, write_study
from Diff4MMLiTSLib.pairing import paired_with_normal
from Diff4MMLiTSLib.phantom.generator import Variant, make_phantom
from Diff4MMLiTSLib.phantom.scanner import Preset
from Diff4MMLiTSLib.stages.inpainting import NormalCTGenerator
from Diff4MMLiTSLib.stages.registration import register_study
from Diff4MMLiTSLib.training.datasets import to_working_study
from Diff4MMLiTSLib.training.pairs import LesionPatch, lesion_patches

SPACING_MM = 3.0
PATCH = (32, 32, 32)
SMALLEST_ML = 0.3
"""Smaller lesions (8 mm) have no inside at 3 mm."""

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
Images = dict[Phase, FloatArray]


@dataclass(frozen=True, eq=False)
class Case:
    """One lesion of a phantom.

    Args:
        study: Registered, with its lesions.
        normal: The same, inpainted.
        mask: This lesion, (Z, Y, X), on the study's grid.
        family: What its enhancement is like.
        aligned: The lesion in all phases, moved onto its mask, as training sees it.
        number: Number of its study.
    """

    study: RegisteredStudy
    normal: NormalStudy
    mask: BoolArray
    family: TumorFamily
    aligned: LesionPatch
    number: int

    @property
    def liver(self) -> BoolArray:
        """(Z, Y, X)."""
        assert self.study.liver is not None
        return self.study.liver.array

    @property
    def tumor(self) -> Mask:
        """The lesion as the synthesizer takes it."""
        return Mask(Volume(self.mask.astype(np.uint8), self.study.grid), MaskSource.PHANTOM)

    @property
    def others(self) -> BoolArray:
        """The other lesions of the study, (Z, Y, X)."""
        assert self.study.tumor_mask is not None
        return self.study.tumor_mask.array & ~self.mask


def make_cohort(seeds: range, preset: Preset, folder: Path) -> None:
    """Make and register phantoms, odd seeds of the variant ``shifted``; what is there stays."""
    config = RegisterConfig()
    if preset is Preset.SMALL:
        config = load_config(DemoConfig, RECIPES / "demo.toml").recipe.register_studies
    for seed in seeds:
        target = folder / f"{seed}"
        if not (target / "study.json").exists():
            phantom = make_phantom(seed, preset=preset, variant=list(Variant)[seed % 2], progress=silent())
            write_study(register_study(phantom.study, config=config, progress=silent()), target)


def inpaint_all(registered: Path, normal: Path, model: Path) -> None:
    """Take the tumors out of a registered cohort; what is there stays."""
    generator = NormalCTGenerator.load(model)
    for folder in find_studies(registered):
        if not (normal / folder.name / "study.json").exists():
            study = without_rejected(read_registered(folder))
            made = generator.inpaint(study, config=InpaintConfig(), rng=np.random.default_rng(0), progress=silent())
            write_normal(made, normal / folder.name)


def cases_of(registered: Path, normal: Path) -> Iterator[Case]:
    """Yield the lesions of a cohort that have a family and at least ``SMALLEST_ML``."""
    reach = DenoiserTrainConfig().largest_shift_mm
    for number, folder in enumerate(find_studies(registered)):
        study = without_rejected(read_registered(folder))
        if study.tumor_mask is None or not study.tumor_mask.array.any():
            continue
        working = to_working_study(study, spacing_mm=SPACING_MM, margin_mm=30.0)
        (pair,) = paired_with_normal([working], [normal])
        labels, count = ndimage.label(study.tumor_mask.array, structure=TOUCHING)
        if np.bincount(labels.ravel())[1:].max() * study.grid.voxel_ml < SMALLEST_ML:
            continue
        patches = lesion_patches([pair], PATCH, largest_shift_mm=reach)
        for label in range(1, count + 1):
            mask = np.asarray(labels == label)
            aligned = _same(patches, mask.sum() * study.grid.voxel_ml)
            if aligned is None or aligned.family is None or mask.sum() * study.grid.voxel_ml < SMALLEST_ML:
                continue
            tumor_free = read_normal(normal / folder.name)
            yield Case(study, tumor_free, mask, aligned.family, aligned, number)


def _same(patches: tuple[LesionPatch, ...], volume_ml: float) -> LesionPatch | None:
    """Return the patch of the lesion of this volume: working grids differ by a rounding only."""
    sizes = [abs(np.log(patch.tumor.sum() * patch.grid.voxel_ml / volume_ml)) for patch in patches]
    best = int(np.argmin(sizes))
    return patches[best] if sizes[best] < np.log(1.3) else None
