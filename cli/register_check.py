"""``tamga cert check`` and ``tamga ca check``: do all the books tell the same?"""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import asdict
from itertools import islice

import click

from cli.context import Context, command_options

NEGATIVE = 1


@click.command()
@click.option("--all", "expired", is_flag=True, help="Expired certificates, too.")
@click.option("--sample", type=click.IntRange(min=0), help="Lint and ask about only so many, drawn at random.")
@click.option("--all-differences", is_flag=True, help="Go on after the first difference.")
@command_options
def check(context: Context, expired: bool, sample: int | None, all_differences: bool) -> None:
    """Lint every stored certificate again and compare register, intents, audit log, CRLs and status answers.

    Status 1 at the first difference, which is named.
    """
    from app.adapters.status_answers import HouseAnswers
    from ca.check import Counted, Extent

    services, counted = context.services, Counted()
    answers, extent = HouseAnswers(services.ocsp.responder), Extent(expired=expired, sample=sample)
    # What is not read to its end lets go of the database here, not whenever memory is tidied.
    with closing(services.ca.check.differences(answers, extent, counted)) as found:
        differences = list(found if all_differences else islice(found, 1))
    lines = [f"{each.kind} {each.subject}: {each.detail}" for each in differences]
    looked = (
        f"{counted.entries} log entries, {counted.certificates} certificates, {counted.linted} linted, "
        f"{counted.asked} status answers, {counted.crl_entries} CRL entries"
    )
    lines.append(f"looked at {looked}" if differences else f"no difference: {looked}")
    context.emit({"differences": [asdict(each) for each in differences], **asdict(counted)}, "\n".join(lines))
    if differences:
        sys.exit(NEGATIVE)
