"""A DICOM SEG lies where the masks lie, names what it is, and is filed with the series it belongs to."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from dataclasses import replace

import highdicom
import numpy as np
import pydicom
import pytest
from scipy.spatial.transform import Rotation

from dicom_factory import IDENTITY, SeriesSpec, enhanced_dataset, write_dataset, write_series
from Diff4MMLiTSLib.cli import run
from Diff4MMLiTSLib.core.dicom import read_series, scan_folder
from Diff4MMLiTSLib.core.errors import InputError, MissingError
from Diff4MMLiTSLib.core.grid import Grid, Volume
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study import HistoryEntry, Mask, MaskSource, Segmentation
from Diff4MMLiTSLib.core.study_io import write_segmentation
from Diff4MMLiTSLib.reporting.exports.dicom_seg import export_dicom_seg

OBLIQUE = tuple(Rotation.from_euler("xyz", [17, -9, 30], degrees=True).as_matrix()[:, :2].T.ravel())
SERIES = {
    "axial": SeriesSpec(),
    "oblique": SeriesSpec(orientation=OBLIQUE),
    "coronal with other spacing": SeriesSpec(
        orientation=(1, 0, 0, 0, 0, -1), pixel_mm=(0.7, 0.9), step_mm=(0, 1.25, 0)
    ),
}


def masks_on(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return a liver without any symmetry, and a large and a small tumor in it, (Z, Y, X)."""
    liver, tumor = np.zeros(grid.shape, dtype=np.uint8), np.zeros(grid.shape, dtype=np.uint8)
    liver[1:6, 8:20, 7:25] = 1
    liver[2, 20:24, 9] = 1
    tumor[5, 18, 20] = 1
    tumor[2:4, 9:12, 10:15] = 1
    return liver, tumor


def segmentation_on(grid: Grid, source: MaskSource = MaskSource.MODEL) -> Segmentation:
    liver, tumor = (Mask(Volume(array, grid), source) for array in masks_on(grid))
    entry = HistoryEntry("segment", "0.1.0", models={"tiny": "ab" * 32})
    return Segmentation("study", liver, tumor, Phase.PVP, history=(entry,))


def grid_of(folder) -> Grid:
    (exam,) = scan_folder(folder, silent()).exams
    return read_series(exam.series[0], silent())[0].grid


@pytest.fixture
def exported(tmp_path):
    """Return a function that exports a segmentation on a series, and gives the file and the grid."""

    def export(spec: SeriesSpec, change=lambda grid: grid, **options):
        write_series(tmp_path / "dicom", spec)
        grid = change(grid_of(tmp_path / "dicom"))
        write_segmentation(segmentation_on(grid), tmp_path / "segmented", intended_use="for tests")
        out = tmp_path / "out" / "seg.dcm"
        export_dicom_seg(tmp_path / "segmented", out, dicom=tmp_path / "dicom", progress=silent(), **options)
        return out, grid

    return export


def points_of(file, segment: int) -> np.ndarray:
    """Return the world positions of a segment's voxels, rounded, from the bare attributes of the standard."""
    dataset = pydicom.dcmread(file)
    shared, frames = dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence
    row, column = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    row_mm, column_mm = shared.PixelMeasuresSequence[0].PixelSpacing
    points = []
    for pixels, frame in zip(np.atleast_3d(dataset.pixel_array.T).T, frames, strict=True):
        if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == segment:
            corner = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
            y, x = np.nonzero(pixels)
            points.append(corner + x[:, None] * column_mm * row + y[:, None] * row_mm * column)
    return in_order(np.concatenate(points))


def in_order(points: np.ndarray) -> np.ndarray:
    return points[np.lexsort(np.round(points, 1).T)]


def world_of(mask: np.ndarray, grid: Grid) -> np.ndarray:
    return in_order(grid.to_world(np.argwhere(mask)[:, ::-1].astype(float)))


