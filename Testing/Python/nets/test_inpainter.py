"""The inpainter changes nothing but the hole and does not look into it."""

from __future__ import annotations

import pytest
import torch

from Diff4MMLiTSLib.core.config import InpainterNetwork
from Diff4MMLiTSLib.nets.inpainter import Inpainter

SIZE = (9, 12, 11)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Inpainter(InpainterNetwork(channels=4, downsamplings=2, blocks=1)).eval()


@pytest.fixture
def patch():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn((1, 4, *SIZE), generator=generator)
    hole = torch.zeros(1, 1, *SIZE)
    hole[..., 3:6, 4:8, 4:8] = 1
    return {"images": images, "base": torch.full_like(images, 0.1), "hole": hole, "liver": torch.ones_like(hole)}


@torch.no_grad()
def fill(network, patch, presence=(1, 1, 1, 1)):
    flags = torch.tensor([presence], dtype=torch.float32)
    return network(patch["images"], patch["base"], presence=flags, hole=patch["hole"], liver=patch["liver"])


def test_known_voxels_are_bit_identical_at_any_size(network, patch):
    known = (patch["hole"] == 0).expand_as(patch["images"])
    filled = fill(network, patch)
    assert torch.equal(filled[known], patch["images"][known])
    assert not torch.equal(filled[~known], patch["images"][~known])


def test_what_the_hole_held_is_not_looked_at(network, patch):
    other = patch | {"images": torch.where(patch["hole"] > 0, torch.tensor(3.0), patch["images"])}
    assert torch.equal(fill(network, patch) * patch["hole"], fill(network, other) * patch["hole"])


def test_missing_phases_are_neither_used_nor_made(network, patch):
    images = patch["images"].clone()
    images[:, 2] = 7.0
    one, other = fill(network, patch, (1, 1, 0, 1)), fill(network, patch | {"images": images}, (1, 1, 0, 1))
    assert torch.equal(one, other)
    assert not one[:, 2].any()
