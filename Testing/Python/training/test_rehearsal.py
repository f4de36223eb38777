from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_trainer import CONFIG, a_task, run

from Diff4MMLiTSLib.training.rehearsal import rehearse


def test_a_rehearsal_writes_nothing_and_knows_what_a_run_will_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = rehearse(a_task(), config=CONFIG, device=torch.device("cpu"))
    assert not list(tmp_path.iterdir())
    run(a_task(), tmp_path / "run")
    sizes = [file.stat().st_size for file in (tmp_path / "run").rglob("*.pt")]
    tensors = found.checkpoint_bytes  # besides them a checkpoint of so few weights is mostly names
    assert tensors < max(sizes) < tensors + 20_000
    assert found.run_bytes > CONFIG.keep_checkpoints * tensors


def test_the_time_of_a_run_counts_its_validations() -> None:
    found = rehearse(a_task(), config=CONFIG, device=torch.device("cpu"))
    slow = found.__class__(**{**vars(found), "seconds_per_step": 2.0, "seconds_per_validation": 10.0})
    assert slow.seconds(CONFIG) == 12 * 2.0 + 3 * 10.0
    assert slow.seconds(CONFIG.model_copy(update={"validate_every": 0}), validation_scale=2) == 12 * 2.0 + 20.0
    assert slow.seconds(CONFIG.model_copy(update={"validate_every": 5})) == 12 * 2.0 + 3 * 10.0
