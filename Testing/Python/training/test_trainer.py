from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from Diff4MMLiTSLib.core.config import ModelKind, TrainLoopConfig
from Diff4MMLiTSLib.core.errors import CanceledError, InputError
from Diff4MMLiTSLib.core.progress import Progress, silent
from Diff4MMLiTSLib.training import run_state
from Diff4MMLiTSLib.training.checkpoint import load_checkpoint
from Diff4MMLiTSLib.training.event_file import png_of
from Diff4MMLiTSLib.training.task import Batch, Item, Player, Task
from Diff4MMLiTSLib.training.trainer import TrainResult, train

CONFIG = TrainLoopConfig(steps=12, batch_size=2, accumulation=2, validate_every=4, checkpoint_every=5, ema_decay=0.8)


def a_task(*, nan_at: tuple[int, ...] = (), score: float | None = None) -> Task:
    """Return a generator with dropout and noise and its discriminator: everything random that a network can have."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 4))
        judge = nn.Linear(4, 1)

    def generator_loss(batch: Batch, rng: torch.Generator, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        noise = torch.randn(batch["x"].shape, generator=rng)
        made = generator(batch["x"] + 0.1 * noise)
        loss = (made - batch["x"]).square().mean() - 0.1 * judge(made).mean()
        return loss * (float("nan") if step in nan_at else 1.0), {"noise": float(noise.mean())}

    def judge_loss(batch: Batch, _rng: torch.Generator, _step: int) -> tuple[torch.Tensor, dict[str, float]]:
        return (judge(generator(batch["x"]).detach()) - judge(batch["x"])).mean(), {}

    def sample(index: int) -> Item:
        return {"x": np.random.default_rng((7, index)).standard_normal(4, dtype=np.float32)}

    def validate() -> dict[str, float]:
        x = torch.ones(1, 4)
        return {"score": score if score is not None else -float((generator(x) - x).square().mean())}

    players = (Player("generator", ("generator",), generator_loss, 0.05), Player("judge", ("judge",), judge_loss, 0.01))
    networks = {"generator": generator, "judge": judge}
    return Task(ModelKind.INPAINTER, networks, players, ("generator",), sample, validate)


def run(task: Task, folder: Path, config: TrainLoopConfig = CONFIG, *, resume: bool = False) -> TrainResult:
    return train(task, config=config, run=folder, resume=resume, device="cpu", progress=silent())


def stop_after(steps: int) -> Progress:
    """Return a progress that asks to stop after so many steps."""
    reports: list[float] = []
    return Progress(lambda fraction, _stage, _message: reports.append(fraction), lambda: len(reports) >= steps)


def interrupt(folder: Path, steps: int) -> None:
    with pytest.raises(CanceledError):
        train(a_task(), config=CONFIG, run=folder, resume=False, device="cpu", progress=stop_after(steps))


def flat(content: object, name: str = "") -> dict[str, object]:
    if isinstance(content, dict):
        return {key: value for k, v in content.items() for key, value in flat(v, f"{name}/{k}").items()}
    if isinstance(content, list):
        return flat(dict(enumerate(content)), name)
    return {name: content.tolist() if isinstance(content, torch.Tensor) else content}


def final_state(folder: Path) -> dict[str, object]:
    return flat(load_checkpoint(folder))


@pytest.mark.parametrize("steps", [1, 5, 7])
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path, steps: int) -> None:
    whole = run(a_task(), tmp_path / "whole")
    interrupt(tmp_path / "parts", steps)
    parts = run(a_task(), tmp_path / "parts", resume=True)
    assert final_state(tmp_path / "whole") == final_state(tmp_path / "parts")
    assert flat(whole.weights) == flat(parts.weights)
    assert (whole.best_step, whole.metrics) == (parts.best_step, parts.metrics)


def test_a_run_resumed_in_a_new_process_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    run(a_task(), tmp_path / "whole")
    interrupt(tmp_path / "parts", 7)
    here = Path(__file__).parent
    script = "import sys; from test_trainer import *; run(a_task(), Path(sys.argv[1]), resume=True)"
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "parts")], cwd=here, check=True)
    assert final_state(tmp_path / "whole") == final_state(tmp_path / "parts")


def test_the_result_does_not_depend_on_the_workers(tmp_path: Path) -> None:
    run(a_task(), tmp_path / "none", CONFIG.model_copy(update={"workers": 0}))
    run(a_task(), tmp_path / "three", CONFIG.model_copy(update={"workers": 3}))
    assert flat(load_checkpoint(tmp_path / "none")["networks"]) == flat(load_checkpoint(tmp_path / "three")["networks"])


def test_a_stop_file_ends_the_run_with_a_checkpoint_and_is_removed(tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    with pytest.raises(CanceledError, match="step 0"):
        run(a_task(), tmp_path)
    assert load_checkpoint(tmp_path)["step"] == 0
    assert run(a_task(), tmp_path, resume=True).step == CONFIG.steps


def test_a_run_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    interrupt(tmp_path, 3)
    with pytest.raises(InputError, match="--resume"):
        run(a_task(), tmp_path)


def test_resuming_with_another_configuration_is_refused(tmp_path: Path) -> None:
    interrupt(tmp_path, 3)
    with pytest.raises(InputError, match=r"clip_norm = 12\.0, not 1\.0"):
        run(a_task(), tmp_path, CONFIG.model_copy(update={"clip_norm": 1.0}), resume=True)


def test_resuming_a_finished_run_returns_its_result_again(tmp_path: Path) -> None:
    first = run(a_task(), tmp_path)
    again = run(a_task(), tmp_path, resume=True)
    assert flat(first.weights) == flat(again.weights)


def test_a_single_bad_step_changes_no_weight_of_its_player(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"steps": 1})
    task = a_task(nan_at=(0,))
    before = [parameter.clone() for parameter in task.networks["generator"].parameters()]
    run(task, tmp_path, config)
    assert all(map(torch.equal, before, task.networks["generator"].parameters()))


def test_gradients_that_stay_infinite_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gradients of generator.*learning rate"):
        run(a_task(nan_at=tuple(range(12))), tmp_path)


def test_validation_sees_the_averaged_weights_and_training_goes_on_with_its_own(tmp_path: Path) -> None:
    seen = []
    task = a_task()
    weight = task.networks["generator"][0].weight
    watched = Task(**{**vars(task), "validate": lambda: {"score": seen.append(weight.clone()) or 0.0}})
    run(watched, tmp_path, CONFIG.model_copy(update={"validate_every": 0}))
    averages = load_checkpoint(tmp_path)["averages"]["generator"]["0.weight"]
    assert torch.equal(seen[0], averages)
    assert not torch.equal(weight, averages)


def test_a_score_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    scores = iter([float("nan"), -2.0, -1.0])
    task = replace(a_task(), validate=lambda: {"score": next(scores)})
    assert run(task, tmp_path).metrics == {"score": -1.0}


def test_training_ends_early_when_the_score_no_longer_rises(tmp_path: Path) -> None:
    result = run(a_task(score=0.5), tmp_path, CONFIG.model_copy(update={"validate_every": 2, "patience": 2}))
    assert (result.step, result.best_step) == (6, 2)


def run_plain(folder: Path, batch_size: int, accumulation: int = 1) -> None:
    """Train a network whose loss is a mean over items, so that only the items of a step count."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Linear(4, 4)
    player = Player("only", ("net",), lambda batch, _g, _s: ((network(batch["x"]) - 1).square().mean(), {}), 0.01)
    task = Task(ModelKind.SEGMENTER, {"net": network}, (player,), (), a_task().sample, lambda: {"score": 0.0})
    run(task, folder, CONFIG.model_copy(update={"batch_size": batch_size, "accumulation": accumulation}))


