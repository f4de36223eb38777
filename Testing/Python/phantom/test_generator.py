"""Laws of whole phantoms, on coarse grids."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from Diff4MMLiTSLib.core.grid import Volume, resample
from Diff4MMLiTSLib.core.phases import ALL_PHASES, Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study_io import read_study
from Diff4MMLiTSLib.phantom.anatomy import Tissue
from Diff4MMLiTSLib.phantom.enhancement import DISEASED_LIVER_HU
from Diff4MMLiTSLib.phantom.generator import MOVING, Phantom, Variant, build_phantom, make_phantom, write_phantom
from Diff4MMLiTSLib.phantom.scanner import Preset, Sampling

COARSE = Sampling(5.0, (5.0, 5.6), None, (5.0,), (5.0, 6.0), (10.0, 20.0))
SEEDS = (2, 7, 12, 15, 1003)
"""Patients of different size, liver and tumors; all have at least one tumor."""


@cache
def a_phantom(seed: int = 2, variant: Variant = Variant.STANDARD, healthy: bool = False) -> Phantom:
    return build_phantom(seed, sampling=COARSE, variant=variant, healthy=healthy, progress=silent())


def inside(mask: np.ndarray) -> np.ndarray:
    """Return the voxels of a mask whose six neighbors belong to it."""
    result = mask.copy()
    for axis in range(3):
        for step in (-1, 1):
            result &= np.roll(mask, step, axis)
    return result


def test_the_same_seed_gives_the_same_labels_and_values() -> None:
    first, second = a_phantom(), build_phantom(2, sampling=COARSE, variant=Variant.STANDARD, progress=silent())
    for phase in ALL_PHASES:
        difference = np.subtract(first.study.phases[phase].array, second.study.phases[phase].array, dtype=np.int32)
        assert np.abs(difference).max() <= 1
        assert np.array_equal(first.tumor[phase].array, second.tumor[phase].array)
    assert np.array_equal(first.organs.array, second.organs.array)
    assert not np.array_equal(
        a_phantom(7).study.reference.array[:20, :40, :40], first.study.reference.array[:20, :40, :40]
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_every_seed_gives_a_plausible_study(seed: int) -> None:
    phantom = a_phantom(seed)
    study, liver = phantom.study, phantom.study.liver
    assert liver is not None
    assert tuple(study.phases) == ALL_PHASES
    assert 800 < liver.array.sum() * study.grid.voxel_ml < 3000
    assert len({volume.grid.size for volume in study.phases.values()}) > 1
    for volume in study.phases.values():
        assert volume.array.dtype == np.int16
        assert -1024 <= volume.array.min() < -900 and 300 < volume.array.max() <= 3071
    present = set(np.unique(phantom.organs.array))
    assert {Tissue.LIVER, Tissue.SPLEEN, Tissue.KIDNEY_CORTEX, Tissue.ARTERY, Tissue.CAVA, Tissue.LUNG} <= present


@pytest.mark.parametrize("seed", SEEDS)
def test_tumors_lie_inside_the_liver_and_shine_through_in_some_phase(seed: int) -> None:
    phantom = a_phantom(seed)
    mask = phantom.study.tumor_mask
    assert mask is not None and mask.array.any()
    assert not (mask.array & ~phantom.study.liver.array).any()
    changes = []
    for phase in ALL_PHASES:
        tumor = np.asarray(phantom.tumor[phase].array) > 0
        if tumor.any():
            change = phantom.study.phases[phase].array.astype(float) - phantom.normal[phase].array
            changes.append(abs(change[tumor].mean()))
    assert max(changes) > 5


def test_a_healthy_phantom_has_no_tumor_and_else_the_same_patient() -> None:
    sick, healthy = a_phantom(), a_phantom(healthy=True)
    assert healthy.study.is_tumor_free and healthy.tumors == ()
    assert not any(volume.array.any() for volume in healthy.tumor.values())
    assert np.array_equal(sick.normal[Phase.AP].array, healthy.normal[Phase.AP].array)


def test_outside_tumors_a_phase_is_the_normal_ct_plus_zero_mean_noise() -> None:
    phantom = a_phantom(healthy=True)
    for phase in ALL_PHASES:
        difference = phantom.study.phases[phase].array.astype(float) - phantom.normal[phase].array
        liver = (
            inside(phantom.study.liver.array) if phase is Phase.PVP else np.asarray(phantom.normal[phase].array) > 20
        )
        assert abs(difference[liver].mean()) < 1.0
        assert 7 < difference[liver].std() < 18


def test_displacement_brings_every_phase_back_to_the_reference() -> None:
    for seed in (2, 1003):
        phantom = a_phantom(seed)
        grid = phantom.study.grid
        solid = inside(inside(np.asarray(phantom.organs.array) == Tissue.LIVER))
        for phase in MOVING:
            field = sitk.Cast(phantom.displacement[phase], sitk.sitkVectorFloat64)
            transform = sitk.DisplacementFieldTransform(field)
            tumor = Volume(np.asarray(phantom.tumor[phase].array, dtype=np.float32), phantom.tumor[phase].grid)
            back = np.asarray(resample(tumor, grid, transform=transform).array)
            truth = phantom.study.tumor_mask.array
            covered = (
                np.asarray(resample(Volume(np.ones_like(tumor.array), tumor.grid), grid, transform=transform).array)
                > 0.99
            )
            overlap = 2 * (back[truth & covered].sum()) / max(truth[covered].sum() + back[covered].sum(), 1)
            assert overlap > 0.5 or truth[covered].sum() < 60
            normal = np.asarray(resample(phantom.normal[phase], grid, transform=transform, outside=-1000).array)
            values = normal[solid & covered]
            assert values.std() < 22  # liver stays liver; without the field, lung and fat come in
            assert np.percentile(values, 1) > 0


def test_phases_enhance_as_the_literature_says() -> None:
    gaps = []
    for seed in SEEDS:
        phantom = a_phantom(seed)
        liver = inside(inside(np.asarray(phantom.organs.array) == Tissue.LIVER))
        mean = DISEASED_LIVER_HU[phantom.liver_disease][ALL_PHASES.index(Phase.PVP)]
        gaps.append(float(np.asarray(phantom.normal[Phase.PVP].array)[liver].mean()) - mean)
        aorta = inside(np.asarray(phantom.organs.array) == Tissue.ARTERY)
        assert 110 < np.asarray(phantom.normal[Phase.PVP].array)[aorta].mean() < 240
        assert np.percentile(phantom.normal[Phase.AP].array, 99.9) > 230
    assert abs(np.mean(gaps)) < 15 and np.std(gaps) < 20


def test_the_shifted_variant_differs_measurably() -> None:
    standard, shifted = a_phantom(2), a_phantom(2, Variant.SHIFTED)
    noise = [
        (part.study.reference.array.astype(float) - part.normal[Phase.PVP].array)[part.study.liver.array].std()
        for part in (standard, shifted)
    ]
    assert noise[1] < 0.8 * noise[0] or noise[1] > 1.15 * noise[0]
    assert not np.array_equal(standard.normal[Phase.PVP].array, shifted.normal[Phase.PVP].array)


def test_a_written_phantom_reads_back_with_its_truth(tmp_path: Path) -> None:
    phantom = a_phantom()
    write_phantom(phantom, tmp_path / "study")
    study = read_study(tmp_path / "study")
    assert np.array_equal(study.reference.array, phantom.study.reference.array)
    field = sitk.ReadImage(str(tmp_path / "study" / "truth" / "displacement_AP.nrrd"))
    assert field.GetNumberOfComponentsPerPixel() == 3
    known = json.loads((tmp_path / "study" / "truth" / "phantom.json").read_text())
    assert len(known["tumors"]) == len(phantom.tumors)


def test_a_made_phantom_says_how_it_was_made() -> None:
    phantom = make_phantom(7, preset=Preset.SMALL, variant=Variant.STANDARD, healthy=True, progress=silent())
    assert phantom.study.study_id == "phantom-standard-small-0007-healthy"
    entry = phantom.study.history[0]
    assert (entry.stage, entry.seed, entry.config["preset"]) == ("phantom", 7, "small")
    assert 90 <= phantom.study.grid.size[0] <= 150
