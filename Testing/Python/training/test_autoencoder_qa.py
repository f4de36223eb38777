"""An autoencoder that blurs or shifts what a tumor changes is refused."""

from __future__ import annotations

import pytest
import torch
from working_studies import working_study

from Diff4MMLiTSLib.core.config import AutoencoderLimits, AutoencoderNetwork
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.intensity import Window
from Diff4MMLiTSLib.nets.autoencoder import Autoencoder
from Diff4MMLiTSLib.training.autoencoder_qa import check_autoencoder, measure_autoencoder


def measured(*, levels=1, bias=0.0):
    """Measure an autoencoder that keeps the coarse image alone, moved by a bias (1 is half the window)."""
    config = AutoencoderNetwork(channels=(4,) * levels, residual_layers=1, latent_channels=8, codes=8)
    torch.manual_seed(0)
    network = Autoencoder(config)
    for parameter in network.vqvae.parameters():
        parameter.requires_grad_(False).zero_()
    network.vqvae.decoder.blocks[-1].conv.bias.fill_(bias)
    return measure_autoencoder(network, [working_study(0)], Window(-175, 400))


def test_one_that_loses_nothing_passes():
    numbers = measured()
    assert numbers["ssim"] == pytest.approx(1.0, abs=1e-4)
    assert numbers["std_ratio"] == pytest.approx(1.0, abs=1e-3)
    check_autoencoder(numbers, AutoencoderLimits(), name="perfect")


def test_one_that_blurs_is_refused():
    numbers = measured(levels=2)
    assert numbers["std_ratio"] < 0.7
    with pytest.raises(InputError, match=r"'blurry' reconstructs too badly.*std_ratio"):
        check_autoencoder(numbers, AutoencoderLimits(), name="blurry")


def test_one_that_brightens_is_refused():
    numbers = measured(bias=10 / 287.5)
    assert numbers["tumor_bias_hu"] == pytest.approx(10, abs=0.5)
    with pytest.raises(InputError, match=r"liver_bias_hu 10.*tumor_bias_hu 10"):
        check_autoencoder(numbers, AutoencoderLimits(), name="bright")


def test_one_that_was_never_measured_is_refused():
    with pytest.raises(InputError, match="does not say how well"):
        check_autoencoder({"psnr_db": 50.0}, AutoencoderLimits(), name="old")
