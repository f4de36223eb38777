"""The denoiser learns what tumors change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from working_studies import GRID, working_study

from conftest import ball
from Diff4MMLiTSLib.core.config import (
    AutoencoderNetwork,
    DenoiserNetwork,
    DenoiserTrainConfig,
    DiffusionConfig,
    Prediction,
    TrainLoopConfig,
)
from Diff4MMLiTSLib.core.intensity import Window
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.nets.autoencoder import Autoencoder
from Diff4MMLiTSLib.training.denoising import denoiser_task, patches_of
from Diff4MMLiTSLib.training.generative import as_batch
from Diff4MMLiTSLib.training.pairs import TumorPair
from Diff4MMLiTSLib.training.trainer import train

LATENTS = DiffusionConfig(prediction=Prediction.LATENTS)


def config(steps=1, **settings):
    return DenoiserTrainConfig(
        patch=(16, 16, 16),
        learning_rate=3e-3,
        **settings,
        network=DenoiserNetwork(
            channels=(16, 16), attention=(False, False), residual_blocks=1, groups=4, diffusion=LATENTS
        ),
        loop=TrainLoopConfig(steps=steps, batch_size=1, validate_every=0, ema_decay=0.9, clip_norm=1.0),
    )


@pytest.fixture(scope="module")
def autoencoder():
    torch.manual_seed(0)
    return Autoencoder(AutoencoderNetwork(channels=(4,), residual_layers=1, latent_channels=2, codes=8))


def task_of(autoencoder, settings):
    pair = TumorPair(working_study(0), working_study(1, with_tumor=False))
    lesions = patches_of([pair], settings, autoencoder.factor)
    return denoiser_task(lesions, [], config=settings, autoencoder=autoencoder, window=Window(-175, 400))


def latents(autoencoder, images):
    """Return latents (P, C, Z', Y', X') of images (P, Z, Y, X)."""
    with torch.no_grad():
        return autoencoder.encode(torch.from_numpy(images)[:, None])


def test_latents_are_standardized_by_what_was_measured(autoencoder):
    task = task_of(autoencoder, config(phase_dropout=0.0, mirror=False, contrast_gain=0.0))
    network, item = task.networks["denoiser"], task.sample(0)
    change = latents(autoencoder, item["changed"]) - latents(autoencoder, item["base"])
    standardized = network.standardize_change(change.flatten(0, 1)[None])[0]
    inside = torch.nn.functional.avg_pool3d(torch.from_numpy(item["tumor"]), 2)[0] > 0
    assert float(standardized[:, inside].square().mean().sqrt()) == pytest.approx(1.0, abs=0.2)


def test_items_are_a_pure_function_of_their_number(autoencoder):
    task = task_of(autoencoder, config(phase_dropout=0.5))
    first, again, other = (task.sample(index) for index in (3, 3, 4))
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert any(not np.array_equal(first[key], other[key]) for key in first)


def test_withheld_phases_change_nothing_of_the_loss(autoencoder):
    task = task_of(autoencoder, config(phase_dropout=0.9))
    item = next(item for item in map(task.sample, range(20)) if item["presence"].sum() < 4)
    other = {**item, "base": item["base"].copy(), "changed": item["changed"].copy()}
    for name in ("base", "changed"):
        other[name][item["presence"] == 0] = 0.7
    losses = [
        task.players[0].loss(as_batch(part, "cpu"), torch.Generator().manual_seed(0), 0)[0].item()
        for part in (item, other)
    ]
    assert losses[0] == losses[1]


def test_what_is_left_to_learn_is_small_and_mirrored_with_the_lesion(autoencoder):
    task = task_of(autoencoder, config(mirror=True))
    for index in range(8):
        item = task.sample(index)
        inside, there = item["tumor"][0] > 0, item["presence"] > 0
        rest = np.abs(item["changed"] - item["base"])[there][:, inside].mean() * 287.5
        assert rest < 10  # of 16 to 43 HU of contrast


def test_the_denoiser_learns_the_necrosis_of_a_lesion(autoencoder, tmp_path):
    study, settings = working_study(0), config(80, phase_dropout=0.0, contrast_gain=0.0)
    study.phases[:, ball(GRID, GRID.center_mm, 5.0)] -= 60  # what no flat tumor shows
    pair = TumorPair(study, working_study(1, with_tumor=False))
    lesions = patches_of([pair], settings, autoencoder.factor)
    task = denoiser_task(lesions, [], config=settings, autoencoder=autoencoder, window=Window(-175, 400))
    with torch.no_grad():
        before = task.validate()["error"]
    result = train(task, config=settings.loop, run=tmp_path / "run", resume=False, device="cpu", progress=silent())
    assert result.metrics["error"] < 0.6 * before
