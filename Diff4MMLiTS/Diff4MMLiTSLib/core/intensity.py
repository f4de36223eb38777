"""CT intensity windows: Hounsfield units to the range that networks see, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import InputError


@dataclass(frozen=True)
class Window:
    """A range of Hounsfield units that is mapped linearly to [-1, 1].

    Args:
        low_hu: Value mapped to -1; everything below is clipped.
        high_hu: Value mapped to +1; everything above is clipped.

    Raises:
        InputError: The range is empty.
    """

    low_hu: float
    high_hu: float

    def __post_init__(self) -> None:
        if not self.low_hu < self.high_hu:
            raise InputError(f"A window from {self.low_hu} to {self.high_hu} HU", expected="low below high")

    def normalize(self, values_hu: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return values in [-1, 1] (float32) of CT values in HU, any shape."""
        clipped = np.clip(np.asarray(values_hu, dtype=np.float32), self.low_hu, self.high_hu)
        return np.asarray((clipped - self.low_hu) * (2.0 / (self.high_hu - self.low_hu)) - 1.0, dtype=np.float32)

    def denormalize(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return CT values in HU (float32) of network values in [-1, 1], any shape."""
        scaled = (np.asarray(values, dtype=np.float32) + 1.0) * ((self.high_hu - self.low_hu) / 2.0)
        return np.asarray(scaled + self.low_hu, dtype=np.float32)
