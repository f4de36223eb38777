"""Each figure is a PNG of the common width, for registered and unregistered, full and sparse studies."""

from __future__ import annotations

import io
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.image import imread

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.grid import Volume
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.study import (
    TUMOR_FREE,
    Mask,
    MaskSource,
    NormalStudy,
    RegisteredStudy,
    Segmentation,
    Study,
    SyntheticPair,
)
from Diff4MMLiTSLib.reporting.figures import (
    SegmentationCase,
    inpainting_figure,
    overview_figure,
    registration_figure,
    segmentation_figure,
    synthesis_figure,
)
from Diff4MMLiTSLib.reporting.pictures import PREDICTED, TRUTH

WIDTH_PX = 1300


def pixels(png: bytes) -> np.ndarray:
    return imread(io.BytesIO(png), format="png")[..., :3]


def colored(png: bytes, color: str) -> int:
    """Number of pixels of nearly this color."""
    wanted = np.array([int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    return int((np.abs(pixels(png) - wanted).max(axis=-1) < 0.08).sum())


@pytest.fixture
def a_normal(a_study) -> NormalStudy:
    """The study with its tumor filled with the liver's HU."""
    region = a_study.tumor_mask
    phases = {}
    for phase, volume in a_study.phases.items():
        values = np.array(volume.array)
        values[region.array] = 100
        phases[phase] = Volume(values, a_study.grid)
    return NormalStudy(replace(a_study, phases=phases, tumor=TUMOR_FREE), region)


@pytest.fixture
def a_segmentation(a_study) -> Segmentation:
    """The truth, moved by two voxels."""
    tumor = Mask(Volume(np.roll(a_study.tumor.volume.array, 2, axis=2), a_study.grid), MaskSource.MODEL)
    return Segmentation(a_study.study_id, replace(a_study.liver, source=MaskSource.MODEL), tumor, Phase.PVP)


def test_the_overview_shows_phases_on_their_own_grids(a_study):
    moved = replace(a_study.phases[Phase.AP].grid, origin_mm=(0.0, 0.0, 90.0))
    phases = {**a_study.phases, Phase.AP: Volume(a_study.phases[Phase.AP].array, moved)}
    png = overview_figure(Study("unregistered", phases, Phase.PVP, liver=a_study.liver, tumor=a_study.tumor))
    assert colored(png, TRUTH) > 0
    assert pixels(overview_figure(replace(a_study, liver=None, tumor=None))).shape[1] > 0


def test_registration_is_black_where_phases_agree(a_study):
    four = {phase: a_study.reference for phase in Phase}
    same = RegisteredStudy("s", four, Phase.PVP, liver=a_study.liver)
    shifted = Volume(np.roll(a_study.reference.array, 5, axis=2), a_study.grid)
    moved = RegisteredStudy("s", {phase: shifted for phase in four} | {Phase.PVP: a_study.reference}, Phase.PVP)
    aligned, misaligned = (pixels(registration_figure(before, same)) for before in (same, moved))
    assert aligned.shape == misaligned.shape
    assert aligned.shape[1] == WIDTH_PX
    assert misaligned.std(axis=-1).mean() > 1.5 * aligned.std(axis=-1).mean()  # only differences are colored


def test_one_phase_cannot_be_compared(a_study):
    alone = RegisteredStudy("s", {Phase.PVP: a_study.reference}, Phase.PVP)
    with pytest.raises(InputError, match="one phase"):
        registration_figure(alone, alone)


def test_inpainting_needs_a_mask_and_shows_the_tumor(a_study, a_normal):
    assert colored(inpainting_figure(a_study, a_normal), TRUTH) > 50
    with pytest.raises(InputError, match="inpainted"):
        inpainting_figure(a_study, NormalStudy(a_normal.study))


def test_synthesis_shows_the_mask_that_was_asked_for(a_study, a_normal):
    tumor = Mask(a_study.tumor.volume, MaskSource.SYNTHETIC)
    pair = SyntheticPair(replace(a_study, tumor=tumor, synthetic=True))
    assert colored(synthesis_figure(a_normal, pair), "#f0e442") > 50


@pytest.mark.parametrize("count", [1, 3])
def test_truth_and_prediction_are_drawn_apart(a_study, a_segmentation, count):
    png = segmentation_figure([SegmentationCase(a_study, a_segmentation, "DSC 0.5")] * count)
    assert colored(png, TRUTH) > 50
    assert colored(png, PREDICTED) > 50
    assert colored(segmentation_figure([SegmentationCase(a_study, None)] * count), PREDICTED) < colored(png, PREDICTED)


def test_figures_do_not_depend_on_global_settings(a_study):
    usual = overview_figure(a_study)
    with mpl.rc_context({"image.cmap": "jet", "axes.facecolor": "red", "figure.dpi": 30}):
        assert overview_figure(a_study) == usual