def plain_weight(folder: Path) -> torch.Tensor:
    return load_checkpoint(folder)["networks"]["net"]["weight"]


def test_accumulated_items_count_like_one_large_batch(tmp_path: Path) -> None:
    run_plain(tmp_path / "one", batch_size=4)
    run_plain(tmp_path / "four", batch_size=1, accumulation=4)
    assert torch.allclose(plain_weight(tmp_path / "one"), plain_weight(tmp_path / "four"), atol=1e-6)


def last_line(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])


TWO_PROCESSES = """
import os, sys
from test_trainer import *
folder = Path(sys.argv[1])
run_plain(folder, batch_size=2)
task = a_task()
run(task, folder.parent / "gan")
torch.save({name: network.state_dict() for name, network in task.networks.items()}, sys.argv[1] + os.environ["RANK"])
"""


def test_two_processes_that_share_a_batch_learn_what_one_learns_from_it(tmp_path: Path) -> None:
    run_plain(tmp_path / "one", batch_size=4)
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    subprocess.run([*launch, str(script), str(tmp_path / "two")], env=environment, check=True, capture_output=True)
    assert torch.allclose(plain_weight(tmp_path / "one"), plain_weight(tmp_path / "two"), atol=1e-6)
    assert last_line(tmp_path / "two")["only/loss"] == pytest.approx(last_line(tmp_path / "one")["only/loss"], rel=1e-5)
    first, second = (flat(torch.load(tmp_path / f"two{rank}")) for rank in (0, 1))
    assert first == second  # statistics of normalization included, which no gradient moves


