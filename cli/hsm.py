"""``tamga hsm``: the token, its keys, and whether it does what is asked of it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import click

from cli.context import Context, command_options

if TYPE_CHECKING:
    from hsm.keystore import KeyInformation, Keystore
    from hsm.self_test import Report

NEGATIVE = 1


@click.group()
def hsm() -> None:
    """The token that holds the keys."""


@hsm.command()
@command_options
def status(context: Context) -> None:
    """Log in, and check that no key can leave the token. Status 3 when one could, 6 when the token is away."""
    with contextlib.closing(_keystore(context)) as keystore:
        broker = _broker_metrics(keystore)
        found = keystore.status()
        keystore.check()
    text = (
        f"{found.label} ({found.model}, serial {found.serial}) in {found.module} {found.library_version}: "
        f"{found.keys} keys, none can leave the token"
    )
    if found.unfinished:
        text += f"; {found.unfinished} unfinished, unused"
    if broker is not None:
        text += "\n" + _broker_text(broker)
    context.emit({**asdict(found), "keys_locked_in": True, "broker": broker}, text)


@hsm.command()
@command_options
def keys(context: Context) -> None:
    """List the keys, with what the token says about each."""
    columns = ("label", "purpose", "algorithm", "key_id", "locked_in")
    with contextlib.closing(_keystore(context)) as keystore:
        listed = keystore.keys()
    context.emit_lines([_row(found) for found in listed], columns)


@hsm.command()
@click.option("--rate-seconds", type=click.FloatRange(0, 60), default=1.0, show_default=True)
@command_options
def test(context: Context, rate_seconds: float) -> None:
    """Ask the token for everything Tamga needs, and how fast it is. Leaves nothing in it.

    Status 1 when something required fails, 6 when the token does not open.
    """
    from hsm.self_test import examine

    report = examine(context.settings.hsm, rate_seconds=rate_seconds)
    context.emit({"passed": report.passed, **asdict(report)}, "\n".join(_lines(report)))
    if not report.passed:
        sys.exit(NEGATIVE)


@hsm.command()
@command_options
def broker(context: Context) -> None:
    """Own the token for everybody else on this machine, until stopped (SIGTERM or SIGINT).

    Status 2 without hsm.broker in the settings, 5 when another broker has the token, 3 when a key could leave it
    (only logged on a development instance).
    """
    from core import logs
    from hsm.broker.supervisor import Supervisor

    settings = context.settings
    logs.configure(settings.floor.log_level)
    Supervisor(settings.hsm, strict=not settings.development).run()


def _keystore(context: Context) -> Keystore:
    """Only the token: custody can be looked at when the database is away."""
    from hsm.keystore import open_keystore

    return open_keystore(context.settings.hsm)


def _lines(report: Report) -> Iterator[str]:
    """The report as a person reads it: what failed stands out, and says whether that matters."""
    token = report.token
    yield f"{token.label} ({token.model}, serial {token.serial}) in {token.module} {token.library_version}"
    for group, asked in groupby(sorted(report.probes, key=attrgetter("group")), attrgetter("group")):
        yield f"\n{group}"
        for probe in asked:
            mark = "ok" if probe.passed else "FAIL" if probe.need == "required" else "lacks"
            yield f"  {mark:5}  {probe.name:20}  {probe.detail}"
    yield "\none caller, a second"
    for rate in report.rates:
        yield f"  {rate.name:27}  {'not possible' if rate.per_second is None else f'{rate.per_second:.0f}'}"
    failed = [probe.name for probe in report.probes if not probe.passed and probe.need == "required"]
    yield "\nnot fit for use: " + ", ".join(failed) if failed else "\nfit for use: nothing required failed"


def _broker_metrics(keystore: Keystore) -> dict[str, Any] | None:
    from hsm.client import BrokerKeystore

    return keystore.metrics() if isinstance(keystore, BrokerKeystore) else None


def _broker_text(told: dict[str, Any]) -> str:
    done = sum(row["count"] for row in told["requests"] if row["outcome"] == "done")
    other = sum(row["count"] for row in told["requests"]) - done
    text = (
        f"broker {told['process']} is {told['state']}: {len(told['workers'])} workers, "
        f"{sum(told['restarts'].values())} replaced; {done} requests done, {other} refused or failed, "
        f"{told['queue']} waiting (at most {told['queue_peak']})"
    )
    if told["quarantined"]:
        text += f"; in quarantine: {', '.join(told['quarantined'])}"
    return text


def _row(found: KeyInformation) -> dict[str, Any]:
    attributes = {**asdict(found.attributes), "locked_in": found.attributes.locked_in}
    return {
        "label": found.label,
        "purpose": found.purpose.value if found.purpose else None,
        "algorithm": found.algorithm.value if found.algorithm else None,
        "key_id": found.key_id,
        **attributes,
    }
