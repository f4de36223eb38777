from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from Diff4MMLiTSLib.core.config import TrainLoopConfig
from Diff4MMLiTSLib.training.batches import stream_batches
from Diff4MMLiTSLib.training.task import Item


@pytest.mark.parametrize("workers", [0, 3])
def test_batches_keep_the_order_of_the_items(workers: int) -> None:
    def sample(index: int) -> Item:
        time.sleep(0.002 * (index % 3))  # later items may be ready first
        return {"x": np.array([index])}

    config = TrainLoopConfig(batch_size=2, workers=workers)
    batches = stream_batches(sample, range(10, 20), config=config, device=torch.device("cpu"))
    assert [batch["x"].flatten().tolist() for batch in batches] == [[n, n + 1] for n in range(10, 20, 2)]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_while_preparing_an_item_reaches_the_loop(workers: int) -> None:
    def sample(index: int) -> Item:
        raise ValueError(index)

    config = TrainLoopConfig(workers=workers)
    with pytest.raises(ValueError, match="0"):
        list(stream_batches(sample, range(2), config=config, device=torch.device("cpu")))
