"""What all configurations have in common, and how TOML files and ``--set`` change them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import InputError


class Settings(BaseModel):
    """Base of all configurations: frozen, and strict about unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


SettingsT = TypeVar("SettingsT", bound=Settings)


def load_config(
    kind: type[SettingsT],
    file: Path | None = None,
    assignments: Sequence[str] = (),
) -> SettingsT:
    """Build a configuration from its defaults, a TOML file and ``key=value`` assignments, in this order.

    Args:
        kind: The configuration class.
        file: TOML file whose keys are those of ``kind``; None for the defaults.
        assignments: For example ``["final_grid_mm=30", "optimizer.learning_rate=1e-4"]``; values are TOML, or text.

    Raises:
        InputError: Unreadable file, unknown key, or a value of the wrong type or range.
    """
    values = _read_toml(file) if file else {}
    for assignment in assignments:
        _assign(values, assignment)
    return build_config(kind, values)


def build_config(kind: type[SettingsT], values: Mapping[str, Any]) -> SettingsT:  # Any: checked here
    """Build a configuration from plain values.

    Raises:
        InputError: Unknown key, or a value of the wrong type or range.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            owner = _owner(kind, first["loc"][:-1])
            raise InputError(
                f"Unknown setting '{key}'", expected="one of " + ", ".join(sorted(owner.model_fields))
            ) from None
        raise InputError(f"Setting '{key}' has the value {first['input']!r}", expected=first["msg"]) from None


def _read_toml(file: Path) -> dict[str, Any]:  # Any: checked by build_config
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no configuration file '{file.name}'", remedy="Check the path") from None
    except OSError as error:
        raise InputError(f"'{file.name}' cannot be read: {error.strerror}", expected="a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"'{file.name}' cannot be read as TOML: {error}", expected="a TOML file") from None


def _assign(values: dict[str, Any], assignment: str) -> None:  # Any: checked by build_config
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise InputError(f"The assignment '{assignment}'", expected="key=value, for example spacing_mm=2.0")
    *parents, last = key.strip().split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise InputError(f"The setting '{parent}' of '{assignment}' is a value", expected="a group of settings")
    try:
        values[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        values[last] = text


def _owner(kind: type[Settings], path: tuple[int | str, ...]) -> type[Settings]:
    for name in path:
        field = kind.model_fields.get(str(name))
        inner = field.annotation if field else None
        if isinstance(inner, type) and issubclass(inner, Settings):
            kind = inner
    return kind
