"""Every setting is in docs/configuration.md with its default, every command and option in docs/cli.md."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator
from typing import Any

import click

from app.settings import Settings
from cli.main import tamga
from tests.support.tree import ROOT

CONFIGURATION = ROOT / "docs" / "configuration.md"
COMMANDS = ROOT / "docs" / "cli.md"
# | `sso.session_idle` | seconds | `900` | … |
SETTING = re.compile(r"^\|\s*`([a-z0-9_.]+)`\s*\|[^|]*\|\s*(`[^`]*`|required)\s*\|", re.MULTILINE)
# ### `tamga cert list`
HEADING = re.compile(r"^### `(tamga[a-z -]*)`\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"--[a-z][a-z-]*")
# Every command has these; they are told once, above the commands.
SHARED = frozenset({"--json", "--help"})


def settings(kind: type[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each key with its default as it is written in the table."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from settings(hints[field.name], f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", written(field)


def written(field: dataclasses.Field[Any]) -> str:
    """A default in TOML; an empty pair of backquotes would be no code, so nothing is written as `none`."""
    value = field.default
    if value is dataclasses.MISSING:
        return "required"
    if value is None:
        return "`none`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Each command that does something, with the words to type."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from commands(found, f"{path} {name}")


def options(command: click.Command) -> set[str]:
    """The long names of a command's options."""
    names = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return {name for name in names if name.startswith("--")} - SHARED


def test_every_setting_is_documented_with_its_default() -> None:
    table = dict(SETTING.findall(CONFIGURATION.read_text()))
    known = dict(settings(Settings))
    assert sorted(known.items() - table.items()) == []
    assert sorted(table.keys() - known.keys()) == []


def test_every_command_is_documented_with_its_options() -> None:
    text = COMMANDS.read_text()
    sections = dict(HEADING.findall(text))
    known = dict(commands(tamga, "tamga"))
    assert sorted(known.keys() - sections.keys()) == []
    assert sorted(sections.keys() - known.keys()) == []
    missing = {f"{path} {name}" for path, found in known.items() for name in options(found) - _named(sections[path])}
    extra = {f"{path} {name}" for path, found in known.items() for name in _tabled(sections[path]) - options(found)}
    assert sorted(missing) == []
    assert sorted(extra) == []


def test_the_options_of_every_command_are_documented() -> None:
    above = COMMANDS.read_text().partition("### `tamga")[0]
    assert sorted((options(tamga) | SHARED) - _named(above)) == []


def _named(section: str) -> set[str]:
    return set(OPTION.findall(section))


def _tabled(section: str) -> set[str]:
    """Options that open a row of a table: a name there must exist."""
    rows = re.findall(r"^\|([^|]*)\|", section, re.MULTILINE)
    return {name for row in rows for name in OPTION.findall(row)} - SHARED
