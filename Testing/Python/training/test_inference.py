from __future__ import annotations

import numpy as np
import torch
from torch import nn

from Diff4MMLiTSLib.core.config import SegmentConfig
from Diff4MMLiTSLib.training.inference import (
    as_bytes,
    entropy,
    largest_component,
    masks_of,
    probabilities,
    without_neighbors,
    without_small_components,
)


class Threshold(nn.Module):
    """Calls bright voxels of the third phase tumor, and everything else liver."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tumor = self.scale * x[:, 2:3]
        return torch.cat((torch.full_like(tumor, -20), torch.zeros_like(tumor), tumor), dim=1)


def test_the_organ_is_liver_and_tumor_together() -> None:
    windows = np.random.default_rng(0).uniform(-1, 1, (2, 4, 5, 6, 7)).astype(np.float32)
    found = probabilities(Threshold(), windows, np.ones(4, np.float32))
    assert found.shape == (2, 2, 5, 6, 7)
    assert np.allclose(found[:, 0], 1, atol=1e-4)
    assert np.allclose(found[:, 1], 1 / (1 + np.exp(-20 * windows[:, 2])), atol=1e-4)


def test_a_missing_phase_has_no_influence_whatever_its_voxels_hold() -> None:
    windows = np.random.default_rng(0).uniform(-1, 1, (1, 4, 16, 16, 16)).astype(np.float32)
    found = probabilities(Threshold(), windows, np.array([1, 1, 0, 1], dtype=np.float32))
    assert np.allclose(found[:, 1], 0.5)


def test_tumors_lie_in_the_largest_liver_piece_which_has_no_holes() -> None:
    organ, tumor = np.zeros((20, 20, 20), np.float32), np.zeros((20, 20, 20), np.float32)
    organ[2:12, 2:12, 2:12] = organ[16:19, 16:19, 16:19] = 1
    organ[6, 6, 6] = 0
    tumor[4:7, 4:7, 4:7] = tumor[16:19, 16:19, 16:19] = 1
    liver, found = masks_of(organ, tumor, voxel_ml=0.027, config=SegmentConfig(minimum_tumor_ml=0.1, sure_tumor=0.7))
    assert liver.sum() == 1000
    assert found.sum() == 27


def test_a_tumor_of_which_no_voxel_is_sure_is_none() -> None:
    organ, tumor = np.ones((20, 20, 20), np.float32), np.zeros((20, 20, 20), np.float32)
    tumor[2:6, 2:6, 2:6] = tumor[10:14, 10:14, 10:14] = 0.6
    tumor[4, 4, 4] = 0.7
    _, found = masks_of(organ, tumor, voxel_ml=0.027, config=SegmentConfig(minimum_tumor_ml=0.1, sure_tumor=0.7))
    assert found.sum() == 64 and found[3, 3, 3]
    _, found = masks_of(organ, tumor, voxel_ml=0.027, config=SegmentConfig(minimum_tumor_ml=0.1, sure_tumor=0.0))
    assert found.sum() == 128


def test_what_hangs_on_the_liver_by_a_neck_is_cut_off() -> None:
    mask = np.zeros((30, 30, 60), dtype=bool)
    mask[2:28, 2:28, 2:28] = True  # 78 mm
    mask[14:16, 14:16, 28:36] = True  # a neck of 6 mm
    mask[8:22, 8:22, 36:50] = True
    kept = without_neighbors(mask, neck_mm=6.0, spacing_mm=3.0)
    assert (kept[:, :, :28] == mask[:, :, :28]).all()
    assert not kept[:, :, 34:].any()
    assert (without_neighbors(mask, neck_mm=1.0, spacing_mm=3.0) == mask).all()


def test_thin_parts_of_a_liver_and_rims_of_holes_stay() -> None:
    index = np.indices((40, 40, 60)) - 20
    liver = np.linalg.norm(index, axis=0) < 18
    liver[18:21, 18:21] |= index[2, 18:21, 18:21] >= 0  # a left lobe of 9 mm that reaches 6 cm beyond
    hole = np.linalg.norm(index - np.array([0, 0, -6]).reshape(3, 1, 1, 1), axis=0) < 10  # its rim has 6 mm
    for mask in (liver, liver & ~hole, liver & (index[0] == 0)):
        assert (without_neighbors(mask, neck_mm=6.0, spacing_mm=3.0) == mask).all()


def test_components_below_the_minimum_are_removed_and_those_at_it_stay() -> None:
    mask = np.zeros((10, 10, 10), dtype=bool)
    mask[0, 0, :3] = mask[5, 5, :4] = True
    assert without_small_components(mask, minimum_voxels=4).sum() == 4


def test_an_empty_mask_stays_empty() -> None:
    empty = np.zeros((4, 4, 4), dtype=bool)
    assert not largest_component(empty).any()
    assert not without_small_components(empty, minimum_voxels=1).any()


class Lopsided(nn.Module):
    """Calls the first half of every window along x tumor, whatever it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tumor = torch.full_like(x[:, :1], -1.0)
        tumor[..., : x.shape[-1] // 2] = 1.0
        return torch.cat((torch.full_like(tumor, -40), torch.zeros_like(tumor), self.scale * tumor), dim=1)


def test_the_result_is_the_mean_over_the_flips() -> None:
    windows, presence = np.zeros((1, 4, 4, 4, 4), np.float32), np.ones(4, np.float32)
    plain, flipped = (probabilities(Lopsided(), windows, presence, flips=flips) for flips in ((), ("x",)))
    assert np.allclose(plain[0, 1, 0, 0], [1, 1, 0, 0], atol=1e-3)
    assert np.allclose(flipped[0, 1], 0.5, atol=1e-3)


def test_the_network_is_surest_where_one_class_is_all() -> None:
    organ, tumor = np.array([0.0, 1.0, 1.0, 2 / 3], np.float32), np.array([0.0, 0.0, 0.5, 1 / 3], np.float32)
    unsure = entropy(organ, tumor)
    assert np.allclose(unsure, [0, 0, np.log(2) / np.log(3), 1], atol=1e-4)
    assert as_bytes(unsure).tolist() == [0, 0, 161, 255]
