"""The noising process and its reversal; formulas cite Ho et al., "Denoising diffusion probabilistic models" (2020).

The schedulers come from diffusers, without clipping: latents are standardized, not bounded, and clipping them to
[-1, 1] would shrink N(0, 1) to a deviation of 0.7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

from ..core.config import DiffusionConfig, Prediction, Sampler

BETA_START, BETA_END = 0.0015, 0.0195
"""Of the scaled linear schedule; Rombach et al. (2022). The cosine schedule has none."""

Predictor = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(noisy latents, timesteps (B,)) -> what ``DiffusionConfig.prediction`` says."""


def alpha_bars(config: DiffusionConfig) -> torch.Tensor:
    """Return the part of the signal's variance left at each timestep, (T,): alpha_bar of eq. 4, falling."""
    bars: torch.Tensor = _scheduler(config, Sampler.DDPM).alphas_cumprod
    return bars


def add_noise(latents: torch.Tensor, noise: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    """Return the noisy latents x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise (eq. 4).

    Args:
        latents: x_0, (B, ...).
        noise: Standard normal, same shape.
        alpha_bar: Of each item, (B,).
    """
    signal, sigma = _factors(alpha_bar, latents.ndim)
    return signal * latents + sigma * noise


def training_target(
    latents: torch.Tensor, noise: torch.Tensor, alpha_bar: torch.Tensor, prediction: Prediction
) -> torch.Tensor:
    """Return what the denoiser must predict: noise, x_0, or v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x_0.

    Source: Salimans and Ho, "Progressive distillation" (2022), appendix D, for v.
    """
    if prediction is Prediction.NOISE:
        return noise
    if prediction is Prediction.LATENTS:
        return latents
    signal, sigma = _factors(alpha_bar, latents.ndim)
    return signal * noise - sigma * latents


@torch.no_grad()
def sample(
    predict: Predictor,
    noise: torch.Tensor,
    *,
    config: DiffusionConfig,
    sampler: Sampler,
    steps: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """Turn noise into latents.

    Args:
        predict: The denoiser with its condition filled in.
        noise: Standard normal, (B, ...).
        config: The process that the denoiser was trained for.
        sampler: DPM-Solver++ (deterministic), DDIM (deterministic) or DDPM.
        steps: Denoising steps; at most ``config.timesteps``.
        generator: Source of the noise that DDPM adds.

    Returns:
        Latents x_0, shape of ``noise``.
    """
    scheduler = _scheduler(config, sampler)
    scheduler.set_timesteps(min(steps, config.timesteps), device=noise.device)
    randomness = {"generator": generator} if sampler is Sampler.DDPM else {}
    latents = noise
    for timestep in scheduler.timesteps:
        predicted = predict(latents, timestep.expand(noise.shape[0]))
        latents = scheduler.step(predicted, timestep, latents, **randomness).prev_sample
    return latents


def _scheduler(config: DiffusionConfig, sampler: Sampler) -> Any:  # noqa: ANN401 (diffusers is untyped)
    shared: dict[str, Any] = {
        "num_train_timesteps": config.timesteps,
        "beta_schedule": config.schedule,
        "beta_start": BETA_START,
        "beta_end": BETA_END,
        "prediction_type": config.prediction.value,
        "rescale_betas_zero_snr": config.zero_terminal_snr,
        "timestep_spacing": "trailing",  # begins at the last timestep, which alone is pure noise
    }
    if sampler is Sampler.DPM_SOLVER:
        return DPMSolverMultistepScheduler(**shared, algorithm_type="dpmsolver++", solver_order=2)
    if sampler is Sampler.DDIM:
        return DDIMScheduler(**shared, clip_sample=False, set_alpha_to_one=True)
    return DDPMScheduler(**shared, clip_sample=False)


def _factors(alpha_bar: torch.Tensor, axes: int) -> tuple[torch.Tensor, torch.Tensor]:
    shaped = alpha_bar.reshape(-1, *[1] * (axes - 1))
    return shaped.sqrt(), (1.0 - shaped).sqrt()
