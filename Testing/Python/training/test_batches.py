from __future__ import annotations

import numpy as np
import pytest
import torch

from Diff4MMLiTSLib.core.config import TrainLoopConfig
from Diff4MMLiTSLib.training.batches import stream_batches
from Diff4MMLiTSLib.training.task import Item

CONFIG = TrainLoopConfig(batch_size=2)


def numbered(index: int) -> Item:
    return {"x": np.full(3, index, dtype=np.float32)}


def displaced(index: int) -> Item:
    """Return an item whose memory begins at an odd place, which differs from item to item."""
    buffer = np.zeros(128, dtype=np.uint8)
    start = (-buffer.ctypes.data) % 64 + 4 * (index % 16)
    values = buffer[start : start + 12].view(np.float32)
    values[:] = index
    return {"x": values}


@pytest.mark.parametrize("workers", [0, 3])
def test_items_come_in_order_whatever_prepares_them(workers):
    config = CONFIG.model_copy(update={"workers": workers})
    batches = list(stream_batches(numbered, range(10), config=config, device=torch.device("cpu")))
    assert [batch["x"][:, 0].tolist() for batch in batches] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def test_batches_lie_in_aligned_memory_so_that_rounding_does_not_depend_on_the_place():
    batches = list(stream_batches(displaced, range(1, 9), config=CONFIG, device=torch.device("cpu")))
    assert all(batch["x"].data_ptr() % 64 == 0 for batch in batches)


def test_batches_do_not_share_memory_with_their_items():
    item = {"x": np.zeros(3, dtype=np.float32)}
    batch = next(stream_batches(lambda _: item, range(2), config=CONFIG, device=torch.device("cpu")))
    batch["x"] += 1
    assert not item["x"].any()
