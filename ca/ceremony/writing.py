"""Ceremony files as text: TOML written from tables, so that a plan can be drafted and read back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_TABLES = ("organisation", "addresses", "quorum", "custodian", "authority", "cross", "credential", "key", "request",
           "acceptance", "crl", "destroy")  # fmt: skip


def ceremony_file(document: Mapping[str, Any], *, comment: str = "") -> str:
    """A ceremony file of this content; ``comment`` stands at its top."""
    lines = [f"# {line}" for line in comment.splitlines()]
    lines += [f"{name} = {_value(value)}" for name, value in document.items() if name not in _TABLES]
    for table in _TABLES:
        content = document.get(table)
        if isinstance(content, Mapping):
            lines += ["", f"[{table}]", *_rows(content)]
        for row in content if isinstance(content, Sequence) else ():
            lines += ["", f"[[{table}]]", *_rows(row)]
    return "\n".join(lines) + "\n"


def _rows(table: Mapping[str, Any]) -> Iterator[str]:
    for name, value in table.items():
        yield f"{name} = {_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_value(each)}" for name, each in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    if "\n" in str(value) and "'''" not in str(value) and '"' not in str(value):
        return f"'''\n{str(value).rstrip()}\n'''"
    # A basic string of TOML escapes as JSON does, but for characters beyond ASCII, which both take as they are.
    return json.dumps(str(value), ensure_ascii=False)
