"""Study folders come back as they were written, appear whole or not at all, and bad ones are refused in words."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.grid import Volume
from Diff4MMLiTSLib.core.images import is_marked_synthetic
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.study import (
    TUMOR_FREE,
    HistoryEntry,
    MaskSource,
    NormalStudy,
    PhaseQA,
    RegisteredStudy,
    Segmentation,
    StageQA,
    Study,
    Verdict,
)
from Diff4MMLiTSLib.core.study_io import (
    find_studies,
    input_hashes,
    read_normal,
    read_registered,
    read_segmentation,
    read_study,
    write_normal,
    write_segmentation,
    write_study,
)


@pytest.fixture
def a_folder(a_study, tmp_path):
    folder = tmp_path / "mit Leerzeichen und ü" / "study 1 ü"
    write_study(a_study, folder)
    return folder


def edit(folder, **changes):
    record = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    record.update(changes)
    (folder / "study.json").write_text(json.dumps(record), encoding="utf-8")


def test_a_study_comes_back_as_it_was_written(a_study, a_folder):
    again = read_study(a_folder)
    assert isinstance(again, RegisteredStudy)
    assert (again.study_id, again.reference_phase) == (a_study.study_id, a_study.reference_phase)
    for phase, volume in a_study.phases.items():
        assert again.phases[phase].array.dtype == volume.array.dtype
        np.testing.assert_array_equal(again.phases[phase].array, volume.array)
        assert again.phases[phase].grid.same_as(volume.grid)
    np.testing.assert_array_equal(again.tumor_mask.array, a_study.tumor_mask.array)
    assert again.liver.source is MaskSource.ANNOTATION


def test_float_values_come_back_bit_for_bit(a_study, tmp_path):
    values = np.asarray(a_study.reference.array) + np.float32(0.123)
    study = replace(a_study, phases={Phase.PVP: Volume(values.astype(np.float32), a_study.grid)})
    write_study(study, tmp_path / "s")
    np.testing.assert_array_equal(read_study(tmp_path / "s").reference.array, values.astype(np.float32))


def test_history_quality_and_transforms_come_back(a_study, tmp_path):
    history = (
        HistoryEntry("register", "1.0", {"grid_mm": 12.0}, seed=3, inputs={"PVP.nrrd": "ab"}, models={"m": "cd"}),
    )
    phase_qa = PhaseQA(Verdict.REVIEW, ("too far",), {"residual_mm": 3.5, "jacobian_min": float("nan")})
    qa = {
        "register": StageQA(Verdict.REVIEW, 2.5, ("AP: too far",), {Phase.AP: phase_qa}, {"x": 1.0}, {"liver": "given"})
    }
    transforms = {Phase.AP: sitk.TranslationTransform(3, (1.0, 2.0, 3.0))}
    write_study(replace(a_study, history=history, qa=qa, transforms=transforms), tmp_path / "s")
    again = read_registered(tmp_path / "s")
    assert again.history == history
    assert again.qa["register"].phases[Phase.AP].measures["residual_mm"] == 3.5
    assert np.isnan(again.qa["register"].phases[Phase.AP].measures["jacobian_min"])
    assert again.qa["register"].notes == {"liver": "given"}
    assert again.transforms[Phase.AP].TransformPoint((0.0, 0.0, 0.0)) == pytest.approx((1.0, 2.0, 3.0))


def test_composites_inside_a_composite_can_be_written(a_study, tmp_path):
    inner = sitk.CompositeTransform([sitk.TranslationTransform(3, (1.0, 0.0, 0.0)), sitk.ScaleTransform(3, (2.0,) * 3)])
    nested = sitk.CompositeTransform([sitk.TranslationTransform(3, (0.0, 5.0, 0.0)), inner])
    write_study(replace(a_study, transforms={Phase.AP: nested}), tmp_path / "s")
    found = read_registered(tmp_path / "s").transforms[Phase.AP]
    assert found.TransformPoint((1.0, 1.0, 1.0)) == pytest.approx(nested.TransformPoint((1.0, 1.0, 1.0)))


def test_free_of_tumor_and_unknown_are_told_apart(a_study, tmp_path):
    write_study(replace(a_study, tumor=TUMOR_FREE), tmp_path / "free")
    write_study(replace(a_study, tumor=None), tmp_path / "unknown")
    assert read_study(tmp_path / "free").is_tumor_free
    assert not read_study(tmp_path / "unknown").is_tumor_free
    with pytest.raises(InputError, match="does not say"):
        read_normal(tmp_path / "unknown")


def test_the_inpainting_mask_of_a_normal_study_comes_back(a_study, tmp_path):
    normal = NormalStudy(replace(a_study, tumor=TUMOR_FREE), replace(a_study.tumor_mask, source=MaskSource.MODEL))
    write_normal(normal, tmp_path / "s")
    np.testing.assert_array_equal(read_normal(tmp_path / "s").inpainting_mask.array, a_study.tumor_mask.array)


def test_every_synthetic_image_carries_the_mark_and_it_is_never_lost(a_study, tmp_path):
    tumor = replace(a_study.tumor_mask, source=MaskSource.SYNTHETIC)
    write_study(replace(a_study, tumor=tumor, synthetic=True), tmp_path / "s")
    images = list((tmp_path / "s").rglob("*.nrrd"))
    assert len(images) == 4
    assert all(is_marked_synthetic(path) for path in images)
    edit(tmp_path / "s", synthetic=False)
    assert read_study(tmp_path / "s").synthetic


def test_a_real_study_carries_no_mark(a_folder):
    assert not any(is_marked_synthetic(path) for path in a_folder.rglob("*.nrrd"))


def test_a_segmentation_comes_back_with_the_intended_use(a_study, tmp_path):
    masks = [replace(mask, source=MaskSource.MODEL) for mask in (a_study.liver, a_study.tumor_mask)]
    segmentation = Segmentation("study 1 ü", masks[0], masks[1], Phase.PVP)
    write_segmentation(segmentation, tmp_path / "s", intended_use="for tests")
    np.testing.assert_array_equal(read_segmentation(tmp_path / "s").tumor.array, a_study.tumor_mask.array)
    assert json.loads((tmp_path / "s" / "study.json").read_text())["intended_use"] == "for tests"


def test_probability_and_uncertainty_of_a_segmentation_come_back(a_study, tmp_path):
    maps = [Volume(np.full(a_study.grid.shape, value, np.uint8), a_study.grid) for value in (7, 9)]
    found = Segmentation("s", a_study.liver, a_study.tumor, Phase.PVP, probability=maps[0], uncertainty=maps[1])
    write_segmentation(found, tmp_path / "s")
    read = read_segmentation(tmp_path / "s")
    assert [int(np.asarray(volume.array).max()) for volume in (read.probability, read.uncertainty)] == [7, 9]


def test_without_masks_a_study_is_read_though_their_files_are_missing(a_study, a_folder):
    for name in ("liver", "tumor"):
        (a_folder / f"{name}.nrrd").unlink()
    read = read_study(a_folder, masks=False)
    assert read.liver is read.tumor is None
    with pytest.raises(InputError):
        read_study(a_folder)


def test_an_unregistered_study_is_not_taken_for_a_registered_one(a_study, tmp_path):
    write_study(Study("s", a_study.phases, Phase.PVP), tmp_path / "s")
    with pytest.raises(InputError, match="not registered"):
        read_registered(tmp_path / "s")


def test_a_one_phase_study_is_registered_by_definition(a_study, tmp_path):
    write_study(Study("s", {Phase.AP: a_study.phases[Phase.AP]}, Phase.AP), tmp_path / "s")
    assert isinstance(read_registered(tmp_path / "s"), RegisteredStudy)


def test_nothing_is_overwritten_without_force(a_study, a_folder):
    before = (a_folder / "PVP.nrrd").read_bytes()
    other = replace(
        a_study, phases={Phase.PVP: Volume(np.asarray(a_study.reference.array) + np.int16(1), a_study.grid)}
    )
    with pytest.raises(InputError, match="exists already"):
        write_study(other, a_folder)
    assert (a_folder / "PVP.nrrd").read_bytes() == before
    write_study(other, a_folder, force=True)
    assert not (a_folder / "AP.nrrd").exists()
    assert [path.name for path in a_folder.parent.iterdir()] == [a_folder.name]


def test_a_failure_in_mid_write_leaves_nothing_behind(a_study, tmp_path):
    with pytest.raises(AttributeError):
        write_study(a_study, tmp_path / "s", extras={"truth/broken.nrrd": 7})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing_behind(a_study, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise RuntimeError("sitk::ERROR: write failed")

    monkeypatch.setattr(sitk, "WriteImage", full)
    with pytest.raises(InputError, match="disk is full"):
        write_study(a_study, tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"phases": {"VENOUS": {"file": "PVP.nrrd"}}}, "Unknown phase name 'VENOUS'"),
        ({"phases": {}}, "names no phase"),
        ({"phases": {"PVP": {"file": "missing.nrrd"}}}, "no file 'missing.nrrd'"),
        ({"phases": {"PVP": {"file": "../PVP.nrrd"}}}, "a name inside the folder"),
        ({"liver": {"file": "liver.nrrd", "source": "guess"}}, "annotation, model"),
        ({"reference_phase": "NC"}, "reference phase NC"),
        ({"format": 2}, "format 2"),
    ],
)
def test_a_study_file_with_a_fault_is_refused_in_words(a_folder, changes, words):
    edit(a_folder, **changes)
    with pytest.raises(InputError, match=words):
        read_study(a_folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("study.json", {"format": "new"}),
        ("study.json", {"history": [{"version": "1"}]}),
        ("study.json", {"history": 7}),
        ("qa.json", {"register": {"verdict": "fine"}}),
        ("qa.json", {"register": {"seconds": 1}}),
        ("qa.json", {"register": {"verdict": "pass", "phases": ["AP"]}}),
    ],
)
def test_a_record_that_was_edited_wrongly_is_named_and_refused(a_folder, name, content):
    before = json.loads((a_folder / "study.json").read_text(encoding="utf-8")) if name == "study.json" else {}
    (a_folder / name).write_text(json.dumps({**before, **content}), encoding="utf-8")
    with pytest.raises(InputError, match=name):
        read_study(a_folder)


def test_a_damaged_transform_is_named_and_refused(a_study, tmp_path):
    write_study(replace(a_study, transforms={Phase.AP: sitk.TranslationTransform(3)}), tmp_path / "s")
    (tmp_path / "s" / "transforms" / "AP_to_PVP.h5").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"AP_to_PVP\.h5"):
        read_study(tmp_path / "s")


def test_only_the_images_that_a_study_names_are_hashed(a_folder):
    (a_folder / "report Jane Doe.pdf").write_bytes(b"x")
    assert sorted(input_hashes(a_folder)) == ["AP.nrrd", "PVP.nrrd", "liver.nrrd", "tumor.nrrd"]


def test_a_transform_that_does_not_fit_on_the_disk_is_said(a_study, tmp_path, monkeypatch):
    def full(*_args):
        raise RuntimeError("sitk::ERROR: write failed")

    monkeypatch.setattr(sitk, "WriteTransform", full)
    with pytest.raises(InputError, match="disk is full"):
        write_study(replace(a_study, transforms={Phase.AP: sitk.TranslationTransform(3)}), tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_a_study_file_that_cannot_be_opened_is_refused_without_its_path(a_folder):
    (a_folder / "study.json").unlink()
    (a_folder / "study.json").mkdir()
    with pytest.raises(InputError, match="cannot be read") as caught:
        read_study(a_folder)
    assert str(a_folder.parent.parent) not in str(caught.value)


def test_no_error_text_names_an_absolute_path(a_folder):
    shutil.copy(a_folder / "PVP.nrrd", a_folder / "whole")
    (a_folder / "PVP.nrrd").write_bytes((a_folder / "whole").read_bytes()[:2000])
    with pytest.raises(InputError) as caught:
        read_study(a_folder)
    assert str(a_folder.parent.parent) not in str(caught.value)


def test_studies_are_found_in_order_and_unfinished_ones_are_not_studies(a_study, tmp_path):
    for name in ("b", "a"):
        write_study(a_study, tmp_path / name)
    (tmp_path / ".c.partial-123").mkdir()
    shutil.copy(tmp_path / "a" / "study.json", tmp_path / ".c.partial-123")
    assert [folder.name for folder in find_studies(tmp_path)] == ["a", "b"]
    assert find_studies(tmp_path / "a") == (tmp_path / "a",)


def test_an_empty_folder_and_a_folder_of_unrelated_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no study"):
        find_studies(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="import"):
        find_studies(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        find_studies(tmp_path / "absent")
