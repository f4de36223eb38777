"""Synthetic pairs made while a segmenter trains, instead of read from files.

Only numbers decide what an item shows: the pair of an item follows from the item's index, so a resumed training sees
the same pairs, and a pool needs no state. The maker of pairs is handed in; training knows of no stage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from .datasets import WorkingStudy


@dataclass(frozen=True, eq=False)
class FreshPairs:
    """A source of synthetic pairs.

    Args:
        make: Makes the pair of a number, always the same for the same number.
        origins: Ids of the studies that pairs are made from.
        pool: Pairs that are in use at the same time.
        uses: After ``pool * uses`` training items the whole pool is replaced; with 1 and 1 every item has its own pair.
    """

    make: Callable[[int], WorkingStudy]
    origins: frozenset[str]
    pool: int = 1
    uses: int = 1

    def of_item(self, index: int, rng: np.random.Generator) -> WorkingStudy:
        """Return the pair that training item ``index`` shows; ``rng`` chooses among those of the pool."""
        generation = index // (self.pool * self.uses)
        return self._kept(generation * self.pool + int(rng.integers(self.pool)))

    @cached_property
    def _kept(self) -> Callable[[int], WorkingStudy]:
        return lru_cache(maxsize=self.pool)(self.make)
