"""``tamga profile``: certificate profiles, and the approval that a new version needs."""

from __future__ import annotations

import click

from ca.officers.roles import CA_ADMINISTRATOR, SECURITY_OFFICER
from cli.context import Context, command_options


@click.group()
def profile() -> None:
    """Certificate profiles."""


@profile.command(name="list")
@command_options
def list_profiles(context: Context) -> None:
    """List the profiles of this release: version, digest, whether approved and whether used."""
    rows = [
        {
            "name": each.profile.name,
            "version": each.profile.version,
            "issuer": each.profile.issuer,
            "approved": each.approved,
            "used": each.used,
            "digest": each.profile.digest,
        }
        for each in context.authority.approved_profiles.standing()
    ]
    context.emit_lines(rows, ("name", "version", "issuer", "approved", "used", "digest"))


@profile.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@command_options
def propose(context: Context, names: tuple[str, ...]) -> None:
    """Ask for profiles to be approved as they are in this release. Their first certificates use the approvals up.

    Status 4 when there is no such profile.
    """
    from ca.registration import known_profile

    chosen = [known_profile(name).name for name in names]
    actor = context.acting(CA_ADMINISTRATOR, SECURITY_OFFICER)
    profiles = context.authority.approved_profiles
    rows = [{"name": name, "request": profiles.propose(name, actor=actor)} for name in chosen]
    context.emit_lines(rows, ("name", "request"))
