"""Files and folders appear whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.files import files_state, free_bytes, new_file, new_folder


def test_a_folder_has_its_name_only_when_it_is_complete(tmp_path):
    with new_folder(tmp_path / "a" / "b") as partial:
        (partial / "x").write_text("1")
        assert not (tmp_path / "a" / "b").exists()
    assert (tmp_path / "a" / "b" / "x").read_text() == "1"
    assert len(list((tmp_path / "a").iterdir())) == 1


def test_a_replaced_folder_stays_until_the_new_one_is_complete(tmp_path):
    with new_folder(tmp_path / "f") as partial:
        (partial / "old").touch()
    with pytest.raises(KeyError), new_folder(tmp_path / "f", force=True):
        raise KeyError("failure")
    assert (tmp_path / "f" / "old").exists()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_is_not_overwritten_without_force(tmp_path):
    (tmp_path / "f.txt").write_text("old")
    with pytest.raises(InputError, match="--force"), new_file(tmp_path / "f.txt"):
        pass
    with new_file(tmp_path / "f.txt", force=True) as partial:
        partial.write_text("new")
    assert (tmp_path / "f.txt").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EACCES, "cannot be written"), (errno.EROFS, "cannot be")],
)
def test_the_systems_refusals_are_explained(tmp_path, number, words):
    with pytest.raises(InputError, match=words), new_folder(tmp_path / "f"):
        raise OSError(number, "no")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_is_refused_in_words(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"), new_folder(tmp_path / "file" / "f"):
        pass


@pytest.mark.parametrize("failure", [PermissionError(errno.EACCES, "in use"), KeyboardInterrupt()])
def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch, failure):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "old").touch()
    rename = Path.rename

    def refuse(path, target):
        if ".partial-" in path.name:
            raise failure
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises((InputError, KeyboardInterrupt)), new_folder(tmp_path / "f", force=True):
        pass
    assert (tmp_path / "f" / "old").exists()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("number", [errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.EISDIR])
def test_a_name_that_cannot_be_used_is_refused_in_words(tmp_path, number):
    with pytest.raises(InputError, match="cannot be written"), new_folder(tmp_path / "f"):
        raise OSError(number, "no")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_a_new_folder_is_as_private_as_the_user_asked_for(tmp_path):
    before = os.umask(0o077)
    try:
        with new_folder(tmp_path / "f"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o077 == 0


def test_the_state_of_a_folder_changes_when_a_file_is_written_anew(tmp_path):
    assert files_state(tmp_path / "absent") == ()
    for content in ("one", "two"):
        before = files_state(tmp_path)
        with new_file(tmp_path / "model.json", force=True) as partial:
            partial.write_text(content)
        assert files_state(tmp_path) != before
    assert files_state(tmp_path) == files_state(tmp_path)


def test_the_free_space_of_a_folder_is_told_before_it_is_made(tmp_path):
    assert free_bytes(tmp_path / "not" / "there yet") == pytest.approx(free_bytes(tmp_path), rel=0.2)


def test_a_folder_of_another_kind_is_not_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.docx").write_text("years", encoding="utf-8")
    with (
        pytest.raises(InputError, match="holds something else"),
        new_folder(tmp_path / "out", force=True, known_by="a"),
    ):
        pytest.fail("nothing is made for it")
    assert [file.name for file in tmp_path.rglob("*.docx")] == ["thesis.docx"]
    (tmp_path / "out" / "a").touch()
    with new_folder(tmp_path / "out", force=True, known_by="a") as partial:
        (partial / "a").touch()
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["a"]
