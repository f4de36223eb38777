from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from Diff4MMLiTSLib.core.config import SegmentConfig
from Diff4MMLiTSLib.core.errors import CanceledError, OutOfMemoryError
from Diff4MMLiTSLib.core.progress import Progress, silent
from Diff4MMLiTSLib.training.windows import run_windows

IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 20, 17, 9)).astype(np.float32)


class Echo:
    """Returns its input; runs out of memory with more than ``limit`` windows at once."""

    def __init__(self, limit: int = 100) -> None:
        self.limit = limit
        self.sizes: list[int] = []

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        self.sizes.append(len(windows))
        if len(windows) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return windows


def through(forward: Echo, *, overlap: float = 0.5, where: np.ndarray | None = None) -> np.ndarray:
    config = SegmentConfig(overlap=overlap, windows_at_once=4)
    return run_windows(forward, IMAGES, (8, 8, 12), config=config, progress=silent(), where=where)


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.75])
def test_windows_cover_everything_and_agree(overlap: float) -> None:
    assert np.allclose(through(Echo(), overlap=overlap), IMAGES, atol=1e-5)


def test_windows_in_which_nothing_matters_are_left_out() -> None:
    where = np.zeros(IMAGES.shape[1:], dtype=bool)
    where[3, 3, 3] = True
    few, all_of_them = Echo(), Echo()
    found = through(few, where=where)
    assert np.allclose(found[:, 3, 3, 3], IMAGES[:, 3, 3, 3], atol=1e-5)
    through(all_of_them)
    assert sum(few.sizes) < sum(all_of_them.sizes) / 3


def test_out_of_memory_it_goes_on_with_fewer_windows_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    forward = Echo(limit=1)
    with caplog.at_level(logging.WARNING):
        assert np.allclose(through(forward), IMAGES, atol=1e-5)
    assert forward.sizes[:4] == [4, 2, 1, 1]
    assert "going on with 1 windows" in caplog.text


def test_a_device_without_memory_for_one_window_is_an_error() -> None:
    with pytest.raises(OutOfMemoryError, match="single window"):
        through(Echo(limit=0))


def test_another_error_of_the_network_is_not_taken_for_a_lack_of_memory() -> None:
    def broken(_windows: np.ndarray) -> np.ndarray:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        through(broken)


def test_a_request_to_stop_is_heard_between_windows() -> None:
    progress = Progress(lambda *_: None, lambda: True)
    with pytest.raises(CanceledError):
        run_windows(Echo(), IMAGES, (8, 8, 12), config=SegmentConfig(), progress=progress)
