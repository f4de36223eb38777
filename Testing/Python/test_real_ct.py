"""Real CTs go through every stage: outputs lie on the input's grid, nothing outside the band changes, marks are kept.

The networks here have hardly been trained: these are tests of contracts, not of quality.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from Diff4MMLiTSLib.cli import run
from Diff4MMLiTSLib.core.grid import Grid, Volume, resample
from Diff4MMLiTSLib.core.images import is_marked_synthetic, read_mask, read_volume
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.study import TUMOR_FREE, Mask, MaskSource, RegisteredStudy
from Diff4MMLiTSLib.core.study_io import read_normal, read_registered, read_segmentation, read_study, write_study
from Diff4MMLiTSLib.core.tumor_mask import distance_mm
from multiphase import Motion, derive_study

COARSE_MM = (2.2, 2.2, 4.0)
"""The donor's CT is taken at a third of its resolution, which keeps these tests short."""


@pytest.fixture(scope="module")
def a_donor(real_data):
    """A healthy donor's portal venous CT with its liver, as a one-phase study declared free of tumor."""
    ct = read_volume(real_data / "chaos_pv_donor" / "ct.nii.gz")
    liver = read_mask(real_data / "chaos_pv_donor" / "seg.nii.gz", MaskSource.ANNOTATION)
    grid = ct.grid.with_spacing(COARSE_MM)
    mask = Mask(resample(liver.volume, grid, linear=False), MaskSource.ANNOTATION)
    return RegisteredStudy("Spender ü", {Phase.PVP: resample(ct, grid, outside=-1000)}, Phase.PVP, mask, TUMOR_FREE)


def turned(study: RegisteredStudy, grid: Grid) -> RegisteredStudy:
    """Return a study sampled on another grid."""
    phases = {phase: resample(volume, grid, outside=-1000) for phase, volume in study.phases.items()}
    liver = Mask(resample(study.liver.volume, grid, linear=False), study.liver.source)
    return replace(study, phases=phases, liver=liver)


def oblique(grid: Grid) -> Grid:
    """Return an oblique, flipped and anisotropic grid over the same place."""
    direction = sitk.Euler3DTransform(grid.center_mm, 0.2, -0.1, 0.3).GetMatrix()
    flipped = np.array(direction).reshape(3, 3) @ np.diag([-1.0, 1.0, -1.0])
    size, spacing = (100, 90, 40), (3.0, 3.5, 6.0)
    corner = grid.center_mm - flipped @ (np.multiply(size, spacing) / 2)
    return Grid(size, spacing, tuple(map(float, corner)), tuple(map(float, flipped.ravel())))


@pytest.mark.parametrize("place", ["as it is", "oblique"])
def test_a_segmentation_lies_on_the_grid_of_its_input_to_the_voxel(a_donor, a_demo, tmp_path, place):
    study = turned(a_donor, oblique(a_donor.grid)) if place == "oblique" else a_donor
    write_study(study, tmp_path / "in" / "Spender ü")
    model = a_demo / "segmenter-real" / "model"
    assert run(["segment", str(tmp_path / "in"), str(tmp_path / "aus gabe"), "--model", str(model)]) == 0
    found = read_segmentation(tmp_path / "aus gabe" / "Spender ü")
    assert found.liver.volume.grid.difference(study.grid) == ""
    assert not (found.tumor.array & ~found.liver.array).any()
    record = json.loads((tmp_path / "aus gabe" / "Spender ü" / "study.json").read_text(encoding="utf-8"))
    assert record["intended_use"] == "research only, not for patients"


def test_a_four_phase_study_made_from_it_is_registered_and_segmented(a_donor, a_demo, tmp_path):
    motions = {
        Phase.NC: Motion(shift_mm=(1.0, -2.0, 8.0)),
        Phase.AP: Motion(shift_mm=(0.0, 2.0, -6.0), rotation_degrees=(1.0, 0.0, 2.0)),
        Phase.DELAY: Motion(shift_mm=(-1.0, 1.0, 12.0)),
    }
    made = derive_study(a_donor.reference, a_donor.liver, motions, np.random.default_rng(3))
    write_study(made.study, tmp_path / "in" / "four")
    arguments = ["register", str(tmp_path / "in"), str(tmp_path / "registered"), "--method", "rigid"]
    assert run(arguments) == 0
    registered = read_registered(tmp_path / "registered" / "four")
    points = a_donor.grid.to_world(np.argwhere(a_donor.liver.array)[::500, ::-1].astype(float))
    for phase, transform in registered.transforms.items():
        found = np.array([transform.TransformPoint(point) for point in points.tolist()])
        error = np.linalg.norm(found - points - made.truth[phase].at(points), axis=1)
        assert np.median(error) < 2.0, phase
    model = a_demo / "segmenter-real" / "model"
    assert run(["segment", str(tmp_path / "registered"), str(tmp_path / "out"), "--model", str(model)]) == 0
    assert read_segmentation(tmp_path / "out" / "four").liver.volume.grid.same_as(made.study.grid)


