"""Where working files lie: in folders of their own inside Slicer's temporary folder."""

from __future__ import annotations

from tempfile import TemporaryDirectory

import slicer


def work_folder() -> TemporaryDirectory[str]:
    """Make a folder that vanishes with the last thing that holds it, at the latest when the application ends."""
    application = getattr(slicer, "app", None)
    place = application.temporaryPath if application is not None else None
    return TemporaryDirectory(prefix="Diff4MMLiTS-", dir=place, ignore_cleanup_errors=True)
