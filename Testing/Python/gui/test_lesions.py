"""The lesion table: volumes, longest axial diameters, enhancement, and where to look."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.gui import lesions
from Diff4MMLiTSLib.gui.lesions import liver_enhancement, measure_lesions, write_lesions_csv
from Diff4MMLiTSLib.gui.scene import SceneStudy
from Diff4MMLiTSLib.gui.segments import new_segmentation, set_liver, set_tumors
from gui.scene_factory import add_linear, add_volume, ijk_to_ras

SHAPE = (30, 48, 48)
SPACING = (1.0, 1.25, 2.0)


def ball(center_mm, radius_mm, squash=(1.0, 1.0, 1.0)):
    """Return voxels (Z, Y, X) of an ellipsoid; center and half axes along x, y, z."""
    z, y, x = np.indices(SHAPE)
    position = np.stack([x, y, z], axis=-1) * SPACING - center_mm
    return (((position / np.multiply(squash, radius_mm)) ** 2).sum(axis=-1)) <= 1


@pytest.fixture(params=[0.0, 25.0])
def a_case(scene, request):
    """Two tumors of known size in a liver, two phases; the second one under a transform."""
    matrix = ijk_to_ras(spacing=SPACING, angle_deg=0.0)
    big, small = ball((20, 25, 30), 9.0, (1.5, 1.0, 1.0)), ball((38, 45, 20), 4.0)
    liver = ball((24, 30, 30), 27.0)
    pvp = np.where(big, 60, np.where(small, 40, np.where(liver, 110, -100))).astype(np.int16)
    ap = np.where(big, 130, np.where(small, 35, np.where(liver, 70, -100))).astype(np.int16)
    moved = add_linear(ijk_to_ras(spacing=(1, 1, 1), angle_deg=request.param))
    phases = {}
    for phase, array in ((Phase.AP, ap), (Phase.PVP, pvp)):
        phases[phase] = add_volume(array, matrix, phase)
        phases[phase].SetAndObserveTransformNodeID(moved.GetID())
    study = SceneStudy("study", phases)
    node = new_segmentation("result", study.reference)
    set_liver(node, liver, matrix)
    set_tumors(node, big | small, matrix)
    return study, node


def test_tumors_are_measured_in_the_world_largest_first(a_case):
    study, node = a_case
    rows = measure_lesions(node, study)
    assert [row.number for row in rows] == [1, 2]
    assert [row.name for row in rows] == ["Tumor 1", "Tumor 2"]
    assert rows[0].volume_ml == pytest.approx(4 / 3 * np.pi * 13.5 * 9 * 9 / 1000, rel=0.03)
    assert rows[1].volume_ml == pytest.approx(4 / 3 * np.pi * 4**3 / 1000, rel=0.06)
    assert rows[0].diameter_mm == pytest.approx(27.0, abs=1.25)
    assert rows[1].diameter_mm == pytest.approx(8.0, abs=1.25)


def test_the_enhancement_is_that_of_each_phase_inside_the_tumor(a_case):
    study, node = a_case
    rows = measure_lesions(node, study)
    assert [row.mean_hu[Phase.AP] for row in rows] == pytest.approx([130, 35], abs=0.01)
    assert [row.mean_hu[Phase.PVP] for row in rows] == pytest.approx([60, 40], abs=0.01)
    assert liver_enhancement(node, study) == pytest.approx({Phase.AP: 70, Phase.PVP: 110}, abs=0.5)


def test_of_a_large_liver_only_a_sample_is_moved_into_the_world(a_case, monkeypatch):
    study, node = a_case
    moved, real = [], lesions.world_points
    monkeypatch.setattr(lesions, "LIVER_SAMPLES", 500)
    monkeypatch.setattr(
        lesions, "world_points", lambda node, points: (moved.append(len(points)), real(node, points))[1]
    )
    assert liver_enhancement(node, study) == pytest.approx({Phase.AP: 70, Phase.PVP: 110}, abs=1)
    assert 500 <= max(moved) < 1000


def test_the_place_to_look_at_lies_in_the_lesion(a_case):
    study, node = a_case
    row = measure_lesions(node, study)[0]
    image = study.reference
    inverse = np.linalg.inv(image_to_world(image))
    index = np.rint(inverse[:3, :3] @ row.center_ras_mm + inverse[:3, 3]).astype(int)
    assert ball((20, 25, 30), 9.0, (1.5, 1.0, 1.0))[tuple(index[::-1])]


def image_to_world(volume):
    from Diff4MMLiTSLib.gui.world import lattice_of

    return lattice_of(volume).to_world


def test_a_phase_that_does_not_reach_the_lesion_has_no_value(scene, a_case):
    study, node = a_case
    far = add_volume(np.full((4, 4, 4), 50, np.int16), ijk_to_ras(origin=(900, 900, 900)), "far")
    with_far = SceneStudy("study", {**study.phases, Phase.DELAY: far})
    assert Phase.DELAY not in measure_lesions(node, with_far)[0].mean_hu


def test_one_voxel_has_the_size_of_a_voxel(scene):
    array = np.full(SHAPE, -100, np.int16)
    study = SceneStudy("s", {Phase.PVP: add_volume(array, ijk_to_ras(spacing=SPACING))})
    node = new_segmentation("result", study.reference)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[5, 6, 7] = True
    set_tumors(node, mask, ijk_to_ras(spacing=SPACING))
    (row,) = measure_lesions(node, study)
    assert row.volume_ml == pytest.approx(np.prod(SPACING) / 1000)
    assert row.diameter_mm == pytest.approx(1.25)


def test_the_table_is_saved_for_spreadsheets(a_case, tmp_path):
    study, node = a_case
    rows = measure_lesions(node, study)
    write_lesions_csv(rows, tmp_path / "läsionen.csv")
    with (tmp_path / "läsionen.csv").open(encoding="utf-8-sig", newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [row["name"] for row in table] == ["Tumor 1", "Tumor 2"]
    assert float(table[0]["longest_axial_diameter_mm"]) == pytest.approx(rows[0].diameter_mm, abs=0.05)
    assert table[0]["mean_hu_NC"] == ""
    assert table[0]["mean_hu_AP"] == "130.0"
    with pytest.raises(InputError, match="cannot be written"):
        write_lesions_csv(rows, tmp_path)
