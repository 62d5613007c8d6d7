"""``tamga cert mass-revoke``: plan, show and carry out changes of status by the million."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.ca import stamp
from cli.certificate_lists import REASONS, filter_options
from cli.context import Context, command_options
from core.errors import UsageError

if TYPE_CHECKING:
    from ca.mass_revocation import Plan, Report
    from ca.register import Filters
    from ca.selection import NumberList

PARTLY_DONE = 7
# Who may plan it and carry it out; others approve.
ACTING = ("ra-officer", "security-officer", "ca-administrator")


@click.command("mass-revoke")
@filter_options
@click.option("--all", "everything", is_flag=True, help="Every certificate, in so many words.")
@click.option("--keys", type=click.Choice(["roca", "weak", "blocked"]), help="By what is wrong with the key.")
@click.option("--serials", type=click.Path(path_type=Path, dir_okay=False), help="A file of serial numbers.")
@click.option("--public-keys", type=click.Path(path_type=Path, dir_okay=False), help="A file of SHA-256 of keys.")
@click.option("--of-plan", metavar="PLAN", help="What an earlier plan changed, and nobody since.")
@click.option("--action", type=click.Choice(["revoke", "suspend", "resume"]), default="revoke", show_default=True)
@click.option("--reason", type=click.Choice(["unspecified", *REASONS]), default="unspecified", show_default=True)
@click.option("--plan", "plan_id", metavar="PLAN", help="A plan that was made: show it, or carry it out.")
@click.option("--resume", metavar="PLAN", help="Go on with a plan that was interrupted.")
@click.option("--batches", type=click.IntRange(min=1), help="Stop after so many batches; go on with --resume.")
@click.option("--execute", is_flag=True, help="Carry the plan out; without it nothing is changed.")
@command_options
def mass_revoke(
    context: Context,
    filters: Filters,
    everything: bool,
    keys: str | None,
    serials: Path | None,
    public_keys: Path | None,
    of_plan: str | None,
    action: str,
    reason: str,
    plan_id: str | None,
    resume: str | None,
    batches: int | None,
    execute: bool,
) -> None:
    """Revoke, suspend or resume every certificate that fits, by a plan that officers approve.

    Options that select make a plan and show it. Status 3 while the approval is missing, 4 when nothing fits, 5 when the
    plan was carried out, 7 when it was interrupted: go on with --resume.
    """
    from ca.register import Filters
    from ca.revocation import REASON_NAMES
    from ca.selection import Action, KeyProperty, Selector

    mass, actor = context.services.ca.mass_revocation, context.acting(*ACTING)
    selecting = filters != Filters() or any((everything, keys, serials, public_keys, of_plan))
    named = resume or plan_id
    if bool(named) == selecting:
        raise UsageError("either select certificates, or name a plan")
    if named is None:
        selector = Selector(
            filters=filters,
            keys=KeyProperty(keys) if keys else None,
            serials=_numbers(serials, "of_serials"),
            public_keys=_numbers(public_keys, "of_digests"),
            of_plan=of_plan,
            everything=everything,
        )
        plan = mass.plan(selector, Action(action), actor=actor, reason=REASON_NAMES.get(reason))
    else:
        plan = mass.get(named)
    if not (execute or resume):
        context.emit({**_plan_row(plan), "executed": False}, "\n".join([*_plan_lines(plan), _next_step(plan)]))
        return
    _carry_out(context, plan, actor, batches)


def _carry_out(context: Context, plan: Plan, actor: str, batches: int | None) -> None:
    from ca.errors import MassRevocationUnfinished

    mass = context.services.ca.mass_revocation

    def progress(done: int, of: int) -> None:
        if done == of or done % 10 == 0:
            context.progress(f"batch {done} of {of}")

    try:
        report = mass.execute(plan.id, actor=actor, batches=batches, progress=progress)
    except MassRevocationUnfinished as unfinished:
        _interrupted(context, plan, unfinished.detail)
    except KeyboardInterrupt:
        _interrupted(context, plan, f"interrupted; go on with --resume {plan.id}")
    else:
        context.emit({**_report_row(report), "resume": None}, "\n".join(_report_lines(report)))


def _interrupted(context: Context, plan: Plan, detail: str) -> None:
    row = {**_report_row(context.services.ca.mass_revocation.report(plan.id)), "resume": plan.id, "detail": detail}
    context.emit(row, detail)
    sys.exit(PARTLY_DONE)


def _numbers(path: Path | None, reader: str) -> NumberList | None:
    from ca.selection import NumberList

    if path is None:
        return None
    try:
        with path.open(encoding="utf-8") as lines:
            made: NumberList = getattr(NumberList, reader)(lines)
            return made
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read") from error


def _plan_row(plan: Plan) -> dict[str, Any]:
    reason = plan.reason.wire_name if plan.reason else None
    return {**asdict(plan), "action": str(plan.action), "reason": reason, "planned_at": stamp(plan.planned_at)}


def _plan_lines(plan: Plan) -> list[str]:
    reason = f", reason {plan.reason.wire_name}" if plan.reason else ""
    lines = [f"plan {plan.id} ({plan.state}): {plan.action} {plan.certificates} certificates{reason}"]
    lines += [f"selection: {', '.join(f'{name} {value}' for name, value in plan.selector.items())}"]
    for what, counts in (("issuer", plan.by_issuer), ("profile", plan.by_profile), ("now", plan.by_state)):
        lines += [f"  {what} {name}: {count}" for name, count in sorted(counts.items())]
    lines += [f"affected: {', '.join(plan.services)}", f"estimate: {plan.estimated_seconds} s, {plan.batches} batches"]
    return [*lines, f"digest: {plan.digest}"]


def _next_step(plan: Plan) -> str:
    approval = f"; approval {plan.approval}" if plan.approval else ""
    return f"nothing was done{approval}; tamga cert mass-revoke --plan {plan.id} --execute"


def _report_row(report: Report) -> dict[str, Any]:
    row = asdict(report)
    return {**row, "crls": [{**each, "number": each["number"] and str(each["number"])} for each in row["crls"]]}


def _report_lines(report: Report) -> list[str]:
    lines = [f"plan {report.id} is {report.state}: {report.changed} changed, {report.passed_over} passed over"]
    lines += [f"  CRL of {each.issuer}: {each.entries} entries, {each.seconds:.1f} s" for each in report.crls]
    phases = ("plan", "approval", "change", "crl")
    return [*lines, "seconds: " + ", ".join(f"{name} {getattr(report, f'{name}_seconds'):.1f}" for name in phases)]
