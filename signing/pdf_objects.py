"""PDF objects to write, over pyHanko, which is imported when the first one is made."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any


def name(text: str) -> Any:
    """A name, given with its slash."""
    return _generic().NameObject(text)


def number(value: float) -> Any:
    """An integer, or a real number with three decimals."""
    return _generic().NumberObject(value) if isinstance(value, int) else _generic().FloatObject(f"{value:.3f}")


def array(items: Iterable[Any]) -> Any:
    """An array of objects."""
    return _generic().ArrayObject(items)


def dictionary(entries: Mapping[str, Any]) -> Any:
    """A dictionary; keys are given with their slash."""
    return _generic().DictionaryObject({name(key): value for key, value in entries.items()})


def text(value: str) -> Any:
    """A text string."""
    return _generic().TextStringObject(value)


def octets(value: bytes) -> Any:
    """A byte string, written in hexadecimal."""
    return _generic().ByteStringObject(value)


def stream(data: bytes, *, deflated: bytes | None = None) -> Any:
    """A stream, deflated; ``deflated`` is its compressed form when that is at hand."""
    entries = {name("/Filter"): name("/FlateDecode")}
    return _generic().StreamObject(entries, encoded_data=deflated or zlib.compress(data, 9))


def plain_stream(data: bytes) -> Any:
    """A stream kept as it is, for what does not compress."""
    return _generic().StreamObject(stream_data=data)


def _generic() -> Any:
    from pyhanko.pdf_utils import generic

    return generic
