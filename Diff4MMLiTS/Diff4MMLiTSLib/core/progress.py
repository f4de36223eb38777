"""How far a long job is, how long it will still take, and whether the user asked it to stop."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TextIO

from .errors import CanceledError, Diff4MMLiTSError

BAR_WIDTH = 28
JSON_INTERVAL_S = 0.1


class ProgressStyle(StrEnum):
    """How progress is shown: ``auto`` is a bar on a terminal and nothing elsewhere."""

    AUTO = "auto"
    BAR = "bar"
    JSON = "json"
    NONE = "none"


@dataclass(frozen=True)
class Progress:
    """A piece of a job's time line; parts of it can be handed to the steps of the job.

    Args:
        report: Called with the fraction of the whole job (0 to 1), the stage and a message.
        is_canceled: Says whether the user asked to stop.
        stage: Name of the command or stage.
        begin: Fraction of the whole job at which this piece begins.
        end: Fraction at which it ends.
    """

    report: Callable[[float, str, str], None]
    is_canceled: Callable[[], bool]
    stage: str = ""
    begin: float = 0.0
    end: float = 1.0

    def update(self, fraction: float, message: str = "") -> None:
        """Say that ``fraction`` (0 to 1) of this piece is done.

        Raises:
            CanceledError: The user asked to stop.
        """
        self.check()
        self.show(fraction, message)

    def show(self, fraction: float, message: str = "") -> None:
        """Say that ``fraction`` of this piece is done, for a job that looks by itself whether to stop."""
        inside = min(1.0, max(0.0, fraction))
        self.report(self.begin + inside * (self.end - self.begin), self.stage, message)

    def check(self) -> None:
        """Stop here when the user asked to.

        Raises:
            CanceledError: The user asked to stop.
        """
        if self.is_canceled():
            raise CanceledError

    def part(self, begin: float, end: float, stage: str = "") -> Progress:
        """Return the piece between two fractions of this piece, for one step of the job."""
        span = self.end - self.begin
        return Progress(
            self.report, self.is_canceled, stage or self.stage, self.begin + begin * span, self.begin + end * span
        )


def silent() -> Progress:
    """Return a progress that nobody watches and nobody cancels."""
    return Progress(lambda _fraction, _stage, _message: None, lambda: False)


class ProgressWriter:
    """Writes progress, result and error of one command to a stream.

    Args:
        style: Bar, JSON lines, or nothing.
        stream: Where to write; standard output by default.
        context: What every JSON line says besides, for example which request it belongs to.
    """

    def __init__(
        self, style: ProgressStyle, stream: TextIO | None = None, *, context: Mapping[str, object] | None = None
    ) -> None:
        self._stream = stream or sys.stdout
        if style is ProgressStyle.AUTO:
            style = ProgressStyle.BAR if self._stream.isatty() else ProgressStyle.NONE
        self._style = style
        self._context = dict(context or {})
        self._started = time.monotonic()
        self._last_json = (-1.0, "")
        self._bar_shown = False

    def report(self, fraction: float, stage: str, message: str) -> None:
        """Show one step of progress; matches ``Progress.report``."""
        if self._style is ProgressStyle.JSON:
            now = time.monotonic()
            if now - self._last_json[0] < JSON_INTERVAL_S and message == self._last_json[1] and fraction < 1:
                return
            self._last_json = (now, message)
            left = self._seconds_left(fraction)
            self._line(event="progress", stage=stage, fraction=round(fraction, 4), message=message, seconds_left=left)
        elif self._style is ProgressStyle.BAR:
            self._bar(fraction, stage, message)

    def ready(self) -> None:
        """Say that a server takes requests now."""
        if self._style is ProgressStyle.JSON:
            self._line(event="ready")

    def result(self, path: str) -> None:
        """Say where the result lies."""
        if self._style is ProgressStyle.JSON:
            self._line(event="result", path=path)
        else:
            self._end_bar()
            print(self._showable(path), file=self._stream)

    def error(self, error: Diff4MMLiTSError) -> None:
        """Say what went wrong: a JSON line, or a sentence on standard error."""
        if self._style is ProgressStyle.JSON:
            hint = error.remedy or error.expected
            self._line(event="error", code=error.code, message=str(error), hint=hint)
        else:
            self._end_bar()
            print(f"error: {error}", file=sys.stderr)

    def _line(self, event: str, **fields: object) -> None:
        print(
            json.dumps({"event": event, **self._context, **fields}), file=self._stream, flush=True
        )  # ASCII: pipes of Windows are not UTF-8

    def _showable(self, text: str) -> str:
        """Return a text with escapes for what the stream cannot show."""
        encoding = self._stream.encoding or "utf-8"
        return text.encode(encoding, "backslashreplace").decode(encoding)

    def _seconds_left(self, fraction: float) -> int | None:
        if fraction < 0.01:
            return None
        return round((time.monotonic() - self._started) * (1 - fraction) / fraction)

    def _bar(self, fraction: float, stage: str, message: str) -> None:
        filled = round(fraction * BAR_WIDTH)
        left = self._seconds_left(fraction)
        clock = f"{left // 60:d}:{left % 60:02d} left" if left is not None else ""
        text = f"{stage:<12} [{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {fraction:4.0%} {clock:>11}  {message[:50]}"
        print(f"\r\x1b[K{self._showable(text)}", end="", file=self._stream, flush=True)
        self._bar_shown = True

    def _end_bar(self) -> None:
        if self._bar_shown:
            print(file=self._stream)
            self._bar_shown = False
