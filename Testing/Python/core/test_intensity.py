"""Windows map Hounsfield units to [-1, 1] and back."""

from __future__ import annotations

import numpy as np
import pytest

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.intensity import Window


def test_the_window_maps_its_ends_to_minus_one_and_one_and_clips():
    normalized = Window(-175, 400).normalize(np.array([-1000, -175, 112.5, 400, 3000]))
    np.testing.assert_allclose(normalized, [-1, -1, 0, 1, 1], atol=1e-6)


def test_values_inside_the_window_come_back():
    values = np.linspace(-175, 250, 50, dtype=np.float32)
    window = Window(-175, 250)
    np.testing.assert_allclose(window.denormalize(window.normalize(values)), values, atol=1e-3)


def test_an_empty_window_is_refused():
    with pytest.raises(InputError):
        Window(100, 100)
