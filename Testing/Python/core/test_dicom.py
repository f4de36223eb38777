"""Reading DICOM folders: whatever is in them, the CT comes out with the right values at the right places."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from dicom_factory import (
    SHAPE,
    SeriesSpec,
    body,
    enhanced_dataset,
    other_dataset,
    slice_dataset,
    write_dataset,
    write_series,
)
from Diff4MMLiTSLib.core.dicom import DicomFolder, read_series, scan_folder
from Diff4MMLiTSLib.core.dicom_headers import Skipped, read_slices
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.grid import Volume
from Diff4MMLiTSLib.core.progress import silent

OBLIQUE = (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)


def scan(folder: Path) -> DicomFolder:
    return scan_folder(folder, silent())


def read_only_series(folder: Path, *, interpolate_gaps: bool = False) -> tuple[Volume, list[str]]:
    (exam,) = scan(folder).exams
    (series,) = exam.series
    return read_series(series, silent(), interpolate_gaps=interpolate_gaps)


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), OBLIQUE])
def test_every_voxel_lies_where_its_slice_says(tmp_path, orientation):
    spec = SeriesSpec(orientation=tuple(map(float, orientation)))
    write_series(tmp_path, spec)

    volume, _ = read_only_series(tmp_path)

    np.testing.assert_array_equal(volume.array, spec.hu)
    corner = volume.grid.to_world(np.array([31.0, 5.0, 6.0]))
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    np.testing.assert_allclose(corner, spec.origin_mm + 31 * 1.5 * row + 5 * 2.0 * column + 6 * spec.step, atol=1e-6)


def test_slices_stored_from_the_head_down_are_turned_without_mirroring(tmp_path):
    spec = SeriesSpec(step_mm=(0.0, 0.0, -3.0))
    write_series(tmp_path, spec)

    volume, _ = read_only_series(tmp_path)

    assert np.linalg.det(volume.grid.direction_matrix) == pytest.approx(1.0)
    np.testing.assert_array_equal(volume.array, spec.hu[::-1])


def test_values_agree_with_the_series_reader_of_simpleitk(tmp_path):
    files = write_series(tmp_path, SeriesSpec(slope=2.0, hu=body() // 2 * 2))

    volume, _ = read_only_series(tmp_path)

    expected = sitk.ReadImage([str(file) for file in files])
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(expected))
    assert volume.grid.same_as(Volume.from_image(expected).grid)


def test_each_slice_is_rescaled_with_its_own_slope_and_intercept(tmp_path):
    spec = SeriesSpec()
    for index in range(SHAPE[0]):
        own = spec.with_(intercept=-1024.0 - index, slope=1.0 + index % 2)
        write_dataset(tmp_path / f"{index}.dcm", slice_dataset(own, index))

    volume, _ = read_only_series(tmp_path)

    assert np.abs(np.maximum(spec.hu, -1024) - volume.array).max() <= 1


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_hounsfield_units_do_not_depend_on_how_the_image_is_displayed(tmp_path, photometric):
    spec = SeriesSpec(tags={"PhotometricInterpretation": photometric})
    write_series(tmp_path, spec)
    np.testing.assert_array_equal(read_only_series(tmp_path)[0].array, spec.hu)


@pytest.mark.parametrize(("code", "padding"), [("SS", -2000), ("US", 63536)])
def test_padding_becomes_air_however_its_sign_is_written(tmp_path, code, padding):
    hu = body()
    hu[:, 0, 0] = -3024
    spec = SeriesSpec(hu=hu)
    for index in range(8):
        dataset = slice_dataset(spec, index)
        dataset.add_new("PixelPaddingValue", code, padding)
        write_dataset(tmp_path / str(index), dataset)
    assert (read_only_series(tmp_path)[0].array[:, 0, 0] == -1024).all()


def test_high_padding_becomes_air_but_a_padding_value_of_water_is_not_believed(tmp_path):
    hu = body()
    hu[:, 0, 0], hu[:, 16, 16] = 9000, 0
    write_series(tmp_path / "high", SeriesSpec(hu=hu, tags={"PixelPaddingValue": 9000 + 1024}))
    write_series(tmp_path / "water", SeriesSpec(hu=hu, tags={"PixelPaddingValue": 1024}))

    assert (read_only_series(tmp_path / "high")[0].array[:, 0, 0] == -1024).all()
    assert (read_only_series(tmp_path / "water")[0].array[:, 16, 16] == 0).all()


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_compressed_slices_are_decoded(tmp_path, compressor):
    spec = SeriesSpec()
    for index in range(8):
        dataset = slice_dataset(spec, index)
        stored = sitk.GetImageFromArray((spec.hu[index] + 1024).astype(np.int16))
        sitk.WriteImage(stored, str(tmp_path / "one.dcm"), useCompression=True, compressor=compressor)
        compressed = pydicom.dcmread(tmp_path / "one.dcm")
        dataset.file_meta.TransferSyntaxUID = compressed.file_meta.TransferSyntaxUID
        dataset.PixelData = compressed.PixelData
        dataset["PixelData"].is_undefined_length = True
        write_dataset(tmp_path / "series" / str(index), dataset)

    np.testing.assert_array_equal(read_only_series(tmp_path / "series")[0].array, spec.hu)


def test_an_enhanced_multi_frame_file_is_a_series(tmp_path):
    spec = SeriesSpec()
    write_dataset(tmp_path / "enhanced", enhanced_dataset(spec))

    volume, _ = read_only_series(tmp_path)

    np.testing.assert_array_equal(volume.array, spec.hu)
    np.testing.assert_allclose(volume.grid.origin_mm, spec.origin_mm)
    assert volume.grid.spacing_mm == (1.5, 2.0, 3.0)


def test_patients_series_and_phases_in_one_folder_are_told_apart(tmp_path):
    first = SeriesSpec(description="nativ", time="100000")
    write_series(tmp_path, first)
    write_series(tmp_path / "deep" / "er", SeriesSpec(number=2, time="100130.5"))
    write_series(tmp_path, SeriesSpec(patient="other", study_uid="1.2.3", time="120000"), prefix="B")

    exams = scan(tmp_path).exams

    assert [[series.number for series in exam.series] for exam in exams] == [[1, 2], [3]]
    assert [series.offset_s for series in exams[0].series] == [0.0, 90.5]


def test_the_date_and_time_in_one_tag_is_read_too(tmp_path):
    for number, moment in enumerate(("20190807235950.0+0200", "20190808000020.000000"), start=1):
        write_series(tmp_path, SeriesSpec(number=number, tags={"AcquisitionDateTime": moment}))
    assert [series.offset_s for series in scan(tmp_path).exams[0].series] == [0.0, 30.0]


@pytest.mark.parametrize("told_by", ["acquisition", "temporal", "time"])
def test_phases_inside_one_series_are_separated(tmp_path, told_by):
    one = SeriesSpec(series_uid="1.2.3.4", time="100000")
    other = one.with_(hu=body() + 100, number=2, time="100040")
    if told_by == "acquisition":
        other = other.with_(acquisition=2)
    elif told_by == "temporal":
        one, other = (s.with_(tags={"TemporalPositionIdentifier": i}) for i, s in enumerate((one, other), start=1))
    write_series(tmp_path, one)
    write_series(tmp_path, other)

    series = scan(tmp_path).exams[0].series

    assert [each.offset_s for each in series] == [0.0, 40.0]
    for each, spec in zip(series, (one, other), strict=True):
        np.testing.assert_array_equal(read_series(each, silent())[0].array, np.maximum(spec.hu, -1024))


def test_a_series_that_changes_orientation_is_split(tmp_path):
    axial = SeriesSpec(series_uid="1.2.3.4")
    write_series(tmp_path, axial)
    write_series(tmp_path, axial.with_(orientation=(1.0, 0, 0, 0, 0, -1.0), number=2))
    assert [series.stack.is_axial for series in scan(tmp_path).exams[0].series].count(True) == 1


def test_copies_of_a_file_count_once(tmp_path):
    files = write_series(tmp_path, SeriesSpec())
    (tmp_path / "copy of a slice").write_bytes(files[2].read_bytes())

    assert read_only_series(tmp_path)[0].grid.size[2] == SHAPE[0]


def test_everything_else_in_the_folder_is_left_out_with_a_note(tmp_path):
    write_series(tmp_path, SeriesSpec())
    write_series(tmp_path, SeriesSpec(number=7, tags={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}))
    write_series(tmp_path, SeriesSpec(number=8, tags={"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "MIP"]}))
    write_dataset(tmp_path / "report", other_dataset("SR", "1.2.840.10008.5.1.4.1.1.88.11"))
    write_dataset(tmp_path / "mask", other_dataset("SEG", "1.2.840.10008.5.1.4.1.1.66.4"))
    write_dataset(tmp_path / "DICOMDIR", other_dataset("", "1.2.840.10008.1.3.10"))
    (tmp_path / "viewer.exe").write_bytes(b"MZ" + bytes(200))
    (tmp_path / "empty.dcm").touch()

    found = scan(tmp_path)

    assert [len(exam.series) for exam in found.exams] == [1]
    counts = sorted(int(note.split()[0]) for note in found.notes)
    assert counts == [1, 2, 2, 8, 8]


@pytest.mark.parametrize(("skip", "words"), [((3,), "1 missing"), ((3, 4), "2 missing"), ((2, 5), "2 missing")])
def test_missing_slices_are_an_error_that_says_how_many_and_where(tmp_path, skip, words):
    write_series(tmp_path, SeriesSpec(hu=body((12, 32, 32))), skip=skip)
    with pytest.raises(InputError, match=f"{words}, after slice {skip[0]} ") as caught:
        read_only_series(tmp_path)
    single = skip != (3, 4)
    assert ("interpolate_gaps" in str(caught.value)) is single


def test_single_missing_slices_are_interpolated_on_demand(tmp_path):
    write_series(tmp_path, SeriesSpec(), skip=(3,))

    volume, notes = read_only_series(tmp_path, interpolate_gaps=True)

    np.testing.assert_array_equal(volume.array, body())  # the body's values grow linearly from slice to slice
    assert "from 7 unevenly spaced slices to 8" in notes[0]


def test_two_missing_neighbors_are_never_interpolated(tmp_path):
    write_series(tmp_path, SeriesSpec(), skip=(3, 4))
    with pytest.raises(InputError, match="2 missing"):
        read_only_series(tmp_path, interpolate_gaps=True)


def test_positions_rounded_to_a_tenth_of_a_millimeter_are_even(tmp_path):
    spec = SeriesSpec()
    for index in range(8):
        dataset = slice_dataset(spec, index)
        dataset.ImagePositionPatient = [0.0, 0.0, round(1.25 * index - 0.01, 1)]
        write_dataset(tmp_path / str(index), dataset)
    assert read_only_series(tmp_path)[0].grid.spacing_mm[2] == pytest.approx(1.25, abs=0.02)


def test_gantry_tilt_is_refused_with_a_remedy(tmp_path):
    write_series(tmp_path, SeriesSpec(step_mm=(0.0, 0.6, 2.9)))
    with pytest.raises(InputError, match=r"gantry tilt of 11\.\d degrees.*regularization"):
        read_only_series(tmp_path)


def test_slices_at_one_place_that_nothing_tells_apart_are_refused(tmp_path):
    spec = SeriesSpec(series_uid="1.2.3.4")
    write_series(tmp_path, spec)
    write_series(tmp_path, spec.with_(number=1), prefix="again")
    with pytest.raises(InputError, match="nothing tells them apart"):
        read_only_series(tmp_path)


def test_a_truncated_file_counts_as_damaged_and_its_slice_as_missing(tmp_path):
    files = write_series(tmp_path, SeriesSpec())
    files[3].write_bytes(files[3].read_bytes()[:-500])
    assert any("damaged" in note for note in scan(tmp_path).notes)
    with pytest.raises(InputError, match="1 missing"):
        read_only_series(tmp_path)


def test_whatever_is_broken_in_a_header_only_its_file_is_left_out(tmp_path):
    rng = np.random.default_rng(3)
    data = np.frombuffer(write_series(tmp_path / "good", SeriesSpec())[0].read_bytes(), dtype=np.uint8)
    for _ in range(150):
        broken = data.copy()
        broken[rng.integers(128, 1400, size=rng.choice([1, 5, 40]))] = rng.integers(256)
        (tmp_path / "broken").write_bytes(broken[: rng.integers(130, len(data))].tobytes())
        found = read_slices(tmp_path / "broken")
        assert isinstance(found, Skipped) or np.isfinite([*found[0].position_mm, *found[0].rescale]).all()


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("PixelSpacing", [0.0, 1.0]),
        ("RescaleSlope", 0.0),
        ("ImageOrientationPatient", [0.0] * 6),
        ("ImageOrientationPatient", [1.0, 0.0, 0.0, 0.7, 0.7, 0.0]),
    ],
)
def test_slices_with_impossible_geometry_are_left_out_as_damaged(tmp_path, tag, value):
    write_series(tmp_path, SeriesSpec(tags={tag: value}))
    with pytest.raises(InputError, match="8 files were left out: damaged"):
        scan(tmp_path)


def test_values_without_rescaling_are_not_taken_for_hounsfield_units(tmp_path):
    spec = SeriesSpec()
    for index in range(8):
        dataset = slice_dataset(spec, index)
        del dataset.RescaleIntercept
        write_dataset(tmp_path / str(index), dataset)
    with pytest.raises(InputError, match="rescale"):
        scan(tmp_path)


@pytest.mark.parametrize("content", ["nothing", "unrelated", "few slices"])
def test_a_folder_without_a_ct_series_is_an_error(tmp_path, content):
    if content == "unrelated":
        (tmp_path / "letter.pdf").write_bytes(b"%PDF-1.4")
    if content == "few slices":
        write_series(tmp_path, SeriesSpec(), skip=(3, 4, 5, 6, 7))
    with pytest.raises(InputError, match=r"empty|None of the") as caught:
        scan(tmp_path)
    assert caught.value.remedy


def test_a_real_series_is_read_as_simpleitk_reads_it(tmp_path, real_data):
    archive = real_data / "dicom_samples_dev" / "tcga_bc_a10w_abdomen.zip"
    if not archive.is_file():
        pytest.skip(f"no real DICOM series: {archive.name} is not among the real CTs")
    zipfile.ZipFile(archive).extractall(tmp_path)

    volume, _ = read_only_series(tmp_path)

    folder = next(path for path in tmp_path.iterdir() if path.is_dir())
    expected = Volume.from_image(sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))))
    np.testing.assert_array_equal(volume.array, np.maximum(expected.array, -1024))
    assert volume.grid.same_as(expected.grid)
