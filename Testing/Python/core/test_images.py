"""Image files that are no CT volumes are refused with what was found."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import SimpleITK as sitk

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.grid import Volume
from Diff4MMLiTSLib.core.images import is_marked_synthetic, read_mask, read_volume, write_volume
from Diff4MMLiTSLib.core.study import MaskSource

FORMATS = ["ct.nrrd", "ct.nii", "ct.nii.gz", "ct.mha", "ct.nhdr"]


@pytest.fixture
def a_volume(a_study):
    return a_study.reference


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_comes_back_on_its_grid(a_volume, tmp_path, name):
    write_volume(a_volume, tmp_path / name)
    again = read_volume(tmp_path / name)
    assert again.grid.difference(a_volume.grid) == ""
    np.testing.assert_array_equal(again.array, a_volume.array)


@pytest.mark.parametrize("name", ["ct.nrrd", "ct.nii.gz", "ct.nii"])
def test_the_synthetic_mark_is_in_the_header(a_volume, tmp_path, name):
    write_volume(a_volume, tmp_path / name, synthetic=True)
    assert is_marked_synthetic(tmp_path / name)
    raw = (tmp_path / name).read_bytes()
    assert b"SYNTHETIC" in (gzip.decompress(raw) if name.endswith("gz") else raw)


@pytest.mark.parametrize("name", ["ct.nrrd", "ct.nii.gz", "ct.nii", "ct.mha"])
def test_a_truncated_file_is_refused(a_volume, tmp_path, name):
    write_volume(a_volume, tmp_path / name)
    raw = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(raw[: len(raw) * 2 // 3])
    with pytest.raises(InputError, match=f"'{name}' cannot be read.*truncated"):
        read_volume(tmp_path / name)


def test_whole_numbers_stored_as_float_become_int16(a_volume, tmp_path):
    write_volume(Volume(np.asarray(a_volume.array).astype(np.float64), a_volume.grid), tmp_path / "ct.nrrd")
    assert read_volume(tmp_path / "ct.nrrd").array.dtype == np.int16


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (lambda hu: hu + 1024, "not a CT in Hounsfield units"),
        (lambda hu: (hu - hu.min()) / (hu.max() - hu.min()), "not a CT in Hounsfield units"),
        (lambda hu: np.where(hu == hu.max(), np.nan, hu.astype(float)), "not numbers"),
    ],
)
def test_values_that_are_no_hounsfield_units_are_refused(a_volume, tmp_path, values, words):
    write_volume(Volume(values(np.asarray(a_volume.array)), a_volume.grid), tmp_path / "ct.nrrd")
    with pytest.raises(InputError, match=words):
        read_volume(tmp_path / "ct.nrrd")


def test_color_and_four_dimensional_images_are_refused(tmp_path):
    sitk.WriteImage(sitk.Image([8, 8, 8], sitk.sitkVectorUInt8, 3), str(tmp_path / "rgb.nrrd"))
    sitk.WriteImage(sitk.Image([8, 8, 8, 4], sitk.sitkInt16), str(tmp_path / "time.nii.gz"))
    with pytest.raises(InputError, match="3 values per voxel"):
        read_volume(tmp_path / "rgb.nrrd")
    with pytest.raises(InputError, match="8 x 8 x 8 x 4"):
        read_volume(tmp_path / "time.nii.gz")


def test_a_text_file_and_a_missing_file_are_refused(tmp_path):
    (tmp_path / "notes.nrrd").write_text("hello")
    with pytest.raises(InputError, match="cannot be read as an image"):
        read_volume(tmp_path / "notes.nrrd")
    with pytest.raises(InputError, match=r"no file 'absent\.nrrd'"):
        read_volume(tmp_path / "absent.nrrd")


def test_masks_of_one_structure_become_zero_and_one_whatever_its_value(a_study, tmp_path):
    mask = a_study.liver.array
    write_volume(Volume((mask * 255).astype(np.uint8), a_study.grid), tmp_path / "liver.nrrd")
    np.testing.assert_array_equal(read_mask(tmp_path / "liver.nrrd", MaskSource.ANNOTATION).array, mask)


def test_a_label_map_of_several_structures_is_no_mask(a_study, tmp_path):
    labels = a_study.liver.array.astype(np.uint8) + a_study.tumor_mask.array
    write_volume(Volume(labels, a_study.grid), tmp_path / "labels.nrrd")
    with pytest.raises(InputError, match="values 0, 1, 2"):
        read_mask(tmp_path / "labels.nrrd", MaskSource.ANNOTATION)
