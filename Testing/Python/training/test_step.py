from __future__ import annotations

from Diff4MMLiTSLib.core.config import TrainLoopConfig
from Diff4MMLiTSLib.training.step import learning_rate_factor


def test_the_learning_rate_rises_and_falls() -> None:
    config = TrainLoopConfig(steps=100, warmup_fraction=0.1)
    factors = [learning_rate_factor(step, config) for step in range(100)]
    assert factors[0] == 0.1
    assert max(factors) == factors[9] == 1.0
    assert factors[9:] == sorted(factors[9:], reverse=True)
    assert factors[-1] < 0.01
