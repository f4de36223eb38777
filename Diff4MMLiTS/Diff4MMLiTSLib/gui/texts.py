"""Texts that a user reads, in the user's language where Slicer has a translation of them."""

from __future__ import annotations

from collections.abc import Callable

try:
    from slicer.i18n import tr
except ImportError:  # Slicer's scene without its application has no translations

    def tr(text: str) -> str:
        return text


_: Callable[[str], str] = tr
"""Slicer's translation; it looks at the file that calls it, so nothing may stand between."""

__all__ = ["_", "duration"]


def duration(seconds: float) -> str:
    """Return a time span as people say it."""
    if seconds < 60:
        return _("{seconds} s").format(seconds=max(1, round(seconds)))
    return _("{minutes} min {seconds} s").format(minutes=int(seconds // 60), seconds=round(seconds % 60))
