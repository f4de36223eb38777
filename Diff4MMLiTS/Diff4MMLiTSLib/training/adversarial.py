"""Losses that ask for the right texture: magnitude spectra, and a discriminator's opinion."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

SPECTRUM_FLOOR = 0.05
"""Magnitudes below this (in units of the gained images) count as equal; noise has about 0.3."""


@dataclass(frozen=True)
class AdversarialWeights:
    """How much the discriminator counts.

    Args:
        adversarial: Weight of its opinion; 0 while it is switched off.
        feature: Weight of the difference of its features.
        r1: Weight of its gradient penalty.
    """

    adversarial: float
    feature: float
    r1: float


def spectral_loss(fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Return the mean difference of log magnitude spectra, which asks for texture but not for its exact place.

    Args:
        fake: (B, C, Z, Y, X), 0 where it does not count.
        real: Same shape.

    Returns:
        Scalar, float32.
    """
    spectra = []
    for images in (fake, real):
        with torch.autocast(images.device.type, enabled=False):  # no half-precision transform
            spectrum = torch.fft.rfftn(images.float(), dim=(2, 3, 4), norm="ortho")
            power = spectrum.real.square() + spectrum.imag.square()
            spectra.append(0.5 * (power + SPECTRUM_FLOOR**2).log())
    return functional.l1_loss(spectra[0], spectra[1])


def generator_loss(
    discriminator: nn.Module, real: torch.Tensor, fake: torch.Tensor, weights: AdversarialWeights
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return what the discriminator's opinion costs the generator, and its parts for the log.

    Source: Lim and Ye, "Geometric GAN" (2017), for hinge; Wang et al., "pix2pixHD" (2018), eq. 4, for features.
    """
    judged = discriminator(fake)
    with torch.no_grad():
        truth = discriminator(real)
    opinion = -judged[-1].float().mean()
    pairs = zip(judged[:-1], truth[:-1], strict=True)
    features = torch.stack([functional.l1_loss(one.float(), other.float()) for one, other in pairs]).mean()
    total = weights.adversarial * opinion + weights.feature * features
    return total, {"adversarial": float(opinion.detach()), "features": float(features.detach())}


def discriminator_loss(
    discriminator: nn.Module, real: torch.Tensor, fake: torch.Tensor, weights: AdversarialWeights
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the hinge loss of the discriminator with the R1 penalty, and its parts for the log.

    Source: Mescheder et al., "Which training methods for GANs do actually converge?" (2018), eq. 9, for R1.
    """
    real = real.detach().requires_grad_(weights.r1 > 0)
    on_real = discriminator(real)[-1].float()
    on_fake = discriminator(fake.detach())[-1].float()
    hinge = functional.relu(1 - on_real).mean() + functional.relu(1 + on_fake).mean()
    numbers = {"real": float(on_real.detach().mean()), "fake": float(on_fake.detach().mean())}
    if weights.r1 <= 0:
        return hinge, numbers
    (slope,) = torch.autograd.grad(on_real.sum(), real, create_graph=True)
    penalty = slope.square().sum(dim=(1, 2, 3, 4)).mean()
    return hinge + 0.5 * weights.r1 * penalty, numbers | {"r1": float(penalty.detach())}
