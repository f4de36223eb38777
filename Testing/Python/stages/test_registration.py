"""Registration brings phases back that moved by a known field, and knows when it did not."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter, map_coordinates

from Diff4MMLiTSLib.core.config import Method, RegisterConfig
from Diff4MMLiTSLib.core.errors import CanceledError
from Diff4MMLiTSLib.core.grid import Grid, Volume
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.progress import Progress, silent
from Diff4MMLiTSLib.core.study import Mask, MaskSource, Study, Verdict
from Diff4MMLiTSLib.stages.registration import LiverFinder, register_study
from multiphase import DerivedStudy, Motion, derive_study

CONFIG = RegisterConfig(spacing_mm=2.5, iterations=40, samples=2048)
LIVER_MM, LIVER_RADII_MM = np.array([-35.0, 0.0, 0.0]), np.array([58.0, 50.0, 45.0])
STRAIGHT = Grid((84, 66, 56), (3.0, 3.0, 3.0), (-126.0, -99.0, -84.0))


def world_of(grid: Grid) -> np.ndarray:
    """World positions of all voxels, (Z, Y, X, 3)."""
    return grid.to_world(np.stack(np.meshgrid(*map(np.arange, grid.size), indexing="ij"), axis=-1)).transpose(
        2, 1, 0, 3
    )


def a_ct(grid: Grid, patient: int = 0) -> tuple[Volume, Mask]:
    """A body with lung, fat, spine, a liver and its vessels, sampled on any grid; another patient has other vessels."""
    rng = np.random.default_rng(patient)
    points = world_of(grid)
    texture = gaussian_filter(rng.standard_normal((80, 80, 80)), 2.2)
    at = np.moveaxis((points + 160.0) / 4.0, -1, 0)
    vessels = np.abs(map_coordinates(texture / texture.std(), at, order=1, mode="nearest")) < 0.25
    radius = np.linalg.norm((points - LIVER_MM) / (LIVER_RADII_MM * rng.uniform(0.9, 1.1, 3)), axis=-1)
    body = np.linalg.norm(points[..., :2] / [115.0, 85.0], axis=-1)
    values = np.where(body < 1, np.where(body > 0.88, -100.0, 55.0), -1000.0)
    values[(points[..., 2] > 20) & (body < 0.85)] = -850.0
    values[np.linalg.norm(points[..., :2] - [0.0, 60.0], axis=-1) < 14] = 400.0
    values[radius < 1] = np.where(vessels, 170.0, 118.0)[radius < 1]
    noise = rng.normal(0, 8, grid.shape) * (values > -900)
    liver = Mask(Volume((radius < 1).astype(np.uint8), grid), MaskSource.ANNOTATION)
    return Volume(np.rint(values + noise).astype(np.int16), grid), liver


def errors_mm(derived: DerivedStudy, registered, phase: Phase = Phase.AP) -> np.ndarray:
    """Distance between where the transform puts liver points and where they truly went."""
    liver = derived.study.liver
    points = liver.volume.grid.to_world(np.argwhere(liver.array)[::97, ::-1].astype(float))
    found = np.array([registered.transforms[phase].TransformPoint(point.tolist()) for point in points])
    return np.linalg.norm(found - points - derived.truth[phase].at(points), axis=-1)


def truly_aligned(derived: DerivedStudy) -> np.ndarray:
    """The moving phase as the known displacement brings it back, HU."""
    grid, moving = derived.study.reference.grid, derived.study.phases[Phase.AP]
    points = world_of(grid).reshape(-1, 3)
    index = moving.grid.to_index(points + derived.truth[Phase.AP].at(points))[:, ::-1].T
    return map_coordinates(moving.array.astype(float), index, order=1, cval=-1000).reshape(grid.shape)


def derive(grid: Grid = STRAIGHT, motion: Motion | None = None, **options) -> DerivedStudy:
    ct, liver = a_ct(grid)
    return derive_study(ct, liver, {Phase.AP: motion or Motion()}, np.random.default_rng(1), noise_hu=8.0, **options)


@pytest.fixture(scope="module")
def moved() -> DerivedStudy:
    grid = STRAIGHT
    center = np.linalg.norm(world_of(grid) - LIVER_MM, axis=-1)
    tumor = Mask(Volume((center < 12).astype(np.uint8), grid), MaskSource.ANNOTATION)
    return derive(motion=Motion((6, -4, -20), (2, -1, 3), 3.0), tumor=tumor)


@pytest.fixture(scope="module")
def registered(moved):
    return register_study(moved.study, config=CONFIG, progress=silent())


def test_a_phase_moved_by_a_known_field_comes_back(moved, registered):
    error = errors_mm(moved, registered)
    assert np.median(error) < 1.0
    assert np.percentile(error, 95) < 3.0
    assert registered.qa["register"].verdict is not Verdict.REJECT


def test_the_phase_lies_on_the_reference_grid_and_looks_like_it(moved, registered):
    inside = moved.study.liver.array
    aligned, reference = registered.phases[Phase.AP].array, moved.study.reference.array
    assert aligned.dtype == np.int16
    alike = np.corrcoef(aligned[inside], reference[inside])[0, 1]
    assert alike > 0.9 * np.corrcoef(truly_aligned(moved)[inside], reference[inside])[0, 1]
    assert registered.phases[Phase.PVP] is moved.study.phases[Phase.PVP]


def test_masks_are_kept_and_the_step_is_recorded(moved, registered):
    assert registered.tumor is moved.study.tumor and registered.liver is moved.study.liver
    assert registered.history[-1].stage == "register"
    assert registered.history[-1].config["method"] == "deformable"
    assert registered.qa["register"].notes["liver"] == "given"


def test_tumors_are_not_squeezed_and_nothing_folds(registered):
    measures = registered.qa["register"].phases[Phase.AP].measures
    assert abs(measures["tumor_volume_change"]) < 0.1
    assert measures["folding_fraction"] == 0 and measures["jacobian_min"] > 0.2


def test_the_transform_survives_its_file(registered, tmp_path):
    sitk.WriteTransform(registered.transforms[Phase.AP], str(tmp_path / "AP_to_PVP.h5"))
    again = sitk.ReadTransform(str(tmp_path / "AP_to_PVP.h5"))
    for point in ((-35.0, 0.0, 0.0), (-60.0, 20.0, 10.0), (300.0, 0.0, 0.0)):
        assert np.allclose(
            again.TransformPoint(point), registered.transforms[Phase.AP].TransformPoint(point), atol=1e-6
        )


def test_far_from_the_liver_the_transform_is_rigid(registered):
    transform = registered.transforms[Phase.AP]
    far = [np.array(transform.TransformPoint(point)) for point in ((400.0, 0, 0), (400.0, 50, 0), (400.0, 0, 70))]
    assert np.linalg.norm(far[1] - far[0]) == pytest.approx(50, abs=1e-6)
    assert np.linalg.norm(far[2] - far[0]) == pytest.approx(70, abs=1e-6)


def test_a_phase_that_did_not_move_stays():
    derived = derive()
    error = errors_mm(derived, register_study(derived.study, config=CONFIG, progress=silent()))
    assert np.median(error) < 0.5 and np.percentile(error, 95) < 1.5


def tilted(spacing_mm, flip: float) -> Grid:
    rotation = np.array(sitk.Euler3DTransform((0, 0, 0), 0.2, -0.15, 0.3).GetMatrix()).reshape(3, 3)
    direction = rotation @ np.diag([1, 1, flip])
    size = tuple(round(n / step) for n, step in zip((260, 210, 180), spacing_mm, strict=True))
    grid = Grid(size, spacing_mm, (0.0, 0.0, 0.0), tuple(map(float, direction.ravel())))
    return dataclasses.replace(grid, origin_mm=tuple(map(float, -grid.center_mm)))


@pytest.mark.parametrize(
    ("reference", "other"), [(tilted((2.5, 3.0, 5.0), -1.0), STRAIGHT), (STRAIGHT, tilted((3.0, 2.5, 4.0), -1.0))]
)
def test_oblique_flipped_and_anisotropic_grids_make_no_difference(reference, other):
    derived = derive(reference, Motion((5, 4, 12), residual_rms_mm=2.0), grids={Phase.AP: other})
    result = register_study(derived.study, config=CONFIG, progress=silent())
    error = errors_mm(derived, result)
    assert np.median(error) < 1.5 and np.percentile(error, 95) < 3.5
    assert result.phases[Phase.AP].grid == reference


def test_a_study_of_one_phase_is_registered_by_definition():
    ct, liver = a_ct(STRAIGHT)
    result = register_study(Study("one", {Phase.AP: ct}, Phase.AP, liver=liver), config=CONFIG, progress=silent())
    assert result.phases[Phase.AP] is ct and not result.transforms
    assert result.qa["register"].verdict is Verdict.PASS


def test_rigid_finds_a_shift_of_30_mm_and_another_field_of_view():
    view = STRAIGHT.cropped((5, 4, 2), (72, 60, 40))
    derived = derive(motion=Motion((10, -8, 28), (0, 0, 3)), grids={Phase.AP: view})
    config = CONFIG.model_copy(update={"method": Method.RIGID})
    result = register_study(derived.study, config=config, progress=silent())
    assert np.percentile(errors_mm(derived, result), 95) < 2.0
    assert result.phases[Phase.AP].array.min() >= -1024 and (result.phases[Phase.AP].array[-1] == -1000).any()


def test_none_resamples_only():
    derived = derive(motion=Motion((0, 0, 9)), grids={Phase.AP: STRAIGHT.with_spacing((4.0, 4.0, 4.0))})
    config = CONFIG.model_copy(update={"method": Method.NONE})
    result = register_study(derived.study, config=config, progress=silent())
    assert np.allclose(errors_mm(derived, result), 9.0, atol=0.1)
    assert result.qa["register"].verdict is not Verdict.PASS


@pytest.mark.parametrize("fault", ["upside_down", "other_patient", "truncated"])
def test_a_broken_phase_does_not_pass(fault):
    derived = derive(motion=Motion((0, 0, 6)))
    phase = derived.study.phases[Phase.AP]
    broken = {
        "upside_down": lambda: Volume(phase.array[::-1].copy(), phase.grid),
        "other_patient": lambda: a_ct(STRAIGHT, patient=7)[0],
        "truncated": lambda: Volume(phase.array[:24].copy(), STRAIGHT.cropped((0, 0, 0), (84, 66, 24))),
    }[fault]()
    study = dataclasses.replace(derived.study, phases={Phase.PVP: derived.study.reference, Phase.AP: broken})
    qa = register_study(study, config=CONFIG, progress=silent()).qa["register"]
    assert qa.phases[Phase.AP].verdict is not Verdict.PASS and qa.reasons


def test_a_liver_finder_replaces_the_missing_mask_and_measures_overlap(moved):
    study = dataclasses.replace(moved.study, liver=None, tumor=None)

    def finder(volume: Volume) -> Mask:
        if volume is study.reference:
            return Mask(moved.study.liver.volume, MaskSource.MODEL)
        points = world_of(volume.grid)
        at = moved.truth[Phase.AP].inverse(points)
        found = np.linalg.norm((at - LIVER_MM) / LIVER_RADII_MM, axis=-1) < 1
        return Mask(Volume(found.astype(np.uint8), volume.grid), MaskSource.MODEL)

    config = CONFIG.model_copy(update={"method": Method.RIGID})
    result = register_study(study, config=config, progress=silent(), liver=LiverFinder(finder, "a model"))
    measures = result.qa["register"].phases[Phase.AP].measures
    assert result.qa["register"].notes["liver"] == "a model" and result.liver is not None
    assert measures["liver_dice_after"] > 0.88 > measures["liver_dice_before"]
    assert measures["liver_hd95_after_mm"] < measures["liver_hd95_before_mm"]


def test_without_any_mask_the_organ_is_guessed_and_that_is_said(moved):
    study = dataclasses.replace(moved.study, liver=None, tumor=None)
    config = CONFIG.model_copy(update={"method": Method.RIGID})
    result = register_study(study, config=config, progress=silent())
    assert "guessed" in result.qa["register"].notes["liver"] and result.liver is None
    assert np.median(errors_mm(moved, result)) < 6.0


def test_cancel_stops_within_a_second(moved):
    calls = []
    progress = Progress(lambda *_: calls.append(time.monotonic()), lambda: len(calls) > 20)
    with pytest.raises(CanceledError):
        register_study(moved.study, config=CONFIG, progress=progress)
    assert time.monotonic() - calls[-1] < 2.0
