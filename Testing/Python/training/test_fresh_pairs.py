"""Fresh pairs follow from numbers alone: each item has its own, or a pool is replaced from time to time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.training.fresh_pairs import FreshPairs
from Diff4MMLiTSLib.training.segmenter_task import segmenter_task
from tiny_models import segmenter_config, working_study


class Maker:
    """Makes studies and remembers which numbers were asked for."""

    def __init__(self):
        self.numbers = []

    def __call__(self, number):
        self.numbers.append(number)
        study = working_study(f"pair{number}", seed=number, synthetic=True)
        return replace(study, presence=np.float32([0, 1, 0, 0]))


def test_with_a_pool_of_one_used_once_every_item_has_its_own_pair():
    maker = Maker()
    pairs = FreshPairs(maker, frozenset())
    names = [pairs.of_item(index, np.random.default_rng(0)).study_id for index in range(5)]
    assert len(set(names)) == 5


def test_a_pool_is_used_several_times_and_then_replaced():
    maker = Maker()
    pairs, rng = FreshPairs(maker, frozenset(), pool=3, uses=10), np.random.default_rng(0)
    for index in range(60):
        pairs.of_item(index, rng)
    assert sorted(maker.numbers) == [0, 1, 2, 3, 4, 5]  # each made once
    assert set(maker.numbers[:3]) == {0, 1, 2}


@pytest.mark.parametrize(("pool", "uses"), [(1, 1), (4, 8)])
def test_a_resumed_training_sees_the_same_pairs(pool, uses):
    tasks = [
        segmenter_task(
            segmenter_config(),
            [working_study("a")],
            [working_study("b")],
            FreshPairs(Maker(), frozenset({"c"}), pool=pool, uses=uses),
        )
        for _ in range(2)
    ]
    tasks[0].sample(0)
    first, again = (task.sample(9) for task in tasks)
    assert all(np.array_equal(first[key], again[key]) for key in first)


def test_synthetic_items_come_fresh_in_their_ratio():
    pairs = FreshPairs(Maker(), frozenset(), pool=2, uses=1000)
    task = segmenter_task(segmenter_config(), [working_study("a")], [working_study("b")], pairs)
    synthetic = sum(task.sample(index)["presence"].tolist() == [0, 1, 0, 0] for index in range(60))
    assert 15 < synthetic < 45


def test_pairs_of_a_validation_study_are_refused():
    with pytest.raises(InputError, match="'b' is in training and validation"):
        segmenter_task(
            segmenter_config(), [working_study("a")], [working_study("b")], FreshPairs(Maker(), frozenset({"b"}))
        )