def test_the_log_has_each_step_once_after_resuming(tmp_path: Path) -> None:
    interrupt(tmp_path, 11)
    run(a_task(), tmp_path, resume=True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 10, 12]
    assert {"generator/loss", "judge/loss", "validation/score"} <= set(lines[-1])


def test_a_network_that_no_player_trains_stays_in_evaluation_mode(tmp_path: Path) -> None:
    task = a_task()
    frozen = nn.BatchNorm1d(4)
    run(Task(**{**vars(task), "networks": {**task.networks, "frozen": frozen}}), tmp_path)
    assert not frozen.training


def test_numbers_and_pictures_are_written_for_tensorboard(tmp_path: Path) -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(3, 4)
    task = a_task()
    with_pictures = Task(**{**vars(task), "pictures": lambda: {"sample": picture}})
    run(with_pictures, tmp_path)
    (events,) = tmp_path.glob("events.out.tfevents.*")
    content = events.read_bytes()
    assert content.count(b"validation/score") >= 1
    assert content.count(png_of(picture)) == content.count(b"validation/score")


def test_a_run_that_would_fill_the_disk_is_refused_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"GB are free.*keep_free_gb"):
        run(a_task(), tmp_path / "run", CONFIG.model_copy(update={"keep_free_gb": 1e9}))
    assert not (tmp_path / "run").exists()


def test_a_disk_that_fills_up_ends_the_run_with_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter([10**12, 10**12, 10**6])  # at the refusal, at step 0, at step 10
    monkeypatch.setattr(run_state, "free_bytes", lambda _folder: next(free))
    with pytest.raises(InputError, match=r"nearly full: stopped after step 10.*--resume"):
        run(a_task(), tmp_path)
    assert load_checkpoint(tmp_path)["step"] == 10


def test_the_log_says_how_long_steps_wait_for_their_data(tmp_path: Path) -> None:
    slow = replace(a_task(), sample=lambda index: (time.sleep(0.02), a_task().sample(index))[1])
    run(slow, tmp_path, CONFIG.model_copy(update={"steps": 2, "workers": 0}))
    line = last_line(tmp_path)
    assert line["seconds_per_step"] > 4 * 0.02
    assert 0.3 < line["data_wait_fraction"] < 1
