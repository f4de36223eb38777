"""Changing the tumors of a result: probability threshold, clicks answered by the warm worker, undo and redo."""

from __future__ import annotations

import shutil
import zlib
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
from .segments import LIVER_ID, mask_of, set_liver, set_tumors, tumor_ids, world_to_node
from .world import image_of

DEFAULT_THRESHOLD = 0.5
"""Where the engine draws the border."""
LONGEST_HISTORY = 50
"""Changes that can be taken back; a mask of 512 x 512 x 300 takes about 100 kB of memory."""
NEIGHBOR_MM = 50.0
"""Earlier clicks within this distance go with a new one: about what the network sees at once."""

Point = tuple[float, float, float]


@dataclass(frozen=True)
class _Click:
    point_ras_mm: Point
    positive: bool


@dataclass(frozen=True, eq=False)
class _State:
    """What can be gone back to.

    Args:
        tumor: The tumor mask, packed and compressed.
        liver: The liver mask, as ``tumor``.
        folder: The folder with the probability that belongs to it.
        threshold: Of the probability.
        clicks: All clicks so far.
    """

    tumor: bytes
    liver: bytes
    folder: Path
    threshold: float
    clicks: tuple[_Click, ...]


class Refinement:
    """The tumors of one result while the user changes them; every change can be undone.

    Edits made meanwhile in the Segment Editor belong to the state that the next change starts from.

    Args:
        result: A segmentation with its probability.
        worker: The warm worker; None when only the threshold is used.
    """

    def __init__(self, result: SegmentationResult, worker: Worker | None = None) -> None:
        self._result = result
        self._worker = worker
        self._record: Json = read_record(result.folder / STUDY_FILE, newest=FORMAT)
        _, self._index_to_world = read_values(result.folder / str(self._record["tumor"]["file"]))
        self._probability = _Probability.read(result.folder, self._record)
        self._folder = result.folder
        self._threshold = DEFAULT_THRESHOLD
        self._clicks: tuple[_Click, ...] = ()
        self._undo: list[_State] = []
        self._redo: list[_State] = []
        self._before: _State | None = None
        self._count = 0

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

        Raises:
            InputError: The result has no probability.
            SceneClosedError: The segmentation is no longer in the scene.
        """
        self._check()
        self._before = self._before or self._state()
        if threshold != self._threshold:
            self._threshold = threshold
            set_tumors(self._result.node, self._probability.tumor(threshold), self._index_to_node())
        if is_final:
            before, self._before = self._before, None
            if threshold != before.threshold:
                self._did(before)

    def click(self, point_ras_mm: Point, *, positive: bool) -> Reply:
        """Ask the worker to add the tumor at a point, or to take it away; the reply's result is this object's node.

        Raises:
            InputError: There is no worker, or the files for it cannot be written.
            SceneClosedError: The segmentation is no longer in the scene.
        """
        self._check()
        if self._worker is None or self._result.study_folder is None:
            raise InputError("There is no worker for clicks", expected="a result of a model of this computer")
        before, click = self._state(), _Click(point_ras_mm, positive)
        clicks = [each for each in self._clicks if _distance_mm(each, click) < NEIGHBOR_MM] + [click]
        self._count += 1
        place = self._result.folder.parent
        source = self._write(place / f"click-{self._count}-in")
        request = {
            "study": str(self._result.study_folder),
            "segmentation": str(source),
            "clicks": [{"point_mm": to_lps(each.point_ras_mm), "positive": each.positive} for each in clicks],
            "out": str(place / f"click-{self._count}-out"),
        }

        def take(out: Path) -> Any:  # noqa: ANN401 (MRML is not typed)
            self._check()
            self._take(out)
            self._clicks = (*before.clicks, click)
            self._did(before)
            shutil.rmtree(source, ignore_errors=True)
            return self._result.node

        return self._worker.request(request, on_result=take)

    def undo(self) -> None:
        """Take the last change back; harmless when there is none."""
        self._go(self._undo, self._redo)

    def redo(self) -> None:
        """Make the change that was taken back again; harmless when there is none."""
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
            clicks=self._clicks,
        )

    def _did(self, before: _State) -> None:
        self._undo = [*self._undo, before][-LONGEST_HISTORY:]
        self._redo = []

    def _go(self, source: list[_State], target: list[_State]) -> None:
        if not source:
            return
        self._check()
        target.append(self._state())
        state = source.pop()
        node, to_node, shape = self._result.node, self._index_to_node(), self._probability.shape
        set_liver(node, _unpacked(state.liver, shape), to_node)
        set_tumors(node, _unpacked(state.tumor, shape), to_node)
        if state.folder != self._folder:
            self._folder = state.folder
            self._probability = _Probability.read(state.folder, self._record)
        self._threshold, self._clicks = state.threshold, state.clicks

    def _take(self, out: Path) -> None:
        """Show what the worker made."""
        record = read_record(out / STUDY_FILE, newest=FORMAT)
        for name, show in (("liver", set_liver), ("tumor", set_tumors)):
            values, _ = read_values(out / str(record[name]["file"]))
            show(self._result.node, values > 0, self._index_to_node())
        self._folder, self._threshold = out, DEFAULT_THRESHOLD
        self._probability = _Probability.read(out, record)

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

    def _index_to_node(self) -> NDArray[np.float64]:
        return world_to_node(self._result.node) @ self._index_to_world


@dataclass(frozen=True, eq=False)
class _Probability:
    """The tumor probability inside the liver.

    Args:
        shape: Of the whole grid, (Z, Y, X).
        box: Where it is above 0; None when it is nowhere, or was not written.
        values: In the box, 0 to 255.
        least_voxels: Smaller components are no tumor, as in the engine.
    """

    shape: tuple[int, ...]
    box: tuple[slice, ...] | None
    values: NDArray[np.generic]
    least_voxels: float

    @classmethod
    def read(cls, folder: Path, record: Json) -> _Probability:
        liver, matrix = read_values(folder / str(record["liver"]["file"]))
        if not (folder / PROBABILITY_FILE).is_file():
            return cls(liver.shape, None, np.zeros(0, np.uint8), 0.0)
        values, _ = read_values(folder / PROBABILITY_FILE)
        inside = np.where(liver > 0, values, 0)
        voxel_ml = abs(float(np.linalg.det(matrix[:3, :3]))) / 1000.0
        box = bounding_box(inside > 0)
        return cls(liver.shape, box, inside[box] if box else inside[:0], _minimum_tumor_ml(record) / voxel_ml)

    @classmethod
    def nothing(cls) -> _Probability:
        return cls((0, 0, 0), None, np.zeros(0, np.uint8), 0.0)

    def tumor(self, threshold: float) -> NDArray[np.bool_]:
        """Return where the probability reaches a threshold above 0."""
        mask = np.zeros(self.shape, dtype=bool)
        if self.box is not None:
            labels, count = ndimage.label(self.values >= max(threshold * 255, 1), structure=TOUCHING)
            sizes = np.bincount(labels.ravel(), minlength=count + 1)
            is_kept = sizes >= self.least_voxels
            is_kept[0] = False
            mask[self.box] = is_kept[labels]
        return mask


def _minimum_tumor_ml(record: Json) -> float:
    """Return the smallest tumor that the engine kept, which its history tells."""
    history = record.get("history") or [{}]
    config = history[-1].get("config") if isinstance(history[-1], dict) else None
    found = config.get("minimum_tumor_ml") if isinstance(config, dict) else None
    return float(found) if isinstance(found, int | float) else 0.0


def _packed(mask: NDArray[np.bool_]) -> bytes:
    return zlib.compress(np.packbits(mask).tobytes(), 1)


def _unpacked(packed: bytes, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    bits = np.frombuffer(zlib.decompress(packed), dtype=np.uint8)
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)


def _distance_mm(first: _Click, second: _Click) -> float:
    return float(np.linalg.norm(np.subtract(first.point_ras_mm, second.point_ras_mm)))
