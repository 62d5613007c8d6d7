"""Every command declares its roles, asks for exactly those, and the document says the same."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import click
import pytest

from ca.officers.roles import AUDITOR
from ca.officers.roles import ROLES as ALL_ROLES
from cli.context import FOUNDING, UNATTENDED
from cli.main import tamga
from cli.roles import ROLES
from tests.support.tree import ROOT

DOCUMENT = ROOT / "docs" / "officers.md"
# | `cert revoke` | ra-officer, security-officer |
ROW = re.compile(r"^\|\s*`([a-z -]+)`\s*\|\s*([a-z, -]+?)\s*\|$", re.MULTILINE)
ASKING = ("acting", "officer")


def commands(command: click.Command, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Each command that does something, with the words to type after ``tamga``."""
    if not isinstance(command, click.Group):
        yield path.strip(), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from commands(found, f"{path} {name}")


KNOWN = dict(commands(tamga))


def asked(command: click.Command) -> set[str]:
    """The roles that a command's function, and what it calls in its own file, ask the context for."""
    function = inspect.unwrap(command.callback)  # type: ignore[arg-type]
    module = importlib.import_module(function.__module__)
    return set(_roles(function, module, set()))


def _roles(function: Callable[..., Any], module: ModuleType, seen: set[str]) -> Iterator[str]:
    seen.add(function.__name__)
    for node in ast.walk(ast.parse(inspect.getsource(function).lstrip())):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Attribute) and called.attr in ASKING and _is_context(called.value):
            yield from _values(node.args, module)
        elif isinstance(called, ast.Name) and called.id not in seen:
            local = getattr(module, called.id, None)
            if inspect.isfunction(local) and local.__module__ == module.__name__:
                yield from _roles(local, module, seen)


def _is_context(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "context"


def _values(arguments: list[ast.expr], module: ModuleType) -> Iterator[str]:
    for argument in arguments:
        expression = argument.value if isinstance(argument, ast.Starred) else argument
        value = eval(compile(ast.Expression(expression), "roles", "eval"), vars(module))  # noqa: S307 - our own source
        yield from value if isinstance(argument, ast.Starred) else [value]


def test_every_command_declares_who_may_run_it() -> None:
    assert sorted(KNOWN.keys() - ROLES.keys()) == []
    assert sorted(ROLES.keys() - KNOWN.keys()) == []
    assert {role for roles in ROLES.values() for role in roles} <= {*ALL_ROLES, UNATTENDED, FOUNDING}


def test_no_command_that_acts_is_for_auditors() -> None:
    assert [path for path, roles in ROLES.items() if AUDITOR in roles] == []


@pytest.mark.parametrize("path", sorted(ROLES))
def test_a_command_asks_for_the_roles_it_declares(path: str) -> None:
    declared = set(ROLES[path])
    # What only the machine's owner runs asks nobody.
    assert asked(KNOWN[path]) == (set() if declared == {UNATTENDED} else declared)


def test_the_document_has_the_same_matrix() -> None:
    written = {path: frozenset(roles.split(", ")) for path, roles in ROW.findall(DOCUMENT.read_text())}
    acting = {path: frozenset(roles) for path, roles in ROLES.items() if roles}
    assert sorted(written.items() ^ acting.items(), key=str) == []
