"""The denoiser takes latents of any size and ignores phases that are missing."""

from __future__ import annotations

import torch

from Diff4MMLiTSLib.core.config import AutoencoderNetwork, DenoiserNetwork
from Diff4MMLiTSLib.core.enhancement import TumorFamily
from Diff4MMLiTSLib.nets.autoencoder import Autoencoder
from Diff4MMLiTSLib.nets.denoiser import FAMILY_COUNT, Denoiser, denoiser_condition, soft_occupancy

CHANNELS = 2
SIZE = (5, 6, 7)


def autoencoder(levels=1, channels=CHANNELS):
    config = AutoencoderNetwork(channels=(4,) * levels, residual_layers=1, latent_channels=channels, codes=8)
    return Autoencoder(config)


def network():
    torch.manual_seed(0)
    config = DenoiserNetwork(channels=(8, 16), attention=(False, False), residual_blocks=1, groups=4)
    return Denoiser(config, autoencoder()).eval()


def condition(normal, presence=(1, 1, 1, 1), family=(0, 0, 0, 0)):
    flags, kind = torch.tensor([presence]), torch.tensor([family])
    return denoiser_condition(normal, torch.full((1, 1, *SIZE), 0.5), presence=flags, family=kind)


def test_the_prediction_has_the_size_of_the_latents():
    latents = torch.randn(1, 4 * CHANNELS, *SIZE)
    assert network()(latents, torch.tensor([3]), condition(latents)).shape == latents.shape


def test_latents_of_missing_phases_are_ignored():
    one = torch.randn(1, 4 * CHANNELS, *SIZE)
    other = one.clone()
    other[:, CHANNELS : 2 * CHANNELS] = 9.0
    assert torch.equal(condition(one, (1, 0, 1, 1)), condition(other, (1, 0, 1, 1)))
    assert not torch.equal(condition(one), condition(other))


def test_every_family_is_told_where_the_tumor_is():
    assert len(TumorFamily) == FAMILY_COUNT
    latents = torch.zeros(1, 4 * CHANNELS, *SIZE)
    told = [condition(latents, family=tuple(int(kind == k) for k in range(4)))[0, -8:-4] for kind in range(4)]
    for kind, masks in enumerate(told):
        assert masks[kind].unique().tolist() == [1.0]
        assert not torch.cat((masks[:kind], masks[kind + 1 :])).any()


def test_occupancy_is_the_part_of_a_cell_that_is_tumor():
    mask = torch.zeros(1, 1, 4, 4, 4)
    mask[..., 0:2, 0:2, 0:1] = 1
    assert soft_occupancy(mask, autoencoder())[0, 0].flatten().tolist() == [0.5] + [0.0] * 7


def test_the_mask_is_told_in_the_parts_in_which_a_cell_tells_the_image():
    image = torch.randn(1, 1, 8, 8, 8)
    network = autoencoder(levels=2, channels=8)
    torch.nn.init.zeros_(network.vqvae.encoder.blocks[-1].conv.weight)
    torch.nn.init.zeros_(network.vqvae.encoder.blocks[-1].conv.bias)
    assert torch.allclose(4 * soft_occupancy(image, network), network.encode(image), atol=1e-5)


def test_standardized_changes_come_back():
    denoiser = network()
    denoiser.set_latent_scale(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0]), torch.tensor([0.1, 3.0]))
    change = torch.randn(1, 4 * CHANNELS, *SIZE)
    assert torch.allclose(denoiser.restore_change(denoiser.standardize_change(change)), change)
    assert torch.isfinite(denoiser.standardize_base(change)).all()
