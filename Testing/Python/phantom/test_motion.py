"""Laws of the motion between phases."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from Diff4MMLiTSLib.core.grid import Grid, Volume
from Diff4MMLiTSLib.phantom.fields import Field
from Diff4MMLiTSLib.phantom.motion import MotionTraits, backward_motion, displacement_on, draw_motion, jacobian
from Diff4MMLiTSLib.phantom.patient import draw_patient
from Diff4MMLiTSLib.phantom.specimen import paint

HARD = MotionTraits((5.0, -9.0, 26.0), (2.0, -2.0, 2.0), 5.0, 22.0)


@cache
def a_cavity() -> Volume:
    grid = Grid((48, 40, 40), (9.0, 9.0, 8.0), (-210.0, -220.0, -130.0))
    return Volume(paint(draw_patient(3), grid).cavity, grid)


def a_motion(traits: MotionTraits = HARD, seed: int = 0) -> Field:
    return backward_motion(draw_patient(3), traits, np.random.default_rng(seed), a_cavity().grid)


@pytest.mark.parametrize("seed", range(3))
def test_the_inverse_undoes_the_motion_to_a_tenth_of_a_millimeter(seed: int) -> None:
    backward, grid = a_motion(seed=seed), a_cavity().grid
    inside = np.asarray(a_cavity().array)
    forward = displacement_on(grid, backward, a_cavity())[:, inside].T
    start = grid.to_world(np.argwhere(inside)[:, ::-1])
    moved = start + forward
    error = np.linalg.norm(moved + backward.at(moved) - start, axis=-1)
    assert np.percentile(error, 99) < 0.05 and error.max() < 0.5
    assert np.linalg.norm(forward, axis=-1).max() > 15


@pytest.mark.parametrize("shifted", [False, True])
def test_the_motion_never_folds(shifted: bool) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        assert jacobian(a_motion(draw_motion(rng, shifted=shifted), seed)).min() > 0.1


def test_organs_slide_along_the_wall_but_do_not_go_through_it() -> None:
    backward = a_motion()
    mask = np.asarray(a_cavity().array)
    side = [row[row.any(axis=-1)] for row in mask[10:30:4]]
    assert side
    depth, rows, columns = (int(value) for value in np.array(mask.shape) // 2)
    first = int(np.argmax(mask[depth, rows]))  # the right wall, whose normal is x
    wall = a_cavity().grid.to_world(np.array([[first - 0.5, rows, depth]]))
    left, _, up = backward.at(wall)[0]
    assert abs(left) < 2.0 and abs(up) > 10 and columns > first


def test_most_motions_are_small_and_a_few_are_large() -> None:
    drawn = [draw_motion(np.random.default_rng(seed), shifted=False).shift_mm[2] for seed in range(600)]
    size = np.abs(drawn)
    assert 3.0 < np.median(size) < 5.0
    assert size.max() <= 30.0
    assert 0.005 < np.mean(size > 20) < 0.08


def test_the_shifted_variant_adds_motion_that_a_rigid_one_cannot_explain() -> None:
    rng = np.random.default_rng(0)
    assert draw_motion(rng, shifted=False).twist_deg == 0.0
    assert draw_motion(rng, shifted=True).twist_deg != 0.0
