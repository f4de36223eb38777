from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from Diff4MMLiTSLib.core.config import SegmentConfig
from Diff4MMLiTSLib.core.intensity import Window
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.training.datasets import WorkingStudy, stack_working
from Diff4MMLiTSLib.training.search import Found, Sight, look
from tiny_models import working_study

WINDOW = Window(-175.0, 250.0)


class Soft(nn.Module):
    """Calls everything above 0 HU in PVP liver, and of that what is below 95 HU tumor; counts the voxels it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(80.0))
        self.seen = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += x[:, 2].numel()
        pvp = x[:, 2:3]
        low, high = (float(WINDOW.normalize(np.array([hu]))[0]) for hu in (0.0, 95.0))
        liver = self.scale * (pvp - low)
        tumor = torch.minimum(2 * liver, liver + self.scale * (high - pvp))
        return torch.cat((torch.zeros_like(pvp), liver, tumor), dim=1)


def found_in(
    study: WorkingStudy,
    network: nn.Module,
    *,
    coarse_factor: float,
    margin_mm: float = 9.0,
    first: WorkingStudy | None = None,
) -> Found | None:
    sight = Sight(3.0, WINDOW, (12, 12, 12), coarse_factor)
    config = SegmentConfig(margin_mm=margin_mm)
    stack = partial(stack_working, study)
    searched = partial(stack_working, first) if first else None
    return look(network, stack, study.grid, sight=sight, config=config, progress=silent(), first=searched)


@pytest.fixture
def a_large_study() -> WorkingStudy:
    """A small liver in the middle of a large volume."""
    inner = working_study(size=24)
    pad = [(18, 18), (10, 10), (14, 14)]
    phases = np.pad(inner.phases, [(0, 0), *pad], constant_values=-100)
    liver, tumor = (np.pad(mask, pad) for mask in (inner.liver, inner.tumor))
    depth, height, width = liver.shape
    grid = inner.grid.cropped((-14, -10, -18), (width, height, depth))
    return WorkingStudy("large", phases, inner.presence, liver, tumor, grid)


def test_what_is_found_around_the_liver_is_what_is_found_everywhere(a_large_study: WorkingStudy) -> None:
    everywhere, near = Soft(), Soft()
    whole = found_in(a_large_study, everywhere, coarse_factor=0.0)
    part = found_in(a_large_study, near, coarse_factor=2.0)
    assert whole is not None
    assert part is not None
    for one, other in zip(whole.on(a_large_study.grid), part.on(a_large_study.grid), strict=True):
        assert np.abs(one - other)[a_large_study.liver].max() < 1e-3
    assert near.seen < everywhere.seen / 2


def test_farther_from_the_liver_than_the_margin_there_is_nothing(a_large_study: WorkingStudy) -> None:
    bright = a_large_study.phases.copy()
    bright[:, :4, :4, :4] = 90.0
    far = WorkingStudy(
        "far", bright, a_large_study.presence, a_large_study.liver, a_large_study.tumor, a_large_study.grid
    )
    found = found_in(far, Soft(), coarse_factor=2.0)
    assert found is not None
    organ, _ = found.on(far.grid)
    assert not organ[:4, :4, :4].any()
    assert organ[a_large_study.liver].mean() > 0.95


def test_where_the_search_finds_no_liver_there_is_nothing() -> None:
    study = working_study()
    air = replace(study, phases=np.full_like(study.phases, -900))
    assert found_in(air, Soft(), coarse_factor=2.0) is None


def test_the_liver_is_searched_in_what_comes_first_and_then_in_everything(a_large_study: WorkingStudy) -> None:
    elsewhere = replace(a_large_study, phases=np.roll(a_large_study.phases, 16, axis=1))
    found = found_in(a_large_study, Soft(), coarse_factor=2.0, first=elsewhere)
    assert found is not None
    assert found.on(a_large_study.grid)[0][a_large_study.liver].mean() < 0.7  # it was looked for 48 mm too high
    air = replace(a_large_study, phases=np.full_like(a_large_study.phases, -900))
    found = found_in(a_large_study, Soft(), coarse_factor=2.0, first=air)
    assert found is not None
    assert found.on(a_large_study.grid)[0][a_large_study.liver].mean() > 0.95
