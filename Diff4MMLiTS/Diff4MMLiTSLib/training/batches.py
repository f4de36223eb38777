"""Training items, prepared ahead by threads and stacked to batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np
import torch

from ..core.config import TrainLoopConfig
from .task import Batch, Item


def stream_batches(
    sample: Callable[[int], Item], indices: Iterable[int], *, config: TrainLoopConfig, device: torch.device
) -> Iterator[Batch]:
    """Yield batches of the items with these indices, in order, on the device.

    Args:
        sample: Item of an index.
        indices: In the order of training; ``config.batch_size`` of them make a batch.
        config: Its ``workers`` threads prepare items ahead (scipy and numpy free Python's lock while they compute).
        device: Where the batches go.
    """
    items = _prepared(sample, indices, config.workers)
    while group := list(islice(items, config.batch_size)):
        yield {
            # Stacked by torch, whose memory is aligned: where numpy's happens to begin, rounding would depend on it.
            key: torch.stack([torch.from_numpy(np.asarray(item[key])) for item in group]).to(device, non_blocking=True)
            for key in group[0]
        }


def _prepared(sample: Callable[[int], Item], indices: Iterable[int], workers: int) -> Iterator[Item]:
    if workers == 0:
        yield from map(sample, indices)
        return
    pending: deque[Future[Item]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for index in indices:
            pending.append(pool.submit(sample, index))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:  # also when the training stops: nobody waits for items that nobody wants
        pool.shutdown(cancel_futures=True)
