"""Pairs are known by their content, find their source by its content, and are exported without harm to either."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study_io import read_study
from Diff4MMLiTSLib.gui import pairs as pairs_module
from Diff4MMLiTSLib.gui.pairs import OwnCheck, export_pairs, find_source, own_check, pairs_in
from gui.pair_factory import add_pairs


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return add_pairs(tmp_path_factory.mktemp("made"), 3).parent


@pytest.fixture
def cohort(made, tmp_path):
    shutil.copytree(made, tmp_path / "Kohorte ü")
    return tmp_path / "Kohorte ü" / "pairs"


def keys(cohort):
    return {pair.study_id: pair.key for pair in pairs_in(cohort, silent())}


def test_moving_renaming_and_copying_keep_the_keys(cohort, tmp_path):
    before = keys(cohort)
    shutil.copytree(cohort, tmp_path / "copy")
    first = next((tmp_path / "copy").glob("*_synthetic-0001"))
    first.rename(first.with_name("renamed"))
    assert keys(tmp_path / "copy") == before
    assert len(set(before.values())) == 3


def test_a_changed_mask_is_another_pair(cohort):
    before = keys(cohort)
    file = cohort / "study-1_synthetic-0002" / "tumor.nrrd"
    image = sitk.ReadImage(str(file))
    image[0, 0, 0] = 1
    sitk.WriteImage(image, str(file))
    after = keys(cohort)
    assert {name for name in before if before[name] != after[name]} == {"study-1_synthetic-0002"}


def test_files_are_read_once_while_they_do_not_change(cohort, monkeypatch):
    before, read = keys(cohort), []
    real = pairs_module.file_hash
    monkeypatch.setattr(pairs_module, "file_hash", lambda path: (read.append(path), real(path))[1])
    assert keys(cohort) == before
    assert read == []
    os.utime(cohort / "study-1_synthetic-0001" / "AP.nrrd", (1, 1))
    assert keys(cohort) == before
    assert [path.name for path in read] == ["AP.nrrd"]


def test_a_damaged_memory_of_hashes_does_no_harm(cohort):
    before = keys(cohort)
    (cohort / pairs_module.HASH_FILE).write_text("[1", encoding="utf-8")
    assert keys(cohort) == before


def test_what_the_synthesis_said_is_told(cohort):
    check = pairs_in(cohort, silent())[1].check
    assert (check.verdict, check.reasons) == ("review", ("a seam is seen",))
    assert check.words() == "1.0 ml; contrast in HU: AP -38, PVP -38"


def test_what_the_inpainting_said_counts_as_much(cohort):
    folder = cohort / "study-1_synthetic-0001"
    checks = json.loads((folder / "qa.json").read_text("utf-8"))
    checks["inpaint"] = {**checks["synthesize"], "verdict": "review", "reasons": ["a step at the border"]}
    (folder / "qa.json").write_text(json.dumps(checks), "utf-8")
    check = own_check(folder)
    assert (check.verdict, check.reasons) == ("review", ("a step at the border",))
    assert own_check(cohort) == OwnCheck()
    assert not OwnCheck().words()


def test_a_cohort_without_synthetic_studies_is_refused(cohort):
    with pytest.raises(InputError, match="holds no synthetic study"):
        pairs_in(cohort.parent / "normal", silent())


def test_the_source_is_found_beside_the_cohort_and_where_one_points(cohort, tmp_path):
    pair = pairs_in(cohort, silent())[0]
    assert find_source(pair) == cohort.parent / "normal" / "study-1"
    (cohort.parent / "normal").rename(tmp_path / "elsewhere")
    assert find_source(pair) is None
    assert find_source(pair, [tmp_path / "elsewhere"]) == tmp_path / "elsewhere" / "study-1"


def test_the_source_of_many_pairs_is_read_once_while_it_does_not_change(cohort, monkeypatch):
    pairs, read = pairs_in(cohort, silent()), []
    real = pairs_module.file_hash
    monkeypatch.setattr(pairs_module, "file_hash", lambda path: (read.append(path), real(path))[1])
    assert len({find_source(pair) for pair in pairs}) == 1
    assert len(read) == 1
    os.utime(cohort.parent / "normal" / "study-1" / "AP.nrrd", (1, 1))
    find_source(pairs[0])
    assert len(read) == 2


def test_a_study_of_the_same_name_with_other_content_is_not_the_source(cohort):
    pair = pairs_in(cohort, silent())[0]
    file = cohort.parent / "normal" / "study-1" / "AP.nrrd"
    image = sitk.ReadImage(str(file))
    sitk.WriteImage(image + 1, str(file))
    assert find_source(pair) is None


def test_a_history_cannot_point_out_of_the_folder(cohort):
    file = cohort / "study-1_synthetic-0001" / "study.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    record["history"][0]["config"]["source_study"] = "../../secret"
    file.write_text(json.dumps(record), encoding="utf-8")
    assert pairs_in(cohort, silent())[0].source_id == ""


def test_accepted_pairs_become_a_cohort_that_says_it_is_not_anonymous(cohort, tmp_path):
    chosen = pairs_in(cohort, silent())[::2]
    out = export_pairs(chosen, tmp_path / "accepted", silent())
    assert [folder.name for folder in sorted(out.glob("*/"))] == [pair.folder.name for pair in chosen]
    study = read_study(out / chosen[0].folder.name)
    original = read_study(chosen[0].folder)
    assert study.synthetic
    assert np.array_equal(study.reference.array, original.reference.array)
    assert "not anonymous" in (out / "README.txt").read_text(encoding="utf-8")


def test_an_export_never_overwrites(cohort, tmp_path):
    (tmp_path / "accepted").mkdir()
    with pytest.raises(InputError, match="exists already"):
        export_pairs(pairs_in(cohort, silent()), tmp_path / "accepted", silent())


def test_where_files_cannot_be_linked_they_are_copied(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("another disk")))
    out = export_pairs(pairs_in(cohort, silent()), tmp_path / "accepted", silent())
    assert len(pairs_in(out, silent())) == 3
    assert (out / "study-1_synthetic-0001" / "AP.nrrd").stat().st_nlink == 1
