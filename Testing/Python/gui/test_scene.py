"""Studies cross between the scene and study folders without losing a voxel, a place, a name or a bond."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.grid import Volume
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.study import Mask, MaskSource, PhaseQA, RegisteredStudy, Segmentation, StageQA, Verdict
from Diff4MMLiTSLib.core.study_io import read_study, write_segmentation
from Diff4MMLiTSLib.core.study_io import write_study as write_study_folder
from Diff4MMLiTSLib.gui.crossing import LIVER_WINDOW, load_volume, write_image
from Diff4MMLiTSLib.gui.roles import role_of
from Diff4MMLiTSLib.gui.scene import (
    SceneClosedError,
    SceneStudy,
    SegmentChoice,
    load_registration,
    load_segmentation,
    load_study,
    write_study,
)
from Diff4MMLiTSLib.gui.segments import LIVER_TERMINOLOGY, TUMOR_TERMINOLOGY, liver_id, mask_of, tumor_ids
from Diff4MMLiTSLib.gui.world import array_of, in_world, lattice_of
from gui.scene_factory import SHAPE, add_grid, add_linear, add_liver, add_volume, ijk_to_ras, smooth_values, world_of

LONG = "sehr lang " * 22


@pytest.fixture
def folder(tmp_path):
    """A place with spaces, letters of several scripts, and more than 200 characters."""
    place = tmp_path / "Übung 肝臓" / LONG.strip()
    place.mkdir(parents=True)
    return place


@pytest.fixture
def a_scene_study(scene):
    phases = {
        Phase.AP: add_volume(smooth_values(seed=1), ijk_to_ras(angle_deg=20), "patient's name"),
        Phase.PVP: add_volume(smooth_values(seed=2), ijk_to_ras(angle_deg=20), "pvp"),
    }
    return SceneStudy("study 1", phases)


def nodes(scene):
    """Return the ids of all nodes but the one of the subject hierarchy, which whoever asks for it makes."""
    found = {scene.GetNthNode(index).GetID() for index in range(scene.GetNumberOfNodes())}
    return {each for each in found if "SubjectHierarchy" not in each}


def two_tumors():
    """Return a liver with a large and a small tumor, (Z, Y, X)."""
    liver, tumor = np.zeros(SHAPE, dtype=np.uint8), np.zeros(SHAPE, dtype=np.uint8)
    liver[2:10, 3:17, 3:21] = 1
    tumor[3:5, 4:6, 4:6] = 1
    tumor[6:9, 9:14, 10:16] = 1
    return liver, tumor


def write_result(study, folder, written, **options):
    """Write what ``segment`` would for a study that was written before."""
    grid = read_study(written).grid
    masks = [Mask(Volume(mask, grid), MaskSource.MODEL) for mask in two_tumors()]
    probability = Volume((masks[1].volume.array * np.uint8(200)).astype(np.uint8), grid)
    result = Segmentation(study.study_id, masks[0], masks[1], study.reference_phase, probability)
    write_segmentation(result, folder, **options)
    return folder


def test_a_study_of_the_scene_is_one_that_the_engine_reads(a_scene_study, folder):
    liver = add_liver(a_scene_study.reference, smooth_values(seed=3) > 50)
    study = SceneStudy("study 1", a_scene_study.phases, liver=SegmentChoice(liver, "Liver"))
    read = read_study(write_study(study, folder / "study 1"))
    assert (read.study_id, read.reference_phase, list(read.phases)) == ("study 1", Phase.PVP, [Phase.AP, Phase.PVP])
    assert not isinstance(read, RegisteredStudy)
    assert read.liver.source is MaskSource.ANNOTATION
    assert int(read.liver.array.sum()) == int((smooth_values(seed=3) > 50).sum())
    for phase, node in study.phases.items():
        assert sorted(read.phases[phase].array.ravel()) == sorted(array_of(node.GetImageData()).ravel())
    assert "patient" not in (folder / "study 1" / "study.json").read_text()


def test_writing_does_not_change_the_scene_or_the_files_of_its_volumes(scene, a_scene_study, folder):
    node = a_scene_study.reference
    node.AddDefaultStorageNode()
    node.GetStorageNode().SetFileName("/original.nrrd")
    before = nodes(scene)
    write_study(a_scene_study, folder / "a")
    write_study(a_scene_study, folder / "b")
    assert nodes(scene) == before
    assert node.GetStorageNode().GetFileName() == "/original.nrrd"


def test_masks_lie_on_the_grid_of_the_reference_whatever_transforms_it(scene, a_scene_study, folder):
    displacement = np.random.default_rng(0).normal(0, 2, (4, 4, 4, 3))
    warp = add_grid(displacement, (-150.0, -150.0, 0.0), (90.0, 90.0, 90.0))
    for node in a_scene_study.phases.values():
        node.SetAndObserveTransformNodeID(warp.GetID())
    mask = np.zeros(SHAPE, dtype=bool)
    mask[3:9, 4:16, 5:19] = True
    liver = add_liver(a_scene_study.reference, mask)
    liver.SetAndObserveTransformNodeID(warp.GetID())
    study = SceneStudy("s", a_scene_study.phases, liver=SegmentChoice(liver, "Liver"))
    read = read_study(write_study(study, folder / "s"))
    volume_ml = mask.sum() * np.prod([1.5, 1.2, 4.0]) / 1000
    assert read.liver.array.sum() * read.grid.voxel_ml == pytest.approx(volume_ml, rel=0.1)
    center = world_of(a_scene_study.reference, [[11.5, 9.5, 5.5]])[0] * [-1, -1, 1]
    found = read.grid.to_world(np.argwhere(read.liver.array)[:, ::-1]).mean(axis=0)
    assert np.abs(found - center).max() < 2.5


def test_a_study_folder_comes_into_the_scene_with_roles_and_masks_and_goes_back(scene, a_study, folder):
    write_study_folder(a_study, folder / "in")
    study = load_study(folder / "in")
    assert {role_of(volume) for volume in study.phases.values()} == {Phase.AP, Phase.PVP}
    assert study.is_aligned
    read = read_study(write_study(study, folder / "out"))
    assert isinstance(read, RegisteredStudy)
    for phase, volume in a_study.phases.items():
        back = read.phases[phase]
        index = np.argwhere(np.ones(volume.array.shape))[::7, ::-1]
        i, j, k = np.rint(back.grid.to_index(volume.grid.to_world(index))).astype(int).T
        x, y, z = index.T
        assert np.array_equal(back.array[k, j, i], volume.array[z, y, x])
    assert read.liver.array.sum() == a_study.liver.array.sum()
    assert read.tumor_mask.array.sum() == a_study.tumor_mask.array.sum()
    assert read.liver.source is MaskSource.ANNOTATION


def test_what_is_loaded_does_not_depend_on_the_files_of_the_engine(scene, a_study, folder):
    write_study_folder(a_study, folder / "in")
    study = load_study(folder / "in")
    assert all(volume.GetStorageNode() is None for volume in study.phases.values())
    assert study.liver.node.GetStorageNode() is None


def test_the_mark_of_a_synthetic_study_survives_the_scene(scene, a_study, folder):
    write_study_folder(a_study, folder / "in")
    record = json.loads((folder / "in" / "study.json").read_text(encoding="utf-8"))
    (folder / "in" / "study.json").write_text(json.dumps(record | {"synthetic": True}), encoding="utf-8")
    study = load_study(folder / "in")
    assert all("SYNTHETIC" in volume.GetName() for volume in study.phases.values())
    written = write_study(study, folder / "out")
    assert read_study(written).synthetic
    result = load_segmentation(write_result_of_any(study, folder / "result", written), study)
    assert result.node.GetAttribute("SYNTHETIC")


def write_result_of_any(study, folder, written):
    read = read_study(written)
    masks = [Mask(read.liver.volume, MaskSource.MODEL), Mask(read.tumor_mask.volume, MaskSource.MODEL)]
    write_segmentation(Segmentation(study.study_id, *masks, study.reference_phase), folder, synthetic=True)
    return folder


@pytest.mark.parametrize("parent", ["none", "linear", "bent"])
def test_a_segmentation_covers_the_same_tissue_under_any_transform(scene, folder, parent):
    node = add_volume(smooth_values(), ijk_to_ras(angle_deg=15))
    if parent == "linear":
        node.SetAndObserveTransformNodeID(add_linear(ijk_to_ras(spacing=(1, 1, 1), angle_deg=30)).GetID())
    elif parent == "bent":
        node.SetAndObserveTransformNodeID(add_grid(np.zeros((2, 2, 2, 3)), (-500, -500, -500), (999, 999, 999)).GetID())
    study = SceneStudy("study", {Phase.PVP: node})
    written = write_study(study, folder / "in")
    result = load_segmentation(write_result(study, folder / "out", written), study)
    lattice = lattice_of(in_world(node))
    found = mask_of(result.node, tumor_ids(result.node), SHAPE, lattice.to_world)
    assert np.array_equal(found, two_tumors()[1])


def test_a_segmentation_has_standard_terms_one_segment_per_tumor_and_a_place_beside_its_volume(
    scene, a_scene_study, folder
):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    of_study = hierarchy.CreateStudyItem(hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "p"), "study")
    hierarchy.CreateItem(of_study, a_scene_study.reference)
    written = write_study(a_scene_study, folder / "in")
    result = load_segmentation(write_result(a_scene_study, folder / "out", written), a_scene_study)
    segmentation = result.node.GetSegmentation()
    segments = [segmentation.GetNthSegment(index) for index in range(segmentation.GetNumberOfSegments())]
    assert [segment.GetName() for segment in segments] == ["Liver", "Tumor 1", "Tumor 2"]
    assert [segment.GetTerminology() for segment in segments] == [LIVER_TERMINOLOGY, *[TUMOR_TERMINOLOGY] * 2]
    assert segments[0].GetColor() == pytest.approx((221 / 255, 130 / 255, 101 / 255))
    assert liver_id(result.node) == "Liver"
    sizes = [
        mask_of(result.node, [each], SHAPE, lattice_of(a_scene_study.reference).to_world).sum()
        for each in ("Tumor_1", "Tumor_2")
    ]
    assert sizes == [90, 8]
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    assert result.node.GetNodeReference(role) is a_scene_study.reference
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(result.node)) == of_study
    assert segmentation.ContainsRepresentation("Closed surface")


def test_segments_that_share_a_layer_are_told_apart(scene, a_scene_study, folder):
    written = write_study(a_scene_study, folder / "in")
    node = load_segmentation(write_result(a_scene_study, folder / "out", written), a_scene_study).node
    node.GetSegmentation().RemoveSegment("Liver")
    node.GetSegmentation().CollapseBinaryLabelmaps(False)  # as the Segment Editor does
    assert node.GetSegmentation().GetNumberOfLayers() == 1
    to_world = lattice_of(a_scene_study.reference).to_world
    assert [int(mask_of(node, [each], SHAPE, to_world).sum()) for each in ("Tumor_1", "Tumor_2")] == [90, 8]


def test_a_model_drew_the_liver_of_a_result_and_a_study_written_with_it_says_so(scene, a_scene_study, folder):
    written = write_study(a_scene_study, folder / "in")
    result = load_segmentation(write_result(a_scene_study, folder / "out", written), a_scene_study)
    study = SceneStudy("s", a_scene_study.phases, liver=SegmentChoice(result.node, "Liver"))
    assert read_study(write_study(study, folder / "again")).liver.source is MaskSource.MODEL


def write_registered(study, folder):
    """Write what ``register`` would: AP moved by 3 mm, on the grid of PVP."""
    read = read_study(write_study(study, folder.with_name("written")))
    transform = sitk.TranslationTransform(3, (3.0, 0.0, -2.0))
    qa = StageQA(Verdict.REVIEW, 1.0, phases={Phase.AP: PhaseQA(Verdict.REVIEW, ("look at it",), {"liver_dice": 0.9})})
    phases = dict.fromkeys(read.phases, read.reference)
    made = RegisteredStudy(read.study_id, phases, Phase.PVP, qa={"register": qa}, transforms={Phase.AP: transform})
    write_study_folder(made, folder)
    return folder


def test_a_registration_brings_aligned_volumes_transforms_and_verdicts(scene, a_scene_study, folder):
    result = load_registration(write_registered(a_scene_study, folder / "out"), a_scene_study)
    assert result.aligned.is_aligned
    assert not a_scene_study.is_aligned
    assert result.aligned.reference is a_scene_study.reference
    assert role_of(result.aligned.phases[Phase.AP]) is Phase.AP
    assert (result.verdict, result.qa[Phase.AP].reasons) == (Verdict.REVIEW, ("look at it",))
    moving = a_scene_study.phases[Phase.AP]
    before = world_of(moving, [[3, 4, 5]])[0]
    moving.SetAndObserveTransformNodeID(result.transforms[Phase.AP].GetID())
    # PVP's point p lies at p + (3, 0, -2) in AP (LPS), so AP's voxels move by (-3, 0, 2) in LPS
    assert world_of(moving, [[3, 4, 5]])[0] - before == pytest.approx([3, 0, 2])


def test_a_registration_of_moved_volumes_lies_in_the_world(scene, a_scene_study, folder):
    shift = add_linear(ijk_to_ras(spacing=(1, 1, 1), angle_deg=30))
    for node in a_scene_study.phases.values():
        node.SetAndObserveTransformNodeID(shift.GetID())
    result = load_registration(write_registered(a_scene_study, folder / "out"), a_scene_study)
    assert result.aligned.is_aligned
    assert result.aligned.reference is not a_scene_study.reference
    assert lattice_of(result.aligned.reference).same_as(lattice_of(a_scene_study.reference))


@pytest.mark.parametrize("load", [load_registration, load_segmentation])
def test_a_result_that_comes_after_its_scene_was_closed_changes_nothing(scene, a_scene_study, folder, load):
    make = write_registered if load is load_registration else None
    out = (
        make(a_scene_study, folder / "out")
        if make
        else write_result(a_scene_study, folder / "out", write_study(a_scene_study, folder / "in"))
    )
    scene.Clear(0)
    add_volume(smooth_values(), ijk_to_ras(), "a new patient, whose node has the same id")
    before = nodes(scene)
    with pytest.raises(SceneClosedError):
        load(out, a_scene_study)
    assert nodes(scene) == before


def test_a_damaged_result_leaves_nothing_in_the_scene(scene, a_scene_study, folder):
    out = write_result(a_scene_study, folder / "out", write_study(a_scene_study, folder / "in"))
    (out / "tumor.nrrd").write_bytes(b"damaged")
    before = nodes(scene)
    with pytest.raises(InputError, match=r"tumor\.nrrd"):
        load_segmentation(out, a_scene_study)
    assert nodes(scene) == before


def test_a_study_needs_a_volume_of_its_own_for_each_phase(scene, a_scene_study):
    node = a_scene_study.reference
    with pytest.raises(InputError, match="two phases"):
        SceneStudy("s", {Phase.AP: node, Phase.PVP: node})
    with pytest.raises(InputError, match="no voxels"):
        SceneStudy("s", {Phase.AP: slicer.vtkMRMLScalarVolumeNode()})
    with pytest.raises(InputError, match="DELAY"):
        SceneStudy("s", {Phase.AP: node}, Phase.DELAY)


def test_a_ct_of_the_engine_is_shown_in_the_window_of_the_liver(scene, tmp_path):
    volume = add_volume(smooth_values(), ijk_to_ras(), "PVP")
    write_image(volume, tmp_path / "PVP.nrrd")
    display = load_volume(tmp_path / "PVP.nrrd", "again").GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (LIVER_WINDOW.low_hu, LIVER_WINDOW.high_hu)
    assert not display.GetAutoWindowLevel()
