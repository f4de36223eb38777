from __future__ import annotations

import multiprocessing
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from Diff4MMLiTSLib.cli import run
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.training.cache import Entry, cache_bytes, cached

KEY = {"inputs": ["a", "b"], "spacing_mm": 1.5}


def an_entry() -> Entry:
    return Entry({"name": "one ü"}, {"image": np.arange(1000, dtype=np.float32), "flags": np.array([True, False])})


def never() -> Entry:
    raise AssertionError("it was made again")


def test_what_was_made_once_comes_back_and_is_mapped_rather_than_read(tmp_path: Path) -> None:
    cached(tmp_path, KEY, an_entry)
    again = cached(tmp_path, KEY, never)
    assert again.record == {"name": "one ü"}
    assert np.array_equal(again.arrays["image"], an_entry().arrays["image"])
    assert again.arrays["flags"].dtype == np.bool_
    assert not again.arrays["image"].flags.writeable
    assert isinstance(again.arrays["image"].base, np.memmap)


def test_another_key_is_another_entry(tmp_path: Path) -> None:
    cached(tmp_path, KEY, an_entry)
    cached(tmp_path, {**KEY, "spacing_mm": 2.0}, an_entry)
    assert cache_bytes(tmp_path)[0] == 2


def test_the_order_of_a_key_does_not_matter(tmp_path: Path) -> None:
    cached(tmp_path, KEY, an_entry)
    assert cached(tmp_path, dict(reversed(KEY.items())), never).record == {"name": "one ü"}


@pytest.mark.parametrize("file", ["image.npy", "record.json"])
def test_a_damaged_entry_is_made_again(tmp_path: Path, file: str) -> None:
    cached(tmp_path, KEY, an_entry)
    (damaged,) = tmp_path.glob(f"*/{file}")
    damaged.write_bytes(damaged.read_bytes()[:-7])
    assert np.array_equal(cached(tmp_path, KEY, an_entry).arrays["image"], an_entry().arrays["image"])
    cached(tmp_path, KEY, never)


def test_an_entry_that_another_process_made_meanwhile_is_used(tmp_path: Path) -> None:
    def slow() -> Entry:
        cached(tmp_path, KEY, lambda: Entry({"name": "the other's"}, {}))
        return an_entry()

    assert cached(tmp_path, KEY, slow).record == {"name": "the other's"}
    assert len(list(tmp_path.iterdir())) == 1  # nothing half-written stays


def a_number(number: int) -> Entry:
    return Entry({}, {"image": np.full(5000, number)})


def make_many(folder: Path) -> None:
    for number in range(30):
        found = cached(folder, {"number": number}, partial(a_number, number))
        assert (found.arrays["image"] == number).all()


def test_processes_that_write_the_same_entries_do_not_disturb_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=make_many, args=(tmp_path,)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0, 0]
    assert cache_bytes(tmp_path)[0] == len(list(tmp_path.iterdir())) == 30


def test_the_cache_is_shown_and_cleared_and_nothing_else_is_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cached(tmp_path, KEY, an_entry)
    (tmp_path / "mine").mkdir()
    assert run(["cache", str(tmp_path)]) == 0
    assert "1 prepared studies" in capsys.readouterr().out
    assert run(["cache", str(tmp_path), "--clear"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        cached(tmp_path / "file", KEY, an_entry)
