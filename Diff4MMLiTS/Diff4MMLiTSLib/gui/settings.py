"""The module's own entries in the settings of the application; outside the application there are none."""

from __future__ import annotations

from typing import Any

PREFIX = "Diff4MMLiTS/"


def read_setting(name: str) -> str:
    """Return a setting as text; empty when it was never written."""
    settings = _settings()
    value = settings.value(PREFIX + name) if settings is not None else None
    return "" if value is None else str(value)


def write_setting(name: str, value: str) -> None:
    """Store a setting; an empty text removes it.

    Raises:
        RuntimeError: There is no application that keeps settings.
    """
    settings = _settings()
    if settings is None:
        raise RuntimeError("Settings are kept by the Slicer application, which does not run here")
    if value:
        settings.setValue(PREFIX + name, value)
    else:
        settings.remove(PREFIX + name)


def _settings() -> Any:  # noqa: ANN401 (QSettings: Qt is not typed)
    try:
        import slicer
    except ImportError:
        return None
    application = getattr(slicer, "app", None)
    return application.userSettings() if application is not None else None
