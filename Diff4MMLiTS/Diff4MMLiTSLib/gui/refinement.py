"""Changing the tumors of a result: probability threshold, clicks answered by the warm worker, undo and redo."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..core.errors import InputError
from ..core.files import new_folder
from ..core.lesions import TOUCHING
from ..core.metrics import bounding_box
from ..core.study_io import FORMAT, PROBABILITY_FILE, STUDY_FILE
from ..core.study_records import Json, read_record, write_record
from .crossing import read_image, to_lps, write_image
from .job import Reply, Worker
from .scene import SceneClosedError, SegmentationResult, read_values
from .segments import (
    LIVER_ID,
    Tumors,
    largest_first,
    mask_of,
    set_liver,
    set_tumors,
    show_tumors,
    tumor_ids,
    world_to_node,
)
from .texts import _
from .world import Voxels, image_of

DEFAULT_THRESHOLD = 0.5
"""Where the engine draws the border."""
SUREST = 0.95
"""No tumor has to be more probable than that, or than the threshold."""
LONGEST_HISTORY = 50
"""Changes that can be taken back; a mask of 512 x 512 x 300 takes about 100 kB of memory."""
NOWHERE = (slice(0, 0),) * 3
Point = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class _State:
    """What can be gone back to.

    Args:
        tumor: The tumor mask, packed and compressed.
        liver: The liver mask, as ``tumor``.
        folder: The folder with the probability that belongs to it.
        threshold: Of the probability.
        added: Where the user said that there is a tumor, RAS mm.
    """

    tumor: bytes
    liver: bytes
    folder: Path
    threshold: float
    added: tuple[Point, ...]


class Refinement:
    """The tumors of one result while the user changes them; every change can be undone.

    Edits made meanwhile in the Segment Editor belong to the state that the next change starts from.

    Args:
        result: A segmentation with its probability.
        worker: The warm worker; None when only the threshold is used.
    """

    def __init__(self, result: SegmentationResult, worker: Worker | None = None) -> None:
        self._result = result
        self.worker = worker
        self._record: Json = read_record(result.folder / STUDY_FILE, newest=FORMAT)
        self._index_to_world = read_values(result.folder / str(self._record["tumor"]["file"]))[1]
        self._probability = _Probability.read(result.folder, self._record)
        self._folder = result.folder
        self._threshold = DEFAULT_THRESHOLD
        self._added: tuple[Point, ...] = ()
        self._undo: list[_State] = []
        self._redo: list[_State] = []
        self._before: _State | None = None
        self._count = 0
        self._written = {result.folder: _masks_in(result.folder, self._record)}

    @property
    def threshold(self) -> float:
        """Probability from which a voxel is tumor, 0 to 1."""
        return self._threshold

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to take back."""
        return bool(self._undo)

    @property
    def can_redo(self) -> bool:
        """Whether a change was taken back."""
        return bool(self._redo)

    def set_threshold(self, threshold: float, *, is_final: bool = True) -> None:
        """Show the tumors of another threshold; a drag of a slider is one undo step, its last call ``is_final``.

        In 3D they are seen after the last call: making surfaces takes longer than all the rest.

        Raises:
            InputError: The result has no probability.
            SceneClosedError: The segmentation is no longer in the scene.
        """
        self._check()
        if not (self._folder / PROBABILITY_FILE).is_file():
            raise InputError(_("This result has no probability"), expected=_("a segmentation that was made here"))
        if threshold == self._threshold and self._before is None:
            return
        before = self._before or self._state()
        self._before = None if is_final else before
        is_new, self._threshold = threshold != self._threshold, threshold
        if is_final and threshold == before.threshold:  # back where it began: with what was drawn by hand
            self._show_tumors(before.tumor)
        elif is_new or is_final:
            tumors = self._probability.tumors(threshold, self._voxels())
            show_tumors(self._result.node, tumors, self._index_to_node(), with_surface=is_final)
        if is_final and threshold != before.threshold:
            self._did(before)

    def click(self, point_ras_mm: Point, *, positive: bool) -> Reply:
        """Ask the worker to add the tumor at a point, or to take it away; the reply's result is this object's node.

        Raises:
            InputError: There is no worker, or the files for it cannot be written.
            SceneClosedError: The segmentation is no longer in the scene.
        """
        self._check()
        self._end_drag()
        if self.worker is None or self._result.study_folder is None:
            raise InputError(_("There is no worker for clicks"), expected=_("a result of a model of this computer"))
        before = self._state()
        self._count += 1
        place = self._result.folder.parent
        is_written = self._written[self._folder] == (before.liver, before.tumor)
        source = self._folder if is_written else self._write(place / f"click-{self._count}-in")
        request = {
            "study": str(self._result.study_folder),
            "segmentation": str(source),
            "clicks": [{"point_mm": to_lps(point_ras_mm), "positive": positive}],
            "out": str(place / f"click-{self._count}-out"),
        }

        def take(out: Path) -> Any:  # noqa: ANN401 (MRML is not typed)
            self._check()
            self._take(out)
            self._added = (*before.added, point_ras_mm) if positive else before.added
            self._did(before)
            return self._result.node

        return self.worker.request(request, on_result=take)

    def undo(self) -> None:
        """Take the last change back; harmless when there is none."""
        self._end_drag()
        self._go(self._undo, self._redo)

    def redo(self) -> None:
        """Make the change that was taken back again; harmless when there is none."""
        self._end_drag()
        self._go(self._redo, self._undo)

    def close(self) -> None:
        """Forget all states; the segmentation stays as it is."""
        self._undo, self._redo, self._before = [], [], None
        self._probability = _Probability.nothing()

    def _check(self) -> None:
        if self._result.node.GetScene() is None:
            raise SceneClosedError

    def _state(self) -> _State:
        return _State(
            tumor=_packed(self._mask(tumor_ids(self._result.node))),
            liver=_packed(self._mask((LIVER_ID,))),
            folder=self._folder,
            threshold=self._threshold,
            added=self._added,
        )

    def _did(self, before: _State) -> None:
        self._undo = [*self._undo, before][-LONGEST_HISTORY:]
        self._redo = []

    def _go(self, source: list[_State], target: list[_State]) -> None:
        if not source:
            return
        self._check()
        now, state = self._state(), source.pop()
        target.append(now)
        if state.liver != now.liver:  # its surface takes seconds
            self._show_liver(state.liver)
        self._show_tumors(state.tumor)
        if state.folder != self._folder:
            self._folder = state.folder
            self._probability = _Probability.read(state.folder, self._record)
        self._threshold, self._added = state.threshold, state.added

    def _take(self, out: Path) -> None:
        """Show what the worker made."""
        record = read_record(out / STUDY_FILE, newest=FORMAT)
        liver, tumor = self._written[out] = _masks_in(out, record)
        self._probability = _Probability.read(out, record)
        self._show_liver(liver)
        self._show_tumors(tumor)
        self._folder = out

    def _end_drag(self) -> None:
        """Make one undo step of what the slider did until now; what comes next is another."""
        if self._before is not None:
            self.set_threshold(self._threshold)

    def _show_liver(self, packed: bytes) -> None:
        set_liver(self._result.node, _unpacked(packed, self._probability.shape), self._index_to_node())

    def _show_tumors(self, packed: bytes) -> None:
        set_tumors(self._result.node, _unpacked(packed, self._probability.shape), self._index_to_node())

    def _write(self, folder: Path) -> Path:
        """Write the segmentation as it is now, edits included, for the worker."""
        record = self._record
        with new_folder(folder) as partial:
            for name, ids in (("liver", (LIVER_ID,)), ("tumor", tumor_ids(self._result.node))):
                file = str(record[name]["file"])
                mask = read_image(self._result.folder / file)
                mask.SetAndObserveImageData(image_of(self._mask(ids).astype(np.uint8)))
                write_image(mask, partial / file)
            shutil.copyfile(self._folder / PROBABILITY_FILE, partial / PROBABILITY_FILE)
            write_record(partial / STUDY_FILE, record)
        return folder

    def _mask(self, segment_ids: tuple[str, ...]) -> NDArray[np.bool_]:
        return mask_of(self._result.node, segment_ids, self._probability.shape, self._index_to_world)

    def _voxels(self) -> list[tuple[int, ...]]:
        """Return the voxels (z, y, x) where the user said that there is a tumor."""
        to_index = np.linalg.inv(self._index_to_world)
        points = np.array(self._added, dtype=np.float64).reshape(-1, 3)
        index = np.rint(points @ to_index[:3, :3].T + to_index[:3, 3]).astype(int)
        return [tuple(each) for each in index[:, ::-1].tolist()]

    def _index_to_node(self) -> NDArray[np.float64]:
        return world_to_node(self._result.node) @ self._index_to_world


