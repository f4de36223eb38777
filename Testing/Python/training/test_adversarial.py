"""Losses that ask for texture see what L1 does not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from Diff4MMLiTSLib.training.adversarial import AdversarialWeights, discriminator_loss, generator_loss, spectral_loss


class Judge(nn.Module):
    """Says how bright an image is."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return [images * 2, images * self.scale]


def test_the_spectral_loss_prefers_other_noise_of_the_same_texture_to_none():
    torch.manual_seed(0)
    real, other = torch.randn(1, 1, 12, 12, 12), torch.randn(1, 1, 12, 12, 12)
    assert spectral_loss(real, real) == 0
    assert spectral_loss(other, real) < 0.5 * spectral_loss(torch.zeros_like(real), real)


def test_the_generator_gains_by_looking_real():
    weights = AdversarialWeights(adversarial=1.0, feature=0.0, r1=0.0)
    real = torch.full((1, 1, 4, 4, 4), 2.0)
    worse, _ = generator_loss(Judge(), real, -real, weights)
    better, _ = generator_loss(Judge(), real, real, weights)
    assert better < worse


def test_the_discriminator_pays_for_steep_opinions():
    real, fake = torch.full((1, 1, 4, 4, 4), 2.0), torch.full((1, 1, 4, 4, 4), -2.0)
    free, _ = discriminator_loss(Judge(), real, fake, AdversarialWeights(1.0, 1.0, r1=0.0))
    priced, numbers = discriminator_loss(Judge(), real, fake, AdversarialWeights(1.0, 1.0, r1=0.1))
    assert float(free) == 0
    assert float(priced.detach()) == pytest.approx(0.05 * numbers["r1"])
