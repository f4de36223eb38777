"""Fixtures that several test files share: small studies made of plain shapes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from Diff4MMLiTSLib.cli import run
from Diff4MMLiTSLib.core.grid import Grid, Volume
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.study import TUMOR_FREE, Mask, MaskSource, NormalStudy, RegisteredStudy

REAL_DATA = Path(os.environ.get("DIFF4MMLITS_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the demo, which takes longest; who else needs it finds it made."""
    items.sort(key=lambda item: item.path.name != "test_demo.py")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real CTs; the test is skipped where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real CTs: set DIFF4MMLITS_REAL_DATA to their folder (looked in {REAL_DATA.name})")
    return REAL_DATA


@pytest.fixture
def a_grid() -> Grid:
    """An anisotropic grid whose axes are rotated about z and flipped."""
    angle = np.deg2rad(20)
    direction = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, -1]])
    return Grid((24, 20, 12), (1.5, 1.5, 4.0), (-30.0, 12.5, 100.0), tuple(map(float, direction.ravel())))


def ball(grid: Grid, center_mm: np.ndarray, radius_mm: float) -> np.ndarray:
    """Return the voxels (Z, Y, X) within a distance of a world point."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.size), indexing="ij"), axis=-1)
    inside = np.linalg.norm(grid.to_world(index) - center_mm, axis=-1) <= radius_mm
    return inside.transpose(2, 1, 0)


@pytest.fixture
def a_study(a_grid: Grid) -> RegisteredStudy:
    """Two registered phases with a round liver and a round tumor inside it."""
    rng = np.random.default_rng(5)
    liver, tumor = ball(a_grid, a_grid.center_mm, 14.0), ball(a_grid, a_grid.center_mm + np.array([3.0, 0.0, 0.0]), 5.0)
    phases = {}
    for phase, liver_hu, tumor_hu in ((Phase.AP, 78, 115), (Phase.PVP, 118, 75)):
        values = np.where(tumor, tumor_hu, np.where(liver, liver_hu, -100)) + rng.normal(0, 10, a_grid.shape)
        phases[phase] = Volume(np.rint(values).astype(np.int16), a_grid)
    masks = [Mask(Volume(mask.astype(np.uint8), a_grid), MaskSource.ANNOTATION) for mask in (liver, tumor)]
    return RegisteredStudy("study 1 ü", phases, Phase.PVP, liver=masks[0], tumor=masks[1])


@pytest.fixture
def a_normal_study(a_study: RegisteredStudy) -> NormalStudy:
    """The same two phases without the tumor."""
    rng = np.random.default_rng(6)
    phases = {}
    for phase, level_hu in ((Phase.AP, 78), (Phase.PVP, 118)):
        values = np.where(a_study.liver.array, level_hu, -100) + rng.normal(0, 10, a_study.grid.shape)
        phases[phase] = Volume(np.rint(values).astype(np.int16), a_study.grid)
    return NormalStudy(replace(a_study, phases=phases, tumor=TUMOR_FREE))


@pytest.fixture(scope="session")
def a_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a demo at a tiny size, made once for all workers; its networks are hardly trained."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of all workers
    folder, made = root / "eine Demo ü" / "demo", root / "demo-is-made"
    with FileLock(root / "demo.lock"):
        if not made.exists():
            recipe = Path(__file__).with_name("tiny_demo.toml")
            assert run(["demo", "--out", str(folder), "--config", str(recipe), "--progress", "none"]) == 0
            made.touch()
    return folder
