"""The autoencoder compresses, and its codebook learns only when told to and stays alive."""

from __future__ import annotations

import pytest
import torch

from Diff4MMLiTSLib.core.config import AutoencoderNetwork
from Diff4MMLiTSLib.nets.autoencoder import Autoencoder, codebook_health


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Autoencoder(AutoencoderNetwork(channels=(4, 8), residual_layers=1, latent_channels=3, codes=16))


def images(count=2):
    return torch.randn(count, 1, 8, 12, 16, generator=torch.Generator().manual_seed(1))


def codebook(network):
    return network.vqvae.quantizer.quantizer.embedding.weight.detach().clone()


def test_latents_are_four_times_smaller_per_axis_and_decode_to_the_same_size(network):
    latents = network.encode(images())
    assert latents.shape == (2, 3, 2, 3, 4)
    assert network.decode(latents).shape == images().shape


def test_items_are_decoded_from_codes_or_from_continuous_latents_as_asked(network):
    made = network(images(), torch.tensor([0.0, 1.0]), learn_codes=False)
    from_latents = network.decode(network.encode(images()))
    assert torch.allclose(made.images[0], from_latents[0], atol=1e-5)
    assert not torch.allclose(made.images[1], from_latents[1], atol=1e-5)


def test_the_codebook_moves_only_while_it_learns(network):
    before = codebook(network)
    network(images(), torch.ones(2), learn_codes=False)
    assert torch.equal(codebook(network), before)
    network(images(), torch.ones(2), learn_codes=True)
    assert not torch.equal(codebook(network), before)


def test_dead_codes_are_moved_onto_latents(network):
    made = network(images(), torch.ones(2), learn_codes=True)
    moved = network.restart_dead_codes(made.latents, torch.Generator().manual_seed(0))
    again = network(images(), torch.ones(2), learn_codes=False)
    assert moved > 0
    assert len(again.codes.unique()) > len(made.codes.unique())
    assert network.restart_dead_codes(made.latents, torch.Generator().manual_seed(0)) == 0


def test_perplexity_counts_the_codes_that_are_evenly_used():
    health = codebook_health(torch.tensor([0, 1, 2, 3] * 5), 8)
    assert health["code_usage"] == 0.5
    assert health["perplexity"] == pytest.approx(4.0, rel=1e-4)
