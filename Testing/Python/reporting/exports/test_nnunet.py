"""An nnU-Net dataset holds what the studies hold, marks what is synthetic, and keeps patients on one side of a fold."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import SimpleITK as sitk

from Diff4MMLiTSLib.cli import run
from Diff4MMLiTSLib.core.config import ImportConfig
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.importers import ImportSource, import_studies
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study import (
    TUMOR_FREE,
    HistoryEntry,
    Mask,
    MaskSource,
    PhaseQA,
    RegisteredStudy,
    StageQA,
    Verdict,
    rejected_phases,
)
from Diff4MMLiTSLib.core.study_io import read_study, write_study
from Diff4MMLiTSLib.reporting.exports.nnunet import export_nnunet
from Diff4MMLiTSLib.training.datasets import check_usable

NAME = "Dataset501_LiverTumors"
FROM_PATIENT_1 = HistoryEntry("synthesize", "0.1.0", {"source_study": "patient 1 ü"})


def synthetic(study: RegisteredStudy, name: str) -> RegisteredStudy:
    tumor = Mask(study.tumor_mask.volume, MaskSource.SYNTHETIC)
    return replace(study, study_id=name, tumor=tumor, synthetic=True, history=(FROM_PATIENT_1,))


@pytest.fixture
def cohorts(a_study, tmp_path):
    """Two real patients, one of them free of tumor and without AP, and a synthetic study of the first."""
    one = replace(a_study, study_id="patient 1 ü")
    two = replace(a_study, study_id="patient 2", phases={Phase.PVP: a_study.reference}, tumor=TUMOR_FREE)
    write_study(one, tmp_path / "real" / "1")
    write_study(two, tmp_path / "real" / "2")
    write_study(synthetic(a_study, "pair"), tmp_path / "synthetic" / "pair")
    return [tmp_path / "real", tmp_path / "synthetic"]


def export(cohorts, out, **options):
    check = partial(check_usable, training=True)
    return export_nnunet(cohorts, out, **{"check": check, "progress": silent(), **options})


def test_channels_are_the_shared_phases_and_labels_are_liver_and_tumor(cohorts, a_study, tmp_path):
    assert export(cohorts, tmp_path / NAME) == (Phase.PVP,)
    record = json.loads((tmp_path / NAME / "dataset.json").read_text())
    assert (record["channel_names"], record["phases"]) == ({"0": "CT"}, {"0": "PVP"})
    assert (record["numTraining"], record["labels"]) == (3, {"background": 0, "liver": 1, "tumor": 2})
    assert len(list((tmp_path / NAME / "imagesTr").iterdir())) == 3
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / NAME / "labelsTr" / "patient 1 ü.nii.gz")))
    expected = np.where(a_study.tumor_mask.array, 2, a_study.liver.array)
    np.testing.assert_array_equal(labels, expected)
    free = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / NAME / "labelsTr" / "patient 2.nii.gz")))
    assert set(np.unique(free)) == {0, 1}


def test_synthetic_cases_have_the_prefix_and_the_mark_in_every_file(cohorts, tmp_path):
    export(cohorts, tmp_path / NAME)
    files = [path for path in (tmp_path / NAME).rglob("*.nii.gz")]
    marks = {path.name.startswith("SYNTHETIC_"): sitk.ReadImage(str(path)).GetMetaData("descrip") for path in files}
    assert marks[True] == "SYNTHETIC Diff4MMLiTS"
    assert "SYNTHETIC" not in marks[False]
    assert sorted(path.name for path in files if "pair" in path.name) == [
        "SYNTHETIC_pair.nii.gz",
        "SYNTHETIC_pair_0000.nii.gz",
    ]


def test_what_was_exported_is_imported_again(cohorts, a_study, tmp_path):
    export([cohorts[0] / "1", cohorts[1]], tmp_path / NAME)
    import_studies(
        tmp_path / NAME, tmp_path / "again", source=ImportSource.NNUNET, options=ImportConfig(), progress=silent()
    )
    real, made = (read_study(tmp_path / "again" / name) for name in ("patient 1 ü", "SYNTHETIC_pair"))
    assert (real.synthetic, made.synthetic) == (False, True)
    for phase in (Phase.AP, Phase.PVP):
        np.testing.assert_array_equal(real.phases[phase].array, a_study.phases[phase].array)
    np.testing.assert_array_equal(real.tumor_mask.array, a_study.tumor_mask.array)
    assert real.grid.same_as(a_study.grid)


def test_no_patient_is_on_both_sides_of_a_fold_and_only_real_ones_are_validated_on(cohorts, tmp_path):
    export(cohorts, tmp_path / NAME)
    folds = json.loads((tmp_path / NAME / "splits_final.json").read_text())
    assert sorted(name for fold in folds for name in fold["val"]) == ["patient 1 ü", "patient 2"]
    by_validation = {fold["val"][0]: fold["train"] for fold in folds}
    assert by_validation["patient 1 ü"] == ["patient 2"]
    assert by_validation["patient 2"] == ["SYNTHETIC_pair", "patient 1 ü"]


def test_a_study_that_lacks_a_wanted_phase_is_named_and_nothing_is_written(cohorts, tmp_path):
    with pytest.raises(InputError, match=r"1 of 3 studies lack a phase.*\n  patient 2: no AP"):
        export(cohorts, tmp_path / NAME, phases=[Phase.PVP, Phase.AP])
    assert not (tmp_path / NAME).exists()


def test_a_phase_that_registration_rejected_counts_as_missing(a_study, tmp_path):
    found = {Phase.AP: PhaseQA(Verdict.REJECT, ("far off",))}
    study = replace(a_study, qa={"register": StageQA(Verdict.REJECT, 1.0, phases=found)})
    assert rejected_phases(study) == {Phase.AP}
    write_study(study, tmp_path / "real" / "1")
    assert export([tmp_path / "real"], tmp_path / NAME) == (Phase.PVP,)
    with pytest.raises(InputError, match="no AP"):
        export([tmp_path / "real"], tmp_path / "Dataset502_x", phases=[Phase.AP])


def test_a_pair_that_its_own_check_rejected_is_left_out(cohorts, a_study, tmp_path, caplog):
    bad = replace(synthetic(a_study, "bad"), qa={"synthesize": StageQA(Verdict.REJECT, 1.0, ("noise",))})
    write_study(bad, tmp_path / "synthetic" / "bad")
    export(cohorts, tmp_path / NAME)
    assert not list((tmp_path / NAME).rglob("*bad*"))
    assert "bad is left out" in caplog.text


def test_masks_of_a_model_are_refused_unless_asked_for(a_study, tmp_path, capsys):
    masks = {
        name: Mask(mask.volume, MaskSource.MODEL)
        for name, mask in (("liver", a_study.liver), ("tumor", a_study.tumor_mask))
    }
    write_study(replace(a_study, study_id="seen", **masks), tmp_path / "real" / "seen")
    arguments = ["export", "nnunet", str(tmp_path / "real"), str(tmp_path / NAME), "--progress", "json"]
    assert run(arguments) == 2
    assert "mask drawn by a model" in capsys.readouterr().out
    assert not (tmp_path / NAME).exists()
    assert run([*arguments, "--allow-model-masks", "--phases", "AP"]) == 0


@pytest.mark.parametrize("name", ["nnunet", "Dataset1_x", "Dataset501"])
def test_a_folder_that_nnunet_would_not_find_is_refused(cohorts, tmp_path, name):
    with pytest.raises(InputError, match="DatasetNNN_Name"):
        export(cohorts, tmp_path / name)


def test_an_existing_dataset_is_kept_and_a_failure_leaves_nothing(cohorts, a_study, tmp_path):
    export(cohorts, tmp_path / NAME)
    with pytest.raises(InputError, match="exists already"):
        export(cohorts, tmp_path / NAME)
    write_study(replace(a_study, study_id="zz", tumor=None), tmp_path / "real" / "zz")
    with pytest.raises(InputError, match="'zz' has no tumor mask"):
        export(cohorts, tmp_path / "Dataset502_x")
    assert not [path.name for path in tmp_path.iterdir() if "502" in path.name]


def test_a_real_study_with_the_name_of_a_synthetic_one_is_refused(a_study, tmp_path):
    write_study(replace(a_study, study_id="SYNTHETIC_x"), tmp_path / "real" / "x")
    with pytest.raises(InputError, match="name of a synthetic one"):
        export([tmp_path / "real"], tmp_path / NAME)
