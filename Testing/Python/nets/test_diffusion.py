"""A denoiser that is exactly right for a Gaussian makes every sampler return that Gaussian."""

from __future__ import annotations

import diffusers
import pytest
import torch

from Diff4MMLiTSLib.core.config import DiffusionConfig, Prediction, Sampler
from Diff4MMLiTSLib.nets import diffusion
from Diff4MMLiTSLib.nets.diffusion import add_noise, alpha_bars, sample, training_target

MEAN, DEVIATION = 1.5, 1.0
TOLERANCE = 0.05
STEPS = {Sampler.DPM_SOLVER: 20, Sampler.DDIM: 50, Sampler.DDPM: 1000}


def gaussian_denoiser(config):
    """Return the best prediction for x_0 ~ N(MEAN, DEVIATION^2): E[. | x_t]."""
    bars = alpha_bars(config)

    def predict(noisy, timestep):
        bar = bars[timestep][:, None]
        surprise = (noisy - bar.sqrt() * MEAN) / (bar * DEVIATION**2 + 1 - bar)
        noise = (1 - bar).sqrt() * surprise
        x_0 = MEAN + bar.sqrt() * DEVIATION**2 * surprise
        velocity = bar.sqrt() * noise - (1 - bar).sqrt() * x_0
        return {Prediction.NOISE: noise, Prediction.V: velocity, Prediction.LATENTS: x_0}[config.prediction]

    return predict


def sampled(sampler, config):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((2, 8000), generator=generator)
    denoiser = gaussian_denoiser(config)
    return sample(denoiser, noise, config=config, sampler=sampler, steps=STEPS[sampler], generator=generator)


def is_the_gaussian(values):
    return abs(float(values.mean()) - MEAN) < TOLERANCE and abs(float(values.std()) - DEVIATION) < TOLERANCE


@pytest.mark.parametrize("sampler", Sampler)
@pytest.mark.parametrize("prediction", Prediction)
@pytest.mark.parametrize("schedule", ["squaredcos_cap_v2", "scaled_linear"])
def test_a_perfect_denoiser_gives_the_mean_and_deviation_of_its_gaussian(sampler, prediction, schedule):
    config = DiffusionConfig(
        prediction=prediction, schedule=schedule, zero_terminal_snr=prediction is not Prediction.NOISE
    )
    assert is_the_gaussian(sampled(sampler, config))


@pytest.mark.parametrize("name", ["DDIMScheduler", "DDPMScheduler"])
def test_clipping_would_be_caught(monkeypatch, name):
    original = getattr(diffusers, name)
    monkeypatch.setattr(diffusion, name, lambda **settings: original(**settings | {"clip_sample": True}))
    assert not is_the_gaussian(sampled(Sampler.DDIM if name == "DDIMScheduler" else Sampler.DDPM, DiffusionConfig()))


def test_the_last_timestep_is_pure_noise():
    assert float(alpha_bars(DiffusionConfig())[-1]) == pytest.approx(0.0, abs=1e-6)


def test_the_velocity_and_the_noisy_latents_give_back_latents_and_noise():
    latents, noise = torch.randn(3, 4), torch.randn(3, 4)
    bars = torch.tensor([0.1, 0.5, 0.9])
    noisy = add_noise(latents, noise, bars)
    velocity = training_target(latents, noise, bars, Prediction.V)
    signal, sigma = bars.sqrt()[:, None], (1 - bars).sqrt()[:, None]
    assert torch.allclose(signal * noisy - sigma * velocity, latents, atol=1e-6)
    assert torch.allclose(sigma * noisy + signal * velocity, noise, atol=1e-6)
