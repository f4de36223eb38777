"""Importing tables, datasets and DICOM folders: every study arrives as it was, or fails alone with a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from abdomen import an_abdomen
from dicom_factory import SeriesSpec, body, write_series
from Diff4MMLiTSLib.core.config import ImportConfig
from Diff4MMLiTSLib.core.errors import CanceledError, InputError
from Diff4MMLiTSLib.core.grid import Grid, Volume
from Diff4MMLiTSLib.core.images import write_volume
from Diff4MMLiTSLib.core.importers import ImportReport, ImportSource, import_studies
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.progress import Progress, silent
from Diff4MMLiTSLib.core.study import MaskSource, RegisteredStudy
from Diff4MMLiTSLib.core.study_io import read_study

GRID = Grid((32, 32, 8), (1.5, 2.0, 3.0), (10.0, -20.0, 30.0), (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0))
LABELS = np.zeros(GRID.shape, dtype=np.uint8)
LABELS[2:6, 12:20, 12:20] = 1
LABELS[3:5, 14:16, 14:16] = 2


def run(source: Path, out: Path, kind: ImportSource, **options: object) -> ImportReport:
    return import_studies(source, out, source=kind, options=ImportConfig(**options), progress=silent())


def save(path: Path, array: np.ndarray, grid: Grid = GRID, *, synthetic: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(Volume(array, grid), path, synthetic=synthetic)
    return path


@pytest.fixture
def a_table(tmp_path: Path) -> Path:
    folder = tmp_path / "Müller data"
    for name in ("ap.nii.gz", "pv.nrrd", "only.mha"):
        save(folder / name, body())
    save(folder / "masks" / "liver.nii.gz", (LABELS > 0).astype(np.uint8))
    save(folder / "masks" / "tumor.nrrd", (LABELS == 2).astype(np.uint8) * 7)
    table = folder / "studies.csv"
    table.write_text(
        "study,AP,PVP,liver,tumor\nfirst,ap.nii.gz,pv.nrrd,masks/liver.nii.gz,masks/tumor.nrrd\n"
        "second,,only.mha,,none\nthird,ap.nii.gz,,,\n",
        encoding="utf-8",
    )
    return table


def test_a_table_becomes_studies(a_table, tmp_path):
    report = run(a_table, tmp_path / "out", ImportSource.TABLE)

    assert report.written == ("first", "second", "third") and not report.failed
    first, second, third = (read_study(tmp_path / "out" / name) for name in report.written)
    assert set(first.phases) == {Phase.AP, Phase.PVP} and not isinstance(first, RegisteredStudy)
    np.testing.assert_array_equal(first.reference.array, body())
    np.testing.assert_array_equal(first.tumor_mask.array, LABELS == 2)
    assert first.grid.same_as(GRID) and first.liver.source is MaskSource.ANNOTATION
    assert second.is_tumor_free and third.tumor is None and third.reference_phase is Phase.AP


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_every_spreadsheet_are_read(a_table, tmp_path, encoding, separator):
    text = a_table.read_text(encoding="utf-8").replace(",", separator).replace("study", "Study ").replace("\n", "\r\n")
    a_table.write_bytes((text + separator * 4 + "\r\n\r\n").encode(encoding))
    assert len(run(a_table, tmp_path / "out", ImportSource.TABLE).written) == 3


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("study,PVP,tumour", "unknown columns 'tumour'"),
        ("study,PVP,pvp", "appear twice: PVP"),
        ("name,PVP", "no column 'study'"),
        ("study,liver", "no column of a phase"),
    ],
)
def test_a_wrong_header_is_explained(a_table, tmp_path, header, words):
    a_table.write_text(header + "\na,pv.nrrd\n")
    with pytest.raises(InputError, match=words):
        run(a_table, tmp_path / "out", ImportSource.TABLE)


def broken_files(folder: Path) -> dict[str, tuple[str, str]]:
    """Write one file of every kind of fault; return the row of the table and the words of the error by study name."""
    rng, good = np.random.default_rng(1), body()
    save(folder / "good.nrrd", good)
    for ending in ("nii.gz", "nrrd"):
        whole = save(folder / f"whole.{ending}", good + rng.integers(-20, 20, good.shape, dtype=np.int16)).read_bytes()
        (folder / f"cut.{ending}").write_bytes(whole[: len(whole) // 2])
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(good)] * 2), str(folder / "time.nii.gz"))
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((8, 8, 8, 3), np.uint8), isVector=True), str(folder / "rgb.nrrd"))
    save(folder / "scaled.nrrd", (good + 1024).astype(np.int16))
    values = good.astype(np.float32)
    values[2, 3, 4] = np.nan
    save(folder / "nan.nrrd", values)
    save(folder / "two.nrrd", LABELS)
    save(folder / "zero.nrrd", LABELS * 0)
    save(folder / "shifted.nrrd", (LABELS > 0).astype(np.uint8), Grid(GRID.size, GRID.spacing_mm, (0.0, 0.0, 0.0)))
    return {
        "absent": ("absent.nrrd,,", "no file 'absent.nrrd'"),
        "cut nifti": ("cut.nii.gz,,", "'cut.nii.gz'.*truncated"),
        "cut nrrd": ("cut.nrrd,,", "'cut.nrrd'.*truncated"),
        "four axes": ("time.nii.gz,,", "'time.nii.gz'.*32 x 32 x 8 x 2"),
        "color": ("rgb.nrrd,,", "'rgb.nrrd' has 3 values per voxel"),
        "not ct": ("scaled.nrrd,,", "'scaled.nrrd' is not a CT"),
        "nan": ("nan.nrrd,,", "'nan.nrrd' holds 1 voxels that are not numbers"),
        "two labels": ("good.nrrd,,two.nrrd", "'two.nrrd' holds the values 0, 1, 2"),
        "no liver": ("good.nrrd,zero.nrrd,", "liver mask .* is empty"),
        "other grid": ("good.nrrd,,shifted.nrrd", "another grid than PVP: origin"),
        "no image": (",,", "no image"),
    }


def test_each_broken_study_fails_alone_with_a_sentence(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    rows = broken_files(folder)
    lines = [f"{name},{cells}" for name, (cells, _) in rows.items()]
    (folder / "t.csv").write_text(
        "\n".join(["study,PVP,liver,tumor", *lines, "fine,good.nrrd,,zero.nrrd", ",good.nrrd,,"])
    )
    before = {path: path.read_bytes() for path in folder.iterdir()}

    report = run(folder / "t.csv", tmp_path / "out", ImportSource.TABLE)

    assert report.written == ("fine",) and read_study(tmp_path / "out" / "fine").is_tumor_free
    for name, (_, words) in rows.items():
        error = report.failed[f"line {list(rows).index(name) + 2}" if name == "no image" else name]
        with pytest.raises(InputError, match=words):
            raise error
        assert str(tmp_path) not in str(error)
    assert before == {path: path.read_bytes() for path in folder.iterdir()}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["fine"]


def test_one_file_for_two_phases_or_one_name_for_two_studies_is_an_error(a_table, tmp_path):
    a_table.write_text("study,AP,PVP\na,pv.nrrd,pv.nrrd\nb,,pv.nrrd\nb,,only.mha\n")
    report = run(a_table, tmp_path / "out", ImportSource.TABLE)
    assert report.written == ("b",)
    assert "one file for two phases" in str(report.failed["line 2"])
    assert "several lines" in str(report.failed["line 4"])


def test_finished_studies_are_skipped_unless_forced(a_table, tmp_path):
    run(a_table, tmp_path / "out", ImportSource.TABLE)
    save(a_table.parent / "only.mha", body() + 5)

    assert run(a_table, tmp_path / "out", ImportSource.TABLE).skipped == ("first", "second", "third")
    assert read_study(tmp_path / "out" / "second").reference.array.max() == body().max()
    assert len(run(a_table, tmp_path / "out", ImportSource.TABLE, force=True).written) == 3
    assert read_study(tmp_path / "out" / "second").reference.array.max() == body().max() + 5


def test_a_folder_that_holds_what_is_imported_is_not_replaced(a_table, tmp_path):
    study = run(a_table, tmp_path / "out", ImportSource.TABLE).written[0]
    save(tmp_path / "out" / study / "mine" / "liver.nrrd", np.ones_like(LABELS))
    table = tmp_path / "again.csv"
    table.write_text(f"study,PVP,liver\n{study},{a_table.parent / 'pv.nrrd'},out/{study}/mine/liver.nrrd\n", "utf-8")
    with pytest.raises(InputError, match=r"would replace the folder that holds 'liver\.nrrd'"):
        run(table, tmp_path / "out", ImportSource.TABLE, force=True)
    assert (tmp_path / "out" / study / "mine" / "liver.nrrd").exists()


@pytest.mark.parametrize("moment", [3, 4])
def test_cancel_leaves_finished_studies_and_nothing_half_written(a_table, tmp_path, moment):
    a_table.write_text("study,PVP\nfirst,pv.nrrd\nsecond,only.mha\n")
    seen: list[str] = []  # listing files, first, reading PVP, second, reading PVP
    progress = Progress(lambda _fraction, _stage, message: seen.append(message), lambda: len(seen) > moment)
    with pytest.raises(CanceledError):
        import_studies(a_table, tmp_path / "out", source=ImportSource.TABLE, options=ImportConfig(), progress=progress)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["first"]


def test_a_synthetic_image_stays_synthetic(a_table, tmp_path):
    save(a_table.parent / "made.nrrd", body(), synthetic=True)
    rows = ("made,made.nrrd", "SYNTHETIC_x,only.mha", "real,only.mha")
    a_table.write_text("study,PVP,tumor\n" + "".join(f"{row},masks/tumor.nrrd\n" for row in rows))
    report = run(a_table, tmp_path / "out", ImportSource.TABLE)
    made, named, real = (read_study(tmp_path / "out" / name) for name in report.written)
    assert made.synthetic and named.synthetic and not real.synthetic
    assert [each.tumor_mask.source for each in (made, real)] == [MaskSource.SYNTHETIC, MaskSource.ANNOTATION]


def test_the_output_is_never_the_input(tmp_path):
    write_series(tmp_path, SeriesSpec())
    with pytest.raises(InputError, match="output is the input"):
        run(tmp_path, tmp_path, ImportSource.DICOM)


def an_nnunet_dataset(folder: Path, channels: dict[str, str], labels: dict[str, object]) -> Path:
    for channel in channels:
        save(folder / "imagesTr" / f"case_1_{int(channel):04d}.nii.gz", body() + int(channel))
        save(folder / "imagesTs" / f"case_2_{int(channel):04d}.nii.gz", body())
    save(folder / "labelsTr" / "case_1.nii.gz", LABELS)
    record = {"channel_names": channels, "labels": labels, "file_ending": ".nii.gz", "numTraining": 1}
    (folder / "dataset.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "liver": 1, "tumor": 2},
        {"background": 0, "whole liver": [1, 2], "Tumour": [2]},
        {"0": "background", "1": "liver", "2": "cancer"},
    ],
)
def test_an_nnunet_dataset_becomes_studies(tmp_path, labels):
    source = an_nnunet_dataset(tmp_path / "Dataset001", {"0": "arterial", "1": "Portal venous", "2": "NC"}, labels)

    report = run(source, tmp_path / "out", ImportSource.NNUNET)

    assert report.written == ("case_1", "case_2")
    one, two = (read_study(tmp_path / "out" / name) for name in report.written)
    assert {phase: int(volume.array[0, 16, 16]) for phase, volume in one.phases.items()} == {
        "NC": 52,
        "AP": 50,
        "PVP": 51,
    }
    assert not isinstance(one, RegisteredStudy) and two.liver is None and two.tumor is None
    np.testing.assert_array_equal(one.liver.array, LABELS > 0)
    np.testing.assert_array_equal(one.tumor_mask.array, LABELS == 2)


def test_channels_without_a_phase_can_be_given_one(tmp_path):
    source = an_nnunet_dataset(tmp_path / "D", {"0": "CT", "1": "CT2"}, {"background": 0, "liver": 1, "tumor": 2})
    with pytest.raises(InputError, match="not different phases: 0 'CT'"):
        run(source, tmp_path / "out", ImportSource.NNUNET)
    run(source, tmp_path / "out", ImportSource.NNUNET, phases={0: Phase.NC, 1: Phase.DELAY})
    assert set(read_study(tmp_path / "out" / "case_1").phases) == {Phase.NC, Phase.DELAY}


def test_a_missing_channel_file_fails_its_case_only(tmp_path):
    source = an_nnunet_dataset(tmp_path / "D", {"0": "AP", "1": "PVP"}, {"background": 0, "tumor": 2, "vessel": 1})
    (source / "imagesTr" / "case_1_0001.nii.gz").unlink()
    report = run(source, tmp_path / "out", ImportSource.NNUNET)
    assert report.written == ("case_2",) and "case_1_0001.nii.gz" in str(report.failed["case_1"])
    assert any("'vessel' is neither" in warning for warning in report.warnings)


def test_partly_annotated_and_foreign_labels_are_refused(tmp_path):
    channels, labels = {"0": "CT"}, {"background": 0, "liver": 1, "ignore": 2}
    report = run(an_nnunet_dataset(tmp_path / "a", channels, labels), tmp_path / "out", ImportSource.NNUNET)
    assert "without annotation" in str(report.failed["case_1"])
    with pytest.raises(InputError, match="no label named liver or tumor"):
        run(an_nnunet_dataset(tmp_path / "b", channels, {"kidney": 1}), tmp_path / "out", ImportSource.NNUNET)


def test_a_decathlon_dataset_becomes_one_phase_studies(tmp_path):
    source = tmp_path / "Task03_Liver"
    save(source / "imagesTr" / "liver_0.nii.gz", body())
    save(source / "labelsTr" / "liver_0.nii.gz", LABELS)
    save(source / "imagesTs" / "liver_9.nii.gz", body())
    record = {
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "liver", "2": "cancer"},
        "training": [{"image": "./imagesTr/liver_0.nii.gz", "label": "./labelsTr/liver_0.nii.gz"}],
        "test": ["./imagesTs/liver_9.nii.gz"],
    }
    (source / "dataset.json").write_text(json.dumps(record))

    run(source, tmp_path / "out", ImportSource.MSD)
    run(source, tmp_path / "late", ImportSource.MSD, single_phase=Phase.DELAY)

    one, nine = (read_study(tmp_path / "out" / name) for name in ("liver_0", "liver_9"))
    assert isinstance(one, RegisteredStudy) and one.reference_phase is Phase.PVP
    assert one.tumor_mask.array.sum() == (LABELS == 2).sum() and nine.tumor is None
    assert read_study(tmp_path / "late" / "liver_9").reference_phase is Phase.DELAY


def test_a_decathlon_dataset_of_four_axes_is_refused_with_a_remedy(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": {"0": "T2", "1": "ADC"}, "labels": {}}))
    with pytest.raises(InputError, match=r"2 modalities.*four-dimensional.*--from table"):
        run(tmp_path, tmp_path / "out", ImportSource.MSD)


@pytest.mark.parametrize("kind", [ImportSource.NNUNET, ImportSource.MSD])
def test_a_folder_without_dataset_file_or_images_is_an_error(tmp_path, kind):
    with pytest.raises(InputError, match=r"no 'dataset\.json'"):
        run(tmp_path, tmp_path / "out", kind)
    labels = {"background": 0, "liver": 1}
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}, "labels": labels}))
    with pytest.raises(InputError, match="no images"):
        run(tmp_path, tmp_path / "out", kind)


def test_a_dicom_folder_of_two_patients_becomes_two_studies(tmp_path):
    source, out = tmp_path / "DICOM", tmp_path / "out"
    write_series(source, SeriesSpec(description="arterial", time="100000"))
    write_series(source, SeriesSpec(description="portal", time="100040", number=2, hu=body() + 1))
    write_series(
        source, SeriesSpec(patient="B", study_uid="1.2.3", time="110000", number=3, description="?"), prefix="B"
    )

    report = run(source, out, ImportSource.DICOM)

    (study,) = (read_study(out / name) for name in report.written)
    assert int(study.phases[Phase.PVP].array[0, 16, 16]) == 51 and set(study.phases) == {Phase.AP, Phase.PVP}
    assert "--phase 3=PVP" in str(next(iter(report.failed.values())))
    again = run(source, out, ImportSource.DICOM, phases={3: Phase.NC})
    assert again.skipped == report.written and len(again.written) == 1 and not again.failed


def test_a_dicom_examination_can_be_named(tmp_path):
    write_series(tmp_path / "in", SeriesSpec())
    report = run(tmp_path / "in", tmp_path / "out", ImportSource.DICOM, study_id="host 1")
    assert report.written == ("host 1",)
    write_series(tmp_path / "in", SeriesSpec(patient="B", study_uid="1.2.3"), prefix="B")
    with pytest.raises(InputError, match="2 examinations, but one study id"):
        run(tmp_path / "in", tmp_path / "out", ImportSource.DICOM, study_id="host 2")


def test_a_folder_of_dicom_files_is_not_replaced_by_what_is_made_of_them(tmp_path):
    files = tmp_path / "archive" / "hospital" / "host 1"
    write_series(files, SeriesSpec())
    before = {file: file.read_bytes() for file in files.iterdir()}
    with pytest.raises(InputError, match="holds something else, and is not replaced"):
        run(tmp_path / "archive", files.parent, ImportSource.DICOM, study_id="host 1", force=True)
    assert before == {file: file.read_bytes() for file in files.iterdir()}


def a_native_series(folder: Path, description: str) -> None:
    ct = an_abdomen(Phase.NC)
    spec = SeriesSpec(description=description, hu=ct.array, pixel_mm=(3.0, 3.0), origin_mm=ct.grid.origin_mm)
    write_series(folder, spec)


def test_the_image_decides_the_phase_of_a_dicom_series_whose_headers_are_silent(tmp_path):
    a_native_series(tmp_path / "in", "Abdomen")
    report = run(tmp_path / "in", tmp_path / "out", ImportSource.DICOM)
    assert tuple(read_study(tmp_path / "out" / report.written[0]).phases) == (Phase.NC,)
    assert any("aorta" in warning for warning in report.warnings)


def test_headers_that_contradict_the_image_are_not_believed_unless_the_user_says_so(tmp_path):
    a_native_series(tmp_path / "in", "arterial")
    with pytest.raises(InputError, match="contradict each other") as caught:
        run(tmp_path / "in", tmp_path / "out", ImportSource.DICOM)
    assert "--phase 1=" in str(caught.value.remedy)
    report = run(tmp_path / "in", tmp_path / "out", ImportSource.DICOM, phases={1: "AP"})
    assert tuple(read_study(tmp_path / "out" / report.written[0]).phases) == (Phase.AP,)
