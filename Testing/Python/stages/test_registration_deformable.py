"""The B-spline refinement: what its two histograms count, and where the parenchyma begins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from Diff4MMLiTSLib.core.config import RegisterConfig
from Diff4MMLiTSLib.core.grid import Grid
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.stages.registration_deformable import Pair, mutual_information, register_deformable
from Diff4MMLiTSLib.stages.registration_region import BORDER_MM, without_border

GRID = Grid((48, 48, 48), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
WINDOW_HU = (-100.0, 200.0)


def test_the_parenchyma_begins_below_the_border_in_millimeters_along_every_axis():
    organ = np.zeros((9, 21, 21), dtype=bool)
    organ[1:8, 3:18, 3:18] = True
    inside = np.argwhere(without_border(organ, Grid((21, 21, 9), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0))))
    lowest = (inside.min(axis=0) - [0, 2, 2]) * [3.0, 2.0, 1.0]  # from the last voxel that is no organ
    assert (lowest > BORDER_MM).all()
    assert (lowest - [3.0, 2.0, 1.0] <= BORDER_MM).all()


def test_the_end_of_the_grid_is_a_border_too():
    assert not without_border(np.ones((3, 9, 9), dtype=bool), Grid((9, 9, 3), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))).any()


def test_samples_inform_about_each_other_when_they_belong_together_and_only_those_that_count():
    generator = torch.Generator().manual_seed(0)
    fixed = torch.rand(4000, generator=generator) * 200 - 50
    other = fixed[torch.randperm(4000, generator=generator)]
    weight = torch.ones(4000)
    alike, apart = (float(mutual_information(fixed, moving, weight, WINDOW_HU)) for moving in (-fixed, other))
    assert alike > 1.0 > 10 * apart
    half = torch.cat([torch.ones(2000), torch.zeros(2000)])
    spoiled = torch.cat([-fixed[:2000], other[2000:]])
    assert float(mutual_information(fixed, spoiled, half, WINDOW_HU)) > 0.9 * alike


def a_pair(parenchyma: bool) -> Pair:
    """Smooth random tissue that lies one voxel (2 mm) further along x in the moving phase, with inverted contrast."""
    size = GRID.size[0]
    noise = np.random.default_rng(0).normal(size=(size,) * 3)
    fixed = 60 + 400 * ndimage.gaussian_filter(noise, 2.0).astype(np.float32)
    moving = 120 - np.roll(fixed, 1, axis=2)
    region = np.zeros((size,) * 3, dtype=bool)
    region[14:34, 14:34, 14:34] = True
    nothing, everywhere = np.zeros((size,) * 3, dtype=bool), np.ones((size,) * 3, dtype=np.float32)
    arrays = (fixed, moving, region, region & parenchyma, nothing, everywhere)
    return Pair(GRID, *(torch.from_numpy(array) for array in arrays))


@pytest.mark.parametrize("parenchyma", [True, False])
def test_a_shift_is_found_with_and_without_parenchyma(parenchyma):
    config = RegisterConfig(iterations=40, samples=1024)
    spline = register_deformable(a_pair(parenchyma), config, torch.Generator().manual_seed(0), silent())
    found = spline.dense()[:, 20:28, 20:28, 20:28]
    assert float(found[0].mean()) == pytest.approx(2.0, abs=0.3)
    assert float(found[1:].abs().mean()) < 0.3


@pytest.mark.parametrize(("stiffness", "least", "most"), [(0.0, 0.15, 1.0), (10.0, 0.0, 0.05)])
def test_a_known_tumor_keeps_its_volume_where_the_tissue_around_it_shrinks(stiffness, least, most):
    size = GRID.size[0]
    pair = a_pair(parenchyma=False)
    index = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij")).astype(np.float32)
    middle = (size - 1) / 2
    fixed = pair.fixed_hu.numpy()
    moving = ndimage.map_coordinates(fixed, middle + (index - middle) * 1.12, order=1, mode="nearest")
    tumor = np.linalg.norm(index - middle, axis=0) < 5
    pair = replace(pair, moving_hu=torch.from_numpy(moving), tumor=torch.from_numpy(tumor))
    config = RegisterConfig(iterations=30, samples=1024, tumor_stiffness=stiffness)
    spline = register_deformable(pair, config, torch.Generator().manual_seed(0), silent())
    change = abs(float(spline.jacobian()[pair.tumor].mean()) - 1)
    assert least <= change <= most
