"""Settings: frozen dataclasses filled from one TOML file and ``TAMGA_…`` variables; unknown keys stop the start."""

from __future__ import annotations

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from core.errors import CodedError

T = TypeVar("T")

ENVIRONMENT_PREFIX = "TAMGA_"
# Variables of ours that choose a file or a behaviour of the tools and are no settings.
NOT_SETTINGS = frozenset({"TAMGA_CONFIG", "TAMGA_OFFICER_KEY", "TAMGA_REQUIRE_ALL"})


class ConfigurationError(CodedError):
    """A setting is unknown, missing or of the wrong form."""

    code = "configuration"
    status = 500
    exit_code = 2


def load(settings: type[T], path: Path | None, environ: Mapping[str, str]) -> T:
    """Fill ``settings`` from the TOML file at ``path``, then from variables such as ``TAMGA_SSO__SESSION_IDLE``.

    A table of the file is a nested dataclass; in a variable its name and the key stand apart by two underscores.
    Relative paths are taken from the file's own folder. Raises ConfigurationError naming the first bad key.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8")) if path else {}
    except FileNotFoundError as error:
        raise ConfigurationError(f"no configuration file at {path}") from error
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not readable as TOML: {error}") from error
    for name, text in environ.items():
        if name.startswith(ENVIRONMENT_PREFIX) and name not in NOT_SETTINGS:
            _place(document, name, text)
    base = path.resolve().parent if path else Path.cwd()
    return _build(settings, document, base, "")


def _place(document: dict[str, Any], variable: str, text: str) -> None:
    *tables, key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
    for table in tables:
        document = document.setdefault(table, {})
        if not isinstance(document, dict):
            raise ConfigurationError(f"{variable} names a table, but {table} is a single value")
    document[key] = text


def _build(settings: type[T], document: Mapping[str, Any], base: Path, where: str) -> T:
    hints = typing.get_type_hints(settings)
    fields = {field.name: field for field in dataclasses.fields(settings)}  # type: ignore[arg-type]
    for key in document:
        if key not in fields:
            raise ConfigurationError(f"unknown setting {where}{key}")
    values = {
        name: _convert(hints[name], document[name], base, f"{where}{name}") for name in fields if name in document
    }
    for name, field in fields.items():
        if name in values:
            continue
        if dataclasses.is_dataclass(hints[name]) and isinstance(hints[name], type):
            values[name] = _build(hints[name], {}, base, f"{where}{name}.")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigurationError(f"setting {where}{name} is missing")
    try:
        return settings(**values)
    except ValueError as error:
        raise ConfigurationError(f"{where.rstrip('.') or 'settings'}: {error}") from error


def _convert(kind: Any, value: Any, base: Path, where: str) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"{where} must be a table")
        return _build(kind, value, base, f"{where}.")
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        wanted = [part for part in typing.get_args(kind) if part is not type(None)]
        # TOML knows no null; an empty string is how a variable says "none".
        if value == "" and len(wanted) < len(typing.get_args(kind)):
            return None
        return _convert(wanted[0], value, base, where)
    if origin is tuple:
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        if not isinstance(parts, list):
            raise ConfigurationError(f"{where} must be a list")
        return tuple(_convert(typing.get_args(kind)[0], part, base, where) for part in parts if part != "")
    if origin is typing.Literal:
        if value not in typing.get_args(kind):
            raise ConfigurationError(f"{where} must be one of {', '.join(map(str, typing.get_args(kind)))}")
        return value
    return _scalar(kind, value, base, where)


def _scalar(kind: Any, value: Any, base: Path, where: str) -> Any:
    if kind is Path and isinstance(value, str):
        if not value:
            raise ConfigurationError(f"{where} must not be empty")
        return base / Path(value).expanduser()
    if kind is bool and isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if kind in (int, float) and isinstance(value, str | int | float) and not isinstance(value, bool):
        return _number(kind, value, where)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ConfigurationError(f"{where} must be of type {kind.__name__}")


def _number(kind: Any, value: str | int | float, where: str) -> Any:
    if kind is int and isinstance(value, float):
        raise ConfigurationError(f"{where} must be a whole number")
    try:
        number = kind(value)
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(f"{where} must be a number") from error
    # A limit that is "not a number" compares as never reached.
    if not math.isfinite(number):
        raise ConfigurationError(f"{where} must be a finite number")
    return number
