from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from Diff4MMLiTSLib.core.config import AugmentationConfig
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.training.checkpoint import save_model
from Diff4MMLiTSLib.training.clicks import CLICK_SIGMA_MM
from Diff4MMLiTSLib.training.segmenter_task import (
    CLICKS,
    COARSE_FACTOR,
    NETWORK,
    fresh_segmenter,
    learned_numbers,
    segmenter_task,
)
from Diff4MMLiTSLib.training.task import Item
from Diff4MMLiTSLib.training.trainer import TrainResult, train
from tiny_models import segmenter_card, segmenter_config, working_study


def run(folder: Path, **loop: object) -> TrainResult:
    config = segmenter_config(**loop)
    task = segmenter_task(config, [working_study("a")], [working_study("b", seed=1)])
    return train(task, config=config.loop, run=folder, resume=True, device="cpu", progress=silent())


def test_a_segmenter_learns_one_phantom_in_seconds(tmp_path: Path) -> None:
    started = time.process_time()
    result = run(tmp_path, steps=150, checkpoint_every=0)
    assert result.metrics["tumor_dice"] > 0.7
    assert result.metrics["liver_dice"] > 0.85
    assert time.process_time() - started < 60  # of all cores together


def test_the_saved_model_gives_the_same_output_in_a_new_process(tmp_path: Path) -> None:
    config = segmenter_config()
    network = fresh_segmenter(config.network, seed=3).eval()
    card = segmenter_card(config)
    save_model(tmp_path / "model", card, {NETWORK: network.state_dict()})
    x = torch.randn(1, 10, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.save(x, tmp_path / "x.pt")
    script = (
        "import sys, torch; from pathlib import Path\n"
        "from Diff4MMLiTSLib.stages.segmentation import MultimodalSegmenter\n"
        "folder = Path(sys.argv[1]); model = MultimodalSegmenter.load(folder / 'model')\n"
        "with torch.no_grad(): torch.save(model.network(torch.load(folder / 'x.pt')), folder / 'y.pt')\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    with torch.no_grad():
        assert torch.equal(network(x), torch.load(tmp_path / "y.pt"))


def test_a_synthetic_study_of_a_validation_patient_is_not_learned_from() -> None:
    pair = replace(working_study("b_synthetic-0001", synthetic=True), source_study="b")
    with pytest.raises(InputError, match="'b' is in training and validation"):
        segmenter_task(segmenter_config(), [working_study("a"), pair], [working_study("b", seed=1)])


def test_the_same_seed_gives_the_same_fresh_network() -> None:
    config = segmenter_config().network
    weights = [next(fresh_segmenter(config, seed=seed).parameters()) for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_an_item_is_a_function_of_its_index_alone() -> None:
    task = segmenter_task(segmenter_config(), [working_study("a")], [working_study("b")])
    first, _, again = task.sample(5), task.sample(6), task.sample(5)
    assert all((first[key] == again[key]).all() for key in first)
    assert first["images"].shape == (4, 16, 16, 16)
    assert first["guidance"].shape == (2, 16, 16, 16)
    assert set(first["labels"].ravel()) <= {0, 1, 2}


def test_some_patches_have_clicks_and_the_others_none() -> None:
    config = segmenter_config().model_copy(update={"click_fraction": 0.5, "coarse_fraction": 0.0})
    task = segmenter_task(config, [working_study("a")], [working_study("b")])
    clicked = sum(bool(task.sample(index)["guidance"].any()) for index in range(60))
    assert 15 < clicked < 45
    plain = segmenter_task(
        config.model_copy(update={"click_fraction": 0.0}), [working_study("a")], [working_study("b")]
    )
    assert not any(plain.sample(index)["guidance"].any() for index in range(20))


def test_some_patches_show_the_liver_in_coarse_voxels_without_clicks() -> None:
    def items(coarse_fraction: float) -> list[Item]:
        update = {
            "click_fraction": 0.9,
            "coarse_fraction": coarse_fraction,
            "liver_fraction": 1.0,
            "tumor_fraction": 0.0,
        }
        config = segmenter_config().model_copy(update=update)
        task = segmenter_task(config, [working_study("a")], [working_study("b")])
        return [task.sample(index) for index in range(20)]

    fine, coarse = items(0.0), items(0.999)
    liver = [max((item["labels"] > 0).sum() for item in each) for each in (fine, coarse)]
    assert liver[0] > 2 * liver[1] > 0  # of 3700 voxels of 3 mm, and 460 of 6 mm
    assert sum(item["guidance"].any() for item in fine) > 10
    assert not any(item["guidance"].any() for item in coarse)


def test_patches_come_to_vary_more_and_more() -> None:
    task = segmenter_task(
        segmenter_config().model_copy(
            update={
                "augmentation": AugmentationConfig(phase_dropout=0.75, noise_hu=40.0),
                "augmentation_growth": 100,
                "click_fraction": 0.0,
            }
        ),
        [working_study("a")],
        [working_study("b")],
    )
    phases = [sum(float(task.sample(index)["presence"].sum()) for index in range(at, at + 20)) for at in (0, 50, 200)]
    assert phases[0] > phases[1] > phases[2]


def test_the_card_says_what_was_learned_besides() -> None:
    config = segmenter_config()
    assert learned_numbers(config) == {COARSE_FACTOR: 2.0, CLICKS: CLICK_SIGMA_MM}
    assert learned_numbers(config.model_copy(update={"coarse_fraction": 0.0, "click_fraction": 0.0})) == {}


def test_real_and_synthetic_studies_are_drawn_in_their_ratio() -> None:
    real = [replace(working_study(f"real{n}"), presence=np.float32([0, 0, 1, 0])) for n in range(3)]
    made = replace(working_study("made", synthetic=True), presence=np.float32([0, 1, 0, 0]))
    task = segmenter_task(segmenter_config(), [*real, made], [working_study("b")])
    synthetic = sum(task.sample(index)["presence"][1] == 1 for index in range(120))
    assert 40 < synthetic < 80


def test_a_study_in_training_and_validation_is_refused() -> None:
    with pytest.raises(InputError, match="'a' is in training and validation"):
        segmenter_task(segmenter_config(), [working_study("a")], [working_study("a")])


def test_training_without_validation_studies_is_refused() -> None:
    with pytest.raises(InputError, match="0 to validate on"):
        segmenter_task(segmenter_config(), [working_study("a")], [])