def synthesize(source, out, a_demo, *more):
    model = a_demo / "synthesizer" / "model"
    arguments = ["synthesize", str(source), str(out), "--model", str(model), "--diameter-mm", "25", "30", *more]
    return run([*arguments, "--set", "steps=3", "--set", "redraws=0"])


def test_a_tumor_is_put_into_a_real_liver_and_nothing_else_changes(a_donor, a_demo, tmp_path):
    write_study(a_donor, tmp_path / "in" / "Spender ü")
    for out in ("one", "two"):
        assert synthesize(tmp_path / "in", tmp_path / out, a_demo, "--seed", "7") == 0
    folders = [tmp_path / out / "Spender ü_synthetic-0001" for out in ("one", "two")]
    pair, again = map(read_registered, folders)
    mask = pair.tumor_mask.array
    assert mask.any()
    assert not (mask & ~a_donor.liver.array).any()
    far = distance_mm(mask, pair.grid, 12.0) >= 12.0
    np.testing.assert_array_equal(pair.reference.array[far], a_donor.reference.array[far])
    assert (pair.reference.array != a_donor.reference.array).any()
    np.testing.assert_array_equal(pair.reference.array, again.reference.array)
    np.testing.assert_array_equal(mask, again.tumor_mask.array)
    assert json.loads((folders[0] / "study.json").read_text(encoding="utf-8"))["synthetic"] is True
    assert all(is_marked_synthetic(path) for path in folders[0].glob("*.nrrd"))


def test_a_study_whose_tumors_are_unknown_is_refused(a_donor, a_demo, tmp_path, capsys):
    write_study(replace(a_donor, tumor=None), tmp_path / "in" / "unknown")
    assert synthesize(tmp_path / "in", tmp_path / "out", a_demo) == 2
    assert "does not say whether it has tumors" in capsys.readouterr().err


def test_a_hole_cut_into_a_real_liver_is_filled(a_donor, a_demo, tmp_path):
    inside = ndimage.distance_transform_edt(a_donor.liver.array, sampling=a_donor.grid.spacing_zyx_mm)
    center = np.unravel_index(inside.argmax(), inside.shape)
    seed = np.ones(inside.shape, dtype=bool)
    seed[center] = False
    hole = ndimage.distance_transform_edt(seed, sampling=a_donor.grid.spacing_zyx_mm) < 10.0
    cut = np.where(hole, np.int16(30), a_donor.reference.array)
    phases = {Phase.PVP: Volume(cut, a_donor.grid)}
    tumor = Mask(Volume(hole.astype(np.uint8), a_donor.grid), MaskSource.ANNOTATION)
    write_study(replace(a_donor, phases=phases, tumor=tumor), tmp_path / "in" / "hole")
    model = a_demo / "inpainter" / "model"
    assert run(["inpaint", str(tmp_path / "in"), str(tmp_path / "out"), "--model", str(model)]) == 0
    normal = read_normal(tmp_path / "out" / "hole")
    filled = normal.study.reference.array
    np.testing.assert_array_equal(filled[~normal.inpainting_mask.array], cut[~normal.inpainting_mask.array])
    parenchyma = np.median(a_donor.reference.array[a_donor.liver.array])
    assert abs(np.median(filled[hole]) - parenchyma) < 15
    assert normal.study.is_tumor_free


def test_the_inputs_stay_as_they_were(a_donor, tmp_path):
    write_study(a_donor, tmp_path / "in" / "x")
    before = {path.name: path.read_bytes() for path in (tmp_path / "in" / "x").iterdir()}
    assert run(["register", str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "in" / "x").iterdir()} == before
    assert read_study(tmp_path / "out" / "x").history[-1].stage == "register"