@pytest.mark.parametrize("kind", SERIES)
def test_every_voxel_lies_where_the_mask_has_it(exported, kind):
    out, grid = exported(SERIES[kind])
    liver, tumor = masks_on(grid)
    small = np.zeros_like(tumor)
    small[5, 18, 20] = 1
    for segment, mask in ((1, liver), (2, tumor - small), (3, small)):
        np.testing.assert_allclose(points_of(out, segment), world_of(mask, grid), atol=1e-3)


def test_a_mask_with_flipped_and_exchanged_axes_lies_at_the_same_place(exported):
    def turned(grid: Grid) -> Grid:  # as other software stores the same volume
        x, y, z = grid.size
        axes = grid.direction_matrix[:, [1, 0, 2]] * np.array([-1, 1, 1])
        origin = grid.to_world(np.array([0.0, y - 1, 0.0]))
        spacing = (grid.spacing_mm[1], grid.spacing_mm[0], grid.spacing_mm[2])
        return Grid((y, x, z), spacing, tuple(map(float, origin)), tuple(map(float, axes.ravel())))

    out, grid = exported(SERIES["oblique"], turned)
    np.testing.assert_allclose(points_of(out, 1), world_of(masks_on(grid)[0], grid), atol=1e-3)


def test_highdicom_reads_the_segments_and_their_meaning(exported):
    out, _ = exported(SERIES["oblique"])
    found = highdicom.seg.segread(out)
    descriptions = [found.get_segment_description(number) for number in (1, 2, 3)]
    assert [item.segment_label for item in descriptions] == ["Liver", "Tumor 1", "Tumor 2"]
    assert [item.segmented_property_type.value for item in descriptions] == ["10200004", "108369006", "108369006"]
    assert descriptions[1].anatomic_regions[0].meaning == "Liver"
    assert {str(item.algorithm_type.value) for item in descriptions} == {"AUTOMATIC"}
    assert descriptions[0].algorithm_identification.name == "Diff4MMLiTS tiny"
    assert "not a medical device" in found.SegmentSequence[0].SegmentDescription
    assert "not for clinical use" in found.SeriesDescription


def test_it_is_filed_with_the_patient_study_and_slices_of_its_series(exported, tmp_path):
    out, _ = exported(SERIES["axial"])
    found = pydicom.dcmread(out)
    slices = [pydicom.dcmread(path) for path in sorted((tmp_path / "dicom").iterdir())]
    assert (found.PatientName, found.PatientID) == (IDENTITY["PatientName"], IDENTITY["PatientID"])
    assert found.StudyInstanceUID == slices[0].StudyInstanceUID
    assert found.FrameOfReferenceUID == slices[0].FrameOfReferenceUID
    assert found.SeriesInstanceUID != slices[0].SeriesInstanceUID
    (referenced,) = found.ReferencedSeriesSequence
    known = {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence}
    assert known == {item.SOPInstanceUID for item in slices}


def test_frames_of_one_file_in_any_order_are_matched(tmp_path):
    write_dataset(tmp_path / "dicom" / "enhanced", enhanced_dataset(SERIES["oblique"]))
    grid = grid_of(tmp_path / "dicom")
    write_segmentation(segmentation_on(grid), tmp_path / "segmented")
    export_dicom_seg(tmp_path / "segmented", tmp_path / "seg.dcm", dicom=tmp_path / "dicom", progress=silent())
    np.testing.assert_allclose(points_of(tmp_path / "seg.dcm", 1), world_of(masks_on(grid)[0], grid), atol=1e-3)


def test_masks_of_people_are_manual_and_anonymized_series_do(tmp_path):
    for file in write_series(tmp_path / "dicom", SeriesSpec()):
        dataset = pydicom.dcmread(file)
        for name in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyID", "AccessionNumber"):
            delattr(dataset, name)
        dataset.save_as(file)
    write_segmentation(segmentation_on(grid_of(tmp_path / "dicom"), MaskSource.ANNOTATION), tmp_path / "segmented")
    export_dicom_seg(tmp_path / "segmented", tmp_path / "seg.dcm", dicom=tmp_path / "dicom", progress=silent())
    assert {item.SegmentAlgorithmType for item in pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence} == {"MANUAL"}


