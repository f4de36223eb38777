from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from conftest import ball
from Diff4MMLiTSLib.core.errors import InputError, MissingError
from Diff4MMLiTSLib.core.grid import Grid, Volume
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study import Mask, MaskSource, RegisteredStudy, Segmentation
from Diff4MMLiTSLib.stages.segmentation import MultimodalSegmenter
from Diff4MMLiTSLib.stages.segmentation_clicks import REACH_MM, Click, apply_clicks
from Diff4MMLiTSLib.training.segmenter_task import CLICKS
from tiny_models import segmenter_card, segmenter_config

ANGLE = np.deg2rad(25)
GRID = Grid(
    (60, 56, 30),
    (2.0, 2.0, 4.0),
    (10.0, -70.0, 30.0),
    (np.cos(ANGLE), -np.sin(ANGLE), 0.0, np.sin(ANGLE), np.cos(ANGLE), 0.0, 0.0, 0.0, -1.0),
)
CENTER = GRID.center_mm


class Guided(nn.Module):
    """Calls dark voxels tumor where a positive click is near, and everything else liver."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(40.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dark = (x[:, 2:3] < 0.2) & (x[:, 8:9] > 1e-4)
        tumor = self.scale * (dark.float() - 0.5)
        return torch.cat((torch.full_like(tumor, -20), torch.zeros_like(tumor), tumor), dim=1)


class Blunt(Guided):
    """Calls everything near a positive click tumor."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.cat((x[:, :2], torch.zeros_like(x[:, 2:3]), x[:, 3:]), dim=1))


@pytest.fixture
def a_segmenter() -> MultimodalSegmenter:
    card = segmenter_card(segmenter_config(), name="guided").model_copy(update={"numbers": {CLICKS: 9.0}})
    return MultimodalSegmenter(Guided(), card, "0" * 64)


LESION = ball(GRID, CENTER, 8.0)
OTHER = ball(GRID, CENTER + np.array([24.0, 0.0, 0.0]), 7.0)


@pytest.fixture
def a_study() -> RegisteredStudy:
    values = np.where(LESION | OTHER, 60, 110).astype(np.int16)
    return RegisteredStudy("clicked", {Phase.PVP: Volume(values, GRID)}, Phase.PVP)


def mask(array: np.ndarray) -> Mask:
    return Mask(Volume(array.astype(np.uint8), GRID), MaskSource.MODEL)


def segmentation(tumor: np.ndarray) -> Segmentation:
    return Segmentation("clicked", mask(ball(GRID, CENTER, 40.0)), mask(tumor), Phase.PVP)


def clicked(
    model: MultimodalSegmenter, study: RegisteredStudy, before: Segmentation, clicks: Sequence[Click]
) -> Segmentation:
    return apply_clicks(model, study, before, clicks, progress=silent())


def at(offset_mm: tuple[float, float, float], *, positive: bool) -> Click:
    x, y, z = (float(value) for value in CENTER + np.array(offset_mm))
    return Click((x, y, z), positive)


def dice(one: np.ndarray, two: np.ndarray) -> float:
    return 2 * float((one & two).sum()) / float(one.sum() + two.sum())


def test_a_positive_click_adds_the_lesion_that_was_missed_and_nothing_else(
    a_segmenter: MultimodalSegmenter, a_study: RegisteredStudy
) -> None:
    after = clicked(a_segmenter, a_study, segmentation(np.zeros_like(LESION)), [at((2.0, 0, 0), positive=True)])
    assert dice(after.tumor.array, LESION) > 0.8
    assert not (after.tumor.array & OTHER).any()
    assert (after.liver.array >= after.tumor.array).all()
    assert after.probability is not None
    assert np.array_equal(np.asarray(after.probability.array) > 127, after.tumor.array)


