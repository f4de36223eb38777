"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from .errors import InputError

FilesState = tuple[tuple[str, int, int, int], ...]
"""Name, place, size and time of each file."""
REFUSALS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.EISDIR,
    errno.ENAMETOOLONG,
)
"""What the system says of a place that cannot be written; a broken disk is another matter."""


@contextmanager
def new_folder(folder: Path, *, force: bool = False, known_by: str = "") -> Iterator[Path]:
    """Make a folder that gets its name only when it is complete.

    Args:
        folder: The final name; parents are made.
        force: Replace an existing folder, after the new one is complete.
        known_by: File by which a folder of this kind is known; one that has other content only is never replaced.

    Yields:
        A temporary folder beside the final one, to write into. It vanishes when anything fails.

    Raises:
        InputError: The folder exists and ``force`` is not given or may not be replaced, there is no permission, or the
            disk is full.
    """
    if folder.exists() and not force:
        raise exists_error(folder)
    if folder.is_dir() and not (folder / known_by).exists() and any(folder.iterdir()):
        raise InputError(
            f"'{folder.name}' holds something else, and is not replaced",
            expected=f"a new name, or a folder with a '{known_by}'",
            remedy="Choose another output",
        )
    with explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = _made_beside(folder, "partial")
        try:
            yield partial
            _take_place(partial, folder, force=force)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


@contextmanager
def new_file(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Make a file that gets its name only when it is complete.

    Args:
        path: The final name; parents are made.
        force: Replace an existing file.

    Yields:
        A temporary path beside the final one, with the same suffix, to write to.

    Raises:
        InputError: The file exists and ``force`` is not given, there is no permission, or the disk is full.
    """
    if path.exists() and not force:
        raise exists_error(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(prefix=".partial-", dir=path.parent))
        try:
            yield holder / path.name
            (holder / path.name).replace(path)
        finally:
            shutil.rmtree(holder, ignore_errors=True)


def exists_error(path: Path) -> InputError:
    """Return the error for an output that is already there."""
    return InputError(
        f"'{path.name}' exists already",
        expected="a new name",
        remedy="Choose another output, or give --force to replace it",
    )


def files_state(folder: Path) -> FilesState:
    """Return what changes when a file of a folder is written anew; empty for a folder that is not there."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    stats = [(file.name, file.stat()) for file in files]
    return tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def free_bytes(path: Path) -> int:
    """Return the free space of the disk on which a file or folder lies, or would lie."""
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say in words why the system refuses to write a file or folder.

    Raises:
        InputError: No permission, a name that cannot be used, or a full disk.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"The disk is full: '{path.name}' could not be written",
                remedy="Free space or choose another output; nothing half-written was left",
            ) from None
        if error.errno in REFUSALS:
            raise InputError(
                f"'{path.name}' cannot be written: {error.strerror}",
                remedy="Choose an output folder that you may write to",
            ) from None
        raise


def _take_place(partial: Path, folder: Path, *, force: bool) -> None:
    if not folder.exists():
        partial.rename(folder)
        return
    if not force:
        raise exists_error(folder)
    holder = _made_beside(folder, "replaced")
    old = holder / folder.name
    try:
        folder.rename(old)
        partial.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    finally:
        if folder.exists():
            shutil.rmtree(holder, ignore_errors=True)


def _made_beside(folder: Path, purpose: str) -> Path:
    """Make a hidden folder beside another one, with the permissions that the user gives to new folders."""
    made = folder.with_name(f".{folder.name[:40]}.{purpose}-{token_hex(4)}")
    made.mkdir()
    return made