def test_what_was_corrected_by_clicks_is_semiautomatic(tmp_path):
    write_series(tmp_path / "dicom", SeriesSpec())
    clicked = HistoryEntry("click", "1", models={"m": "0" * 64})
    corrected = replace(segmentation_on(grid_of(tmp_path / "dicom")), history=(clicked,))
    write_segmentation(corrected, tmp_path / "segmented")
    export_dicom_seg(tmp_path / "segmented", tmp_path / "seg.dcm", dicom=tmp_path / "dicom", progress=silent())
    segments = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    assert {item.SegmentAlgorithmType for item in segments} == {"SEMIAUTOMATIC"}


def test_a_segmentation_on_other_voxels_is_refused(exported):
    with pytest.raises(InputError, match="No CT series in the folder has the voxels"):
        exported(SERIES["axial"], lambda grid: replace(grid, origin_mm=(0.4, 0.0, 100.0)))


def test_one_of_several_series_must_be_named(exported, tmp_path):
    write_series(tmp_path / "dicom", SeriesSpec(number=2, description="Arterial"))
    with pytest.raises(InputError, match=r"--series 1"):
        exported(SERIES["axial"])
    shutil.rmtree(tmp_path / "segmented")
    assert exported(SERIES["axial"], lambda _: grid_of(tmp_path / "dicom"), series=2)[0].is_file()


@pytest.mark.parametrize("source", [MaskSource.PHANTOM, MaskSource.SYNTHETIC])
def test_what_is_no_patients_is_refused(tmp_path, source):
    write_series(tmp_path / "dicom", SeriesSpec())
    synthetic = source is MaskSource.SYNTHETIC
    found = segmentation_on(grid_of(tmp_path / "dicom"), MaskSource.MODEL if synthetic else source)
    write_segmentation(found, tmp_path / "segmented", synthetic=synthetic)
    with pytest.raises(InputError, match=r"is synthetic|source 'phantom'"):
        export_dicom_seg(tmp_path / "segmented", tmp_path / "seg.dcm", dicom=tmp_path / "dicom", progress=silent())
    assert not (tmp_path / "seg.dcm").exists()


@pytest.mark.parametrize("stage", ["phantom", "inpaint", "synthesize"])
def test_a_study_whose_images_were_made_or_changed_is_refused(tmp_path, stage):
    write_series(tmp_path / "dicom", SeriesSpec())
    found = segmentation_on(grid_of(tmp_path / "dicom"))
    found = replace(found, history=(HistoryEntry(stage, "0.1.0"), *found.history))
    write_segmentation(found, tmp_path / "segmented")
    with pytest.raises(InputError, match=stage):
        export_dicom_seg(tmp_path / "segmented", tmp_path / "seg.dcm", dicom=tmp_path / "dicom", progress=silent())


def test_nothing_is_overwritten_and_the_command_names_no_patient(exported, tmp_path, capsys):
    out, _ = exported(SeriesSpec(tags={"PatientName": "Nobody"}))  # a name that highdicom warns about, quoting it
    before = out.read_bytes()
    arguments = [str(tmp_path / "segmented"), str(out), "--dicom", str(tmp_path / "dicom")]
    assert run(["export", "dicom-seg", *arguments, "--progress", "json"]) == 2
    assert out.read_bytes() == before
    with warnings.catch_warnings(record=True) as said:
        assert run(["export", "dicom-seg", *arguments, "--force", "--progress", "json", "--debug"]) == 0
    shown = "".join([*capsys.readouterr(), *(str(warning.message) for warning in said)])
    assert not any(value in shown for value in (*IDENTITY.values(), "Nobody"))


def test_without_highdicom_the_error_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MissingError, match="pip install highdicom"):
        export_dicom_seg(tmp_path, tmp_path / "seg.dcm", dicom=tmp_path, progress=silent())


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy (Debian package dicom3tools) is not installed")
@pytest.mark.parametrize("kind", SERIES)
def test_the_validator_finds_no_error(exported, kind):
    out, _ = exported(SERIES[kind])
    done = subprocess.run(["dciodvfy", "-new", str(out)], capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).splitlines()
    assert any("Segmentation" in line for line in said)
    assert [line for line in said if line.startswith("Error")] == []
