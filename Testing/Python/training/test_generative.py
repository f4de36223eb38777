"""The inpainter and the autoencoder learn, from what they may learn from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from working_studies import GRID, LIVER_HU, working_study

from Diff4MMLiTSLib.core.config import (
    AutoencoderNetwork,
    AutoencoderTrainConfig,
    DiscriminatorNetwork,
    InpainterNetwork,
    InpainterTrainConfig,
    TrainLoopConfig,
    TumorMaskConfig,
)
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.tumor_mask import dilate_mm
from Diff4MMLiTSLib.training.generative import autoencoder_task, inpainter_item, inpainter_task
from Diff4MMLiTSLib.training.trainer import train

SHARED = {"spacing_mm": 3.0, "patch": (16, 16, 16), "learning_rate": 5e-3, "gain": 0.0, "offset_hu": 0.0}
JUDGE = DiscriminatorNetwork(channels=4, layers=1)


def inpainter_config(steps, **settings):
    return InpainterTrainConfig(
        **SHARED,
        **{"adversarial_weight": 0.0, "phase_dropout": 0.0} | settings,
        network=InpainterNetwork(channels=4, downsamplings=1, blocks=2, global_ratio=0.5),
        discriminator=JUDGE,
        holes=TumorMaskConfig(diameter_mm=(10.0, 20.0), minimum_inside=0.5, tries=20),
        loop=TrainLoopConfig(steps=steps, batch_size=1, validate_every=0, ema_decay=0.9, clip_norm=1.0),
    )


def autoencoder_config(steps, **settings):
    return AutoencoderTrainConfig(
        **SHARED,
        **{"adversarial_weight": 0.0} | settings,
        network=AutoencoderNetwork(channels=(8,), residual_layers=1, latent_channels=4, codes=16),
        discriminator=JUDGE,
        loop=TrainLoopConfig(steps=steps, batch_size=1, validate_every=0, clip_norm=1.0),
    )


def run(task, config, folder):
    return train(task, config=config.loop, run=folder, resume=False, device="cpu", progress=silent())


def only_item(task, index=0):
    """Return the task that sees nothing but one item."""
    item = task.sample(index)
    object.__setattr__(task, "sample", lambda _index: item)
    return task, {key: torch.from_numpy(np.asarray(value)[None]) for key, value in item.items()}


def test_real_tumors_are_hidden_and_never_learned_from():
    study = working_study()
    tumor = dilate_mm(study.tumor, GRID, 5.0)
    study.phases[:, tumor] = 1000.0  # marks what must not be seen
    for seed in range(8):
        item = inpainter_item(study, inpainter_config(1), np.random.default_rng(seed))
        marked = item["images"][0] > 0.99
        assert not (marked & (item["hole"][0] == 0)).any()
        assert not (marked & (item["learned"][0] > 0)).any()


def test_the_parenchyma_of_every_phase_is_the_base_of_its_fill():
    config = inpainter_config(1)
    item = inpainter_item(working_study(), config, np.random.default_rng(1))
    hu = (item["base"] + 1) / 2 * 575 - 175
    inside = item["learned"][0] > 0
    assert np.allclose(hu[:, inside].mean(axis=1), LIVER_HU, atol=4)


def test_what_a_phase_does_not_show_is_neither_learned_nor_measured():
    cut, whole = working_study(with_tumor=False), working_study(with_tumor=False)
    cut.phases[1, :10] = -1000.0  # the arterial phase ends in the middle of the liver
    task = inpainter_task([cut], [cut], config=inpainter_config(1))
    item = {key: torch.from_numpy(np.asarray(value)[None]) for key, value in task.sample(0).items()}
    item["learned"] = item["liver"]
    loss, numbers = task.players[0].loss(item, torch.Generator(), 0)
    assert torch.isfinite(loss) and numbers["l1"] < 1.0 and numbers["known"] < 1.0  # air would cost more than 5
    with torch.no_grad():
        whole_error = inpainter_task([cut], [whole], config=inpainter_config(1)).validate()["mae_hu"]
        assert task.validate()["mae_hu"] < 1.5 * whole_error


def test_items_are_a_pure_function_of_their_number():
    task = inpainter_task([working_study()], [], config=inpainter_config(1, phase_dropout=0.4))
    first, again, other = (task.sample(index) for index in (3, 3, 4))
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert not np.array_equal(first["images"], other["images"])


@torch.no_grad()
def test_the_inpainter_overfits_one_patch(tmp_path):
    config = inpainter_config(120)
    task, batch = only_item(inpainter_task([working_study()], [], config=config))
    (player,) = task.players
    before = player.loss(batch, torch.Generator(), 0)[1]["l1"]
    with torch.enable_grad():
        run(task, config, tmp_path / "run")
    assert player.loss(batch, torch.Generator(), 0)[1]["l1"] < 0.6 * before


@torch.no_grad()
def test_the_known_liver_is_learned_too_unless_its_weight_is_0():
    losses = []
    for weight in (0.0, 1.0):
        task, batch = only_item(inpainter_task([working_study()], [], config=inpainter_config(1, known_weight=weight)))
        losses.append(task.players[0].loss(batch, torch.Generator(), 0))
    (without, numbers), (with_known, _) = losses
    assert float(with_known - without) == pytest.approx(numbers["known"], rel=1e-4)
    assert numbers["known"] > 0


def test_a_discriminator_whose_opinion_does_not_count_yet_stays_as_it_is(tmp_path):
    config = inpainter_config(2, adversarial_weight=0.1, adversarial_start=1.0)
    task = inpainter_task([working_study()], [], config=config)
    before = [parameter.clone() for parameter in task.networks["discriminator"].parameters()]
    run(task, config, tmp_path / "run")
    for one, other in zip(before, task.networks["discriminator"].parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)  # weight decay


@torch.no_grad()
def test_sample_pictures_show_hole_fill_and_truth_of_every_phase():
    pictures = inpainter_task([working_study()], [], config=inpainter_config(1)).pictures()
    assert len(pictures) == 2
    for picture in pictures.values():
        assert picture.shape == (4 * 16, 3 * 16)
        assert picture.dtype == np.uint8
        truth, fill = picture[:, 32:], picture[:, 16:32]
        assert np.median(np.abs(truth.astype(int) - fill)) < 20


@torch.no_grad()
def test_the_autoencoder_overfits_one_patch(tmp_path):
    config = autoencoder_config(120)
    task, batch = only_item(autoencoder_task([working_study()], [], config=config))
    network = task.networks["autoencoder"]
    before = (network.decode(network.encode(batch["images"])) - batch["images"]).abs().mean()
    with torch.enable_grad():
        run(task, config, tmp_path / "run")
    after = (network.decode(network.encode(batch["images"])) - batch["images"]).abs().mean()
    assert after < 0.5 * before


@pytest.mark.parametrize("kind", ["inpainter", "autoencoder"])
def test_both_players_of_a_gan_learn(tmp_path, kind):
    settings = {"adversarial_weight": 0.1, "adversarial_start": 0.0}
    make, configure = {
        "inpainter": (inpainter_task, inpainter_config),
        "autoencoder": (autoencoder_task, autoencoder_config),
    }[kind]
    config = configure(2, **settings)
    task = make([working_study()], [], config=config)
    before = {
        name: [parameter.clone() for parameter in network.parameters()] for name, network in task.networks.items()
    }
    result = run(task, config, tmp_path / "run")
    assert set(task.networks) == {kind, "discriminator"}
    assert np.isfinite(result.metrics["score"])
    for name, network in task.networks.items():
        assert any((a != b).any() for a, b in zip(before[name], network.parameters(), strict=True))


def test_a_patch_that_the_autoencoder_cannot_halve_is_refused():
    config = autoencoder_config(1).model_copy(update={"patch": (15, 16, 16)})
    with pytest.raises(InputError, match="multiples of 2"):
        autoencoder_task([working_study()], [], config=config)