@dataclass(frozen=True, eq=False)
class _Probability:
    """The tumor probability inside the liver.

    Args:
        shape: Of the whole grid, (Z, Y, X).
        box: Where it is above 0; empty when it is nowhere, or was not written.
        values: In the box, 0 to 255.
        least_voxels: Smaller components are no tumor, as in the engine.
        surplus: How far above the threshold a component's highest probability must lie, 0 to 0.5, as in the engine.
    """

    shape: tuple[int, ...]
    box: tuple[slice, ...]
    values: Voxels
    least_voxels: float
    surplus: float

    @classmethod
    def read(cls, folder: Path, record: Json) -> _Probability:
        liver, matrix = read_values(folder / str(record["liver"]["file"]))
        if not (folder / PROBABILITY_FILE).is_file():
            return cls(liver.shape, NOWHERE, liver[NOWHERE], 0.0, 0.0)
        values = read_values(folder / PROBABILITY_FILE)[0]
        inside = np.where(liver > 0, values, 0)
        voxel_ml = abs(float(np.linalg.det(matrix[:3, :3]))) / 1000.0
        box = bounding_box(inside > 0) or NOWHERE
        least_voxels = _engine_setting(record, "minimum_tumor_ml", 0.0) / voxel_ml
        surplus = max(0.0, _engine_setting(record, "sure_tumor", 0.0) - DEFAULT_THRESHOLD)
        return cls(liver.shape, box, inside[box], least_voxels, surplus)

    @classmethod
    def nothing(cls) -> _Probability:
        return cls((0, 0, 0), NOWHERE, np.zeros((0, 0, 0), np.uint8), 0.0, 0.0)

    def tumors(self, threshold: float, added: Sequence[tuple[int, ...]]) -> Tumors:
        """Return where the probability reaches a threshold above 0; what holds an added voxel always stays."""
        labels, count = ndimage.label(self.values >= max(threshold * 255, 1), structure=TOUCHING)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        is_kept = np.zeros(count + 1, dtype=bool)
        is_kept[labels[self.values >= 255 * min(threshold + self.surplus, max(threshold, SUREST))]] = True
        is_kept &= sizes >= self.least_voxels
        start = tuple(part.start for part in self.box)
        inside = [np.subtract(each, start) for each in added]
        is_kept[[labels[tuple(each)] for each in inside if _is_in(each, labels.shape)]] = True
        is_kept[0] = False
        return Tumors(labels, largest_first(sizes, is_kept), start)


def _masks_in(folder: Path, record: Json) -> tuple[bytes, bytes]:
    """Return liver and tumor as a folder holds them, packed."""
    liver, tumor = (read_values(folder / str(record[name]["file"]))[0] > 0 for name in ("liver", "tumor"))
    return _packed(liver), _packed(tumor)


def _engine_setting(record: Json, name: str, absent: float) -> float:
    """Return a setting that the engine segmented with, which its history tells."""
    for entry in reversed(record.get("history", [])):
        if entry.get("stage") == "segment":
            return float(entry.get("config", {}).get(name, absent))
    return absent


def _is_in(index: NDArray[np.int64], shape: tuple[int, ...]) -> bool:
    return bool(((index >= 0) & (index < np.array(shape))).all())


def _packed(mask: NDArray[np.bool_]) -> bytes:
    return zlib.compress(np.packbits(mask).tobytes(), 1)


def _unpacked(packed: bytes, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    bits = np.frombuffer(zlib.decompress(packed), dtype=np.uint8)
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)
