"""A network run over a volume in overlapping windows: where they lie, how they are weighted, how many fit at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.config import SegmentConfig
from ..core.errors import OutOfMemoryError, is_out_of_memory
from ..core.progress import Progress

log = logging.getLogger(__name__)

AIR = -1.0
"""Normalized value of air; windows that leave the volume see it."""
GAUSSIAN_SIGMA = 0.125
"""Of the weight within a window, as part of the window's size (nnU-Net)."""
LEAST_WEIGHT = 1e-3
"""In the corners of a window, against 1 in its middle."""

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
Size = tuple[int, int, int]
Forward = Callable[[FloatArray], FloatArray]
"""Windows (N, P, Z, Y, X) -> values (N, C, Z, Y, X)."""


def run_windows(
    forward: Forward,
    images: FloatArray,
    patch: Size,
    *,
    config: SegmentConfig,
    progress: Progress,
    where: BoolArray | None = None,
) -> FloatArray:
    """Return the weighted mean, at every voxel, of what a network says in the windows around it.

    Args:
        forward: The network; it may run out of memory, and is then given fewer windows at once.
        images: Normalized phases (P, Z, Y, X).
        patch: Size of the windows.
        config: Overlap, and windows in one call of ``forward``; windows are spread evenly.
        progress: Reports per window.
        where: Voxels (Z, Y, X) that matter; windows without any are left out. None means all.

    Returns:
        (C, Z, Y, X), float32; 0 where no window came.

    Raises:
        OutOfMemoryError: Not even one window fits.
        CanceledError: The user asked to stop.
    """
    shape = images.shape[1:]
    padding = [max(0, size - n) for size, n in zip(patch, shape, strict=True)]
    padded = np.pad(images, [(0, 0), *((0, more) for more in padding)], constant_values=AIR)
    boxes = [box for box in _boxes(padded.shape[1:], patch, config.overlap) if where is None or where[box].any()]
    weight = _gaussian(patch)
    total = np.zeros(padded.shape[1:], dtype=np.float32)
    result: FloatArray | None = None
    for done, (box, values) in enumerate(_in_groups(forward, padded, boxes, config.windows_at_once)):
        progress.update(done / len(boxes), "segmenting")
        if result is None:
            result = np.zeros((len(values), *padded.shape[1:]), dtype=np.float32)
        result[(slice(None), *box)] += values * weight
        total[box] += weight
    inside = tuple(slice(0, n) for n in shape)
    if result is None:
        raise ValueError("no voxel matters")
    return np.asarray(result[(slice(None), *inside)] / np.maximum(total[inside], LEAST_WEIGHT**3))


def _in_groups(
    forward: Forward, images: FloatArray, boxes: Sequence[tuple[slice, ...]], at_once: int
) -> Iterator[tuple[tuple[slice, ...], FloatArray]]:
    """Yield each window's place and values; out of memory, go on with half as many at once, and say so."""
    first = 0
    while first < len(boxes):
        group = boxes[first : first + at_once]
        try:
            values = forward(np.stack([images[(slice(None), *box)] for box in group]))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if at_once == 1:
                raise OutOfMemoryError(
                    "The device ran out of memory with a single window", remedy='Use "--device cpu"'
                ) from None
            at_once = max(1, len(group) // 2)
            log.warning("The device ran out of memory: going on with %d windows at once", at_once)
            _free_memory()
            continue
        yield from zip(group, values, strict=True)
        first += len(group)


def _free_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _boxes(shape: tuple[int, ...], patch: Size, overlap: float) -> list[tuple[slice, ...]]:
    starts = []
    for n, size in zip(shape, patch, strict=True):
        steps = ceil((n - size) / max(1.0, size * (1 - overlap)))
        starts.append([round(step * (n - size) / max(1, steps)) for step in range(steps + 1)])
    return [
        tuple(slice(start, start + size) for start, size in zip(corner, patch, strict=True))
        for corner in product(*starts)
    ]


def _gaussian(patch: Size) -> FloatArray:
    axes = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (GAUSSIAN_SIGMA * n)) ** 2) for n in patch]
    floored = [np.maximum(axis / axis.max(), LEAST_WEIGHT) for axis in axes]
    return np.asarray(floored[0][:, None, None] * floored[1][:, None] * floored[2], dtype=np.float32)
