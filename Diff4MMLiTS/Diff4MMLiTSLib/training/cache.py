"""Arrays that are made once: kept in a folder under the hash of everything they were made from.

Several processes may read and write the same cache: an entry appears whole or not at all, and whoever comes second uses
what is there. Arrays come back mapped into memory: the processes of a machine share one copy, and what is never looked
at is never read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from ..core.files import new_folder

log = logging.getLogger(__name__)

FORMAT = 1
"""Counts up when what is kept, or how it is made, changes."""
RECORD_FILE = "record.json"
ENTRY_PATTERN = "[0-9a-f]" * 64

Arrays = Mapping[str, NDArray[np.generic]]
Json = dict[str, Any]  # Any: plain JSON, of whoever keeps it


@dataclass(frozen=True, eq=False)
class Entry:
    """What the cache keeps under one key.

    Args:
        record: Plain JSON.
        arrays: By name; read-only.
    """

    record: Json
    arrays: Arrays


def cached(folder: Path, key: Mapping[str, object], make: Callable[[], Entry]) -> Entry:
    """Return what was kept under a key; make and keep it where nothing is.

    Args:
        folder: Of the cache.
        key: Everything that the entry depends on, as JSON: hashes of files, settings.
        make: Makes the entry.

    Raises:
        InputError: The folder cannot be written, or the disk is full.
    """
    place = _place(folder, key)
    found = _read(place)
    if found is not None:
        return found
    made = make()
    found = _read(place)
    if found is not None:  # another process was faster
        return found
    _remove(place)  # a damaged one
    try:
        with new_folder(place) as partial:
            for name, array in made.arrays.items():
                np.save(partial / f"{name}.npy", array, allow_pickle=False)
            text = json.dumps({"record": made.record, "arrays": list(made.arrays)})
            (partial / RECORD_FILE).write_text(text, encoding="utf-8")
    except InputError:
        if not place.exists():  # otherwise another process was faster after all
            raise
    return _read(place) or made


def cache_bytes(folder: Path) -> tuple[int, int]:
    """Return how many entries a cache has and their size."""
    entries = list(folder.glob(ENTRY_PATTERN))
    return len(entries), sum(file.stat().st_size for entry in entries for file in entry.iterdir())


def clear_cache(folder: Path) -> None:
    """Remove all entries; nothing else in the folder is touched."""
    for entry in folder.glob(ENTRY_PATTERN):
        _remove(entry)
    for remainder in folder.glob(f".{'[0-9a-f]' * 40}.partial-*"):  # of processes that were killed
        shutil.rmtree(remainder, ignore_errors=True)


def _place(folder: Path, key: Mapping[str, object]) -> Path:
    text = json.dumps({"format": FORMAT, **key}, sort_keys=True)
    return folder / hashlib.sha256(text.encode()).hexdigest()


def _read(place: Path) -> Entry | None:
    """Return an entry, or None where there is none or a damaged one."""
    try:
        content = json.loads((place / RECORD_FILE).read_text(encoding="utf-8"))
        names = content["arrays"]
        arrays = {name: np.asarray(np.load(place / f"{name}.npy", mmap_mode="r")) for name in names}
        return Entry(content["record"], arrays)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError):
        log.warning("An entry of the cache is damaged and is made again")
        return None


def _remove(place: Path) -> None:
    """Take an entry away at once, so that nobody finds half of it."""
    removed = place.with_name(f".{place.name[:40]}.partial-{token_hex(4)}")
    try:
        place.rename(removed)
    except (FileNotFoundError, NotADirectoryError):
        return
    shutil.rmtree(removed, ignore_errors=True)