@pytest.mark.parametrize(("width_mm", "least"), [(2.5, 0.8), (9.0, 0.0)])
def test_the_contrast_decides_how_far_a_small_lesion_reaches_and_the_network_how_far_a_large_one(
    a_segmenter: MultimodalSegmenter, a_study: RegisteredStudy, width_mm: float, least: float
) -> None:
    card = a_segmenter.card.model_copy(update={"numbers": {CLICKS: width_mm}})
    blunt = replace(a_segmenter, network=Blunt(), card=card)
    after = clicked(blunt, a_study, segmentation(np.zeros_like(LESION)), [at((0.0, 0, 0), positive=True)])
    found = dice(after.tumor.array, LESION)
    assert found > least
    is_large = after.tumor.array.sum() * GRID.voxel_ml > 14.1  # a ball of 30 mm
    assert is_large == (least == 0.0)


def test_a_positive_click_where_the_network_sees_nothing_still_marks_the_place(
    a_segmenter: MultimodalSegmenter, a_study: RegisteredStudy
) -> None:
    after = clicked(a_segmenter, a_study, segmentation(OTHER), [at((-20.0, 0, 0), positive=True)])
    added = after.tumor.array & ~OTHER
    assert 0 < added.sum() * GRID.voxel_ml < 0.3


def test_a_negative_click_removes_the_component_and_leaves_the_others(
    a_segmenter: MultimodalSegmenter, a_study: RegisteredStudy
) -> None:
    before = segmentation(LESION | OTHER)
    after = clicked(a_segmenter, a_study, before, [at((0, 1.0, 0), positive=False)])
    assert np.array_equal(after.tumor.array, OTHER)
    assert np.array_equal(after.liver.array, before.liver.array)
    assert after.probability is not None
    assert not np.asarray(after.probability.array)[LESION].any()


def test_a_negative_click_far_from_any_tumor_changes_nothing(
    a_segmenter: MultimodalSegmenter, a_study: RegisteredStudy
) -> None:
    after = clicked(a_segmenter, a_study, segmentation(OTHER), [at((-20.0, 0, 0), positive=False)])
    assert np.array_equal(after.tumor.array, OTHER)


@pytest.mark.parametrize("positive", [True, False])
def test_no_voxel_beyond_the_reach_of_a_click_changes(
    a_segmenter: MultimodalSegmenter, a_study: RegisteredStudy, positive: bool
) -> None:
    dark = replace(a_study, phases={Phase.PVP: Volume(np.full(GRID.shape, 40, dtype=np.int16), GRID)})
    before = segmentation(np.zeros_like(LESION) if positive else np.ones_like(LESION))
    after = clicked(a_segmenter, dark, before, [at((0, 0, 0), positive=positive)])
    far = ~ball(GRID, CENTER, REACH_MM)
    assert (after.tumor.array != before.tumor.array).any()
    for name in ("tumor", "liver"):
        assert np.array_equal(getattr(after, name).array[far], getattr(before, name).array[far])


def test_clicks_are_applied_in_their_order(a_segmenter: MultimodalSegmenter, a_study: RegisteredStudy) -> None:
    clicks = [at((0, 0, 0), positive=True), at((0, 0, 0), positive=False)]
    after = clicked(a_segmenter, a_study, segmentation(OTHER), clicks)
    assert np.array_equal(after.tumor.array, OTHER)
    assert [entry.stage for entry in after.history] == ["click"]
    assert len(after.history[0].config["clicks"]) == 2


def test_what_cannot_be_clicked_is_said(a_segmenter: MultimodalSegmenter, a_study: RegisteredStudy) -> None:
    before = segmentation(OTHER)
    with pytest.raises(InputError, match="outside study"):
        clicked(a_segmenter, a_study, before, [at((500.0, 0, 0), positive=True)])
    with pytest.raises(InputError, match="no clicks"):
        clicked(a_segmenter, a_study, before, [])
    coarse = RegisteredStudy(
        "coarse", {Phase.PVP: Volume(np.zeros((4, 4, 4), np.int16), Grid((4, 4, 4), (9, 9, 9)))}, Phase.PVP
    )
    with pytest.raises(InputError, match="another grid"):
        clicked(a_segmenter, coarse, before, [at((0, 0, 0), positive=True)])
    untaught = MultimodalSegmenter(Guided(), segmenter_card(segmenter_config()), "0" * 64)
    with pytest.raises(MissingError, match="has not learned from clicks"):
        clicked(untaught, a_study, before, [at((0, 0, 0), positive=True)])
