"""``tamga hsm``: the token, its keys, and whether it does what is asked of it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from cli.context import Context, command_options

if TYPE_CHECKING:
    from hsm.keystore import KeyInformation, Keystore

NEGATIVE = 1


@click.group()
def hsm() -> None:
    """The token that holds the keys."""


@hsm.command()
@command_options
def status(context: Context) -> None:
    """Log in, and check that no key can leave the token. Status 3 when one could, 6 when the token is away."""
    keystore = _keystore(context)
    found = keystore.status()
    keystore.check()
    text = (
        f"{found.label} ({found.model}, serial {found.serial}) in {found.module} {found.library_version}: "
        f"{found.keys} keys, none can leave the token"
    )
    if found.unfinished:
        text += f"; {found.unfinished} unfinished, unused"
    context.emit({**asdict(found), "keys_locked_in": True}, text)


@hsm.command()
@command_options
def keys(context: Context) -> None:
    """List the keys, with what the token says about each."""
    columns = ("label", "purpose", "algorithm", "key_id", "locked_in")
    listed = _keystore(context).keys()
    context.emit_lines([_row(found) for found in listed], columns)


@hsm.command()
@command_options
def test(context: Context) -> None:
    """Ask the token for every mechanism, with keys it forgets at once. Status 1 when one fails."""
    from hsm.self_test import probe

    probes = probe(_keystore(context))
    passed = all(each.passed for each in probes)
    lines = "\n".join(f"{'ok  ' if each.passed else 'FAIL'}  {each.name}: {each.detail}" for each in probes)
    context.emit({"passed": passed, "probes": [asdict(each) for each in probes]}, lines)
    if not passed:
        sys.exit(NEGATIVE)


def _keystore(context: Context) -> Keystore:
    """Only the token: custody can be looked at when the database is away."""
    from hsm.keystore import open_keystore

    return open_keystore(context.settings.hsm)


def _row(found: KeyInformation) -> dict[str, Any]:
    attributes = {**asdict(found.attributes), "locked_in": found.attributes.locked_in}
    return {
        "label": found.label,
        "purpose": found.purpose.value if found.purpose else None,
        "algorithm": found.algorithm.value if found.algorithm else None,
        "key_id": found.key_id,
        **attributes,
    }
