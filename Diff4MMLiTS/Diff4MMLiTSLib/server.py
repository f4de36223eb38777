"""A warm worker: the model stays loaded and the study at hand, one request a line comes in, answers go out.

A request is ``{"request": 7, "study": PATH, "segmentation": PATH, "out": PATH, "clicks": [{"point_mm": [x, y, z],
"positive": true}]}`` with points in LPS; docs/segmentation.md describes the answers.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from .core.errors import CanceledError, InputError, explain
from .core.files import FilesState, files_state
from .core.progress import Progress, ProgressStyle, ProgressWriter
from .core.study import RegisteredStudy, Segmentation, without_rejected
from .core.study_io import read_registered, read_segmentation, write_segmentation
from .stages.segmentation import MultimodalSegmenter
from .stages.segmentation_clicks import Click, apply_clicks, check_learned

POLL_S = 0.2
"""How soon a request to stop is heard while no request comes in."""
EXAMPLE = (
    '{"request": 1, "study": PATH, "segmentation": PATH, "out": PATH, '
    '"clicks": [{"point_mm": [x, y, z], "positive": true}]}'
)


@dataclass(frozen=True)
class Request:
    """What a client asks for.

    Args:
        study: Folder of the registered study.
        segmentation: Folder of what is to be corrected.
        clicks: In the order in which they were made.
        out: New folder for the result.
    """

    study: Path
    segmentation: Path
    clicks: tuple[Click, ...]
    out: Path


def serve(segmenter: MultimodalSegmenter, requests: TextIO, answers: TextIO, *, progress: Progress) -> None:
    """Answer requests, one a line, until there are no more; an error of one request does not end the server.

    Args:
        segmenter: A model that has learned from clicks.
        requests: Lines of JSON.
        answers: Gets lines of JSON: ready, progress, result, error.
        progress: Says whether the user asked to stop.

    Raises:
        MissingError: The model has not learned from clicks.
        CanceledError: The user asked to stop.
    """
    check_learned(segmenter)
    desk = _Desk(segmenter)
    ProgressWriter(ProgressStyle.JSON, answers).ready()
    for line in _lines(requests, progress):
        number = _number_of(line)
        writer = ProgressWriter(ProgressStyle.JSON, answers, context={"request": number})
        try:
            request = parse_request(line)
            desk.answer(request, Progress(writer.report, progress.is_canceled, stage="click"))
            writer.result(str(request.out))
        except CanceledError:
            raise
        except Exception as error:  # the next request may be a better one
            writer.error(explain(error))


def parse_request(line: str) -> Request:
    """Read a request.

    Raises:
        InputError: It is not one.
    """
    try:
        fields = json.loads(line)
        study, segmentation, out = (Path(_text(fields[name])) for name in ("study", "segmentation", "out"))
        clicks = tuple(_click(entry) for entry in fields["clicks"])
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"The request cannot be read ({type(error).__name__}: {error})", expected=EXAMPLE) from None
    return Request(study, segmentation, clicks, out)


class _Desk:
    """What stays at hand between requests: the last study, and the last result."""

    def __init__(self, segmenter: MultimodalSegmenter) -> None:
        self._segmenter = segmenter
        self._study: tuple[Path, FilesState, RegisteredStudy] | None = None
        self._result: tuple[Path, FilesState, Segmentation] | None = None

    def answer(self, request: Request, progress: Progress) -> None:
        progress.update(0.0, "reading")
        study = self._read_study(request.study)
        segmentation = self._read_segmentation(request.segmentation)
        part = progress.part(0.3, 0.9)
        result = apply_clicks(self._segmenter, study, segmentation, request.clicks, progress=part)
        use = self._segmenter.card.intended_use
        write_segmentation(result, request.out, synthetic=study.synthetic, intended_use=use)
        self._result = (request.out.resolve(), files_state(request.out), result)
        progress.update(1.0, "written")

    def _read_study(self, folder: Path) -> RegisteredStudy:
        state = (folder.resolve(), files_state(folder))
        if self._study is None or self._study[:2] != state:
            self._study = None  # one study at a time in memory
            self._study = (*state, without_rejected(read_registered(folder, masks=False)))
        return self._study[2]

    def _read_segmentation(self, folder: Path) -> Segmentation:
        if self._result is not None and self._result[:2] == (folder.resolve(), files_state(folder)):
            return self._result[2]
        return read_segmentation(folder)


def _lines(stream: TextIO, progress: Progress) -> Iterator[str]:
    """Yield lines as they come; a thread waits for them, so that a request to stop is heard meanwhile."""
    waiting: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        try:
            for line in stream:
                waiting.put(line)
        finally:  # whatever ended it, the server must not wait for more
            waiting.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = waiting.get(timeout=POLL_S)
        except queue.Empty:
            progress.check()
            continue
        progress.check()  # a request to stop that came with the end of the stream counts
        if line is None:
            return
        if line.strip():
            yield line


def _number_of(line: str) -> object:
    try:
        return json.loads(line).get("request")
    except (ValueError, AttributeError):
        return None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a path")
    return value


def _click(entry: dict[str, Any]) -> Click:  # Any: JSON, checked here
    x, y, z = (float(value) for value in entry["point_mm"])
    if not isinstance(entry["positive"], bool):
        raise TypeError("positive is true or false")
    return Click((x, y, z), entry["positive"])
