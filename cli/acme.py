"""``tamga acme``: what agencies' and banks' machines may order, and who of them has an account."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from cli.ca import stamp
from cli.context import Context, command_options
from core.errors import UsageError

if TYPE_CHECKING:
    from ca.acme.accounts import Account
    from ca.acme.external_keys import ExternalKey
    from ca.acme.renewal_information import Replacement

PROFILES = ("tls-server", "tls-client")
ROLES = ("ra-officer", "ca-administrator")


@click.group()
def acme() -> None:
    """Certificates that machines order by themselves (RFC 8555)."""


# External account keys -----------------------------------------------------------------------------------------------


@acme.group()
def key() -> None:
    """External account keys: they open accounts and say what those may order."""


@key.command()
@click.option("--organisation", required=True, help="O in the certificates.")
@click.option("--organisation-identifier", help="Its register number as NTRMN-0000000; tls-client needs it.")
@click.option("--client-id", help="The client id that stands in certificates of tls-client.")
@click.option("--profile", type=click.Choice(PROFILES), default="tls-server", show_default=True)
@click.option("--allow", "allowed", multiple=True, required=True, help="A name, *.name, or IP network. Repeatable.")
@click.option("--reusable", is_flag=True, help="Let it open more than one account.")
@click.option("--valid-days", type=click.IntRange(1, 366), default=30, show_default=True, help="To open accounts in.")
@command_options
def add(
    context: Context,
    /,
    organisation: str,
    organisation_identifier: str | None,
    client_id: str | None,
    profile: str,
    allowed: tuple[str, ...],
    reusable: bool,
    valid_days: int,
) -> None:
    """Make a key. Its MAC key is printed this once. Status 3 when what it should allow cannot be allowed."""
    from ca.acme.identifiers import Entitlement

    actor = context.acting(*ROLES)
    wanted = Entitlement(
        organisation=organisation,
        profile=profile,
        allowed=allowed,
        organisation_identifier=organisation_identifier,
        client_id=client_id,
    )
    made = context.services.acme.external_keys.add(wanted, actor=actor, reusable=reusable, valid_days=valid_days)
    directory = f"{context.settings.base_url}/acme/directory"
    text = (
        f"directory: {directory}\nkey id: {made.key.id}\nMAC key, shown this once: {made.mac_key}\n"
        f"for certbot: --server {directory} --eab-kid {made.key.id} --eab-hmac-key {made.mac_key}"
    )
    context.emit({**_key_row(made.key), "mac_key": made.mac_key, "directory": directory}, text)


@key.command("list")
@command_options
def list_keys(context: Context, /) -> None:
    """All keys, oldest first."""
    columns = ("id", "organisation", "profile", "allowed", "accounts", "expires_at", "state")
    context.emit_lines([_key_row(each) for each in context.services.acme.external_keys.all()], columns)


@key.command("revoke")
@click.argument("key_id")
@command_options
def revoke_key(context: Context, /, key_id: str) -> None:
    """End a key and close the accounts it opened. Certificates stay. Status 4 or 5 when there is nothing to end."""
    closed = context.services.acme.external_keys.revoke(key_id, actor=context.acting(*ROLES))
    context.emit({"id": key_id, "accounts_closed": closed}, f"key {key_id} revoked, {closed} accounts closed")


# Accounts ------------------------------------------------------------------------------------------------------------


@acme.group()
def account() -> None:
    """Accounts that external account keys opened."""


@account.command("list")
@command_options
def list_accounts(context: Context, /) -> None:
    """All accounts, oldest first."""
    columns = ("id", "status", "external_key", "contact", "created_at")
    context.emit_lines([_account_row(each) for each in context.services.acme.accounts.all()], columns)


@account.command()
@click.argument("account_id")
@command_options
def deactivate(context: Context, /, account_id: str) -> None:
    """Close an account for good. Certificates stay. Status 4 or 5 when there is nothing to close."""
    closed = context.services.acme.accounts.revoke(account_id, actor=context.acting(*ROLES))
    context.emit(_account_row(closed), f"account {account_id} is closed")


# Replacement ---------------------------------------------------------------------------------------------------------


@acme.group()
def replacement() -> None:
    """Announced replacements: clients hear of them by renewal information (RFC 9773)."""


@replacement.command()
@click.option("--issuer", required=True, help="Slug of the authority whose certificates are to be replaced.")
@click.option("--issued-until", help="Those issued up to this moment; default: now.")
@click.option("--from", "starts_at", help="When replacing starts; default: now.")
@click.option("--to", "ends_at", required=True, help="When all should be replaced.")
@click.option("--explanation", "explanation_url", default="", help="An https address that says why.")
@command_options
def announce(
    context: Context,
    /,
    issuer: str,
    issued_until: str | None,
    starts_at: str | None,
    ends_at: str,
    explanation_url: str,
) -> None:
    """Ask clients to replace certificates early, spread over a window. Moments are RFC 3339."""
    now = context.services.clock()
    announced = context.services.acme.renewal_information.announce(
        issuer=issuer,
        issued_until=_moment(issued_until) if issued_until else now,
        starts_at=_moment(starts_at) if starts_at else now,
        ends_at=_moment(ends_at),
        explanation_url=explanation_url,
        actor=context.acting(*ROLES),
    )
    context.emit(_replacement_row(announced), f"replacement {announced.id} announced")


@replacement.command("list")
@command_options
def list_replacements(context: Context, /) -> None:
    """All announcements, the withdrawn ones too."""
    columns = ("id", "issuer", "issued_until", "starts_at", "ends_at", "withdrawn_at")
    found = context.services.acme.renewal_information.all()
    context.emit_lines([_replacement_row(each) for each in found], columns)


@replacement.command()
@click.argument("replacement_id")
@command_options
def withdraw(context: Context, /, replacement_id: str) -> None:
    """End an announcement: clients see the usual windows again. Status 4 when it is not announced."""
    ended = context.services.acme.renewal_information.withdraw(replacement_id, actor=context.acting(*ROLES))
    context.emit(_replacement_row(ended), f"replacement {replacement_id} withdrawn")


# Validation ----------------------------------------------------------------------------------------------------------


@acme.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="At most so many looks.")
@command_options
def validate(context: Context, /, limit: int) -> None:
    """Look at the challenges that are due, such as those a process left when it ended. For a timer."""
    answered, open_or_failed = context.services.acme.challenges.validate_due(limit=limit)
    result = {"answered": answered, "not_answered": open_or_failed}
    context.emit(result, f"{answered} challenges answered, {open_or_failed} not (yet)")


def _key_row(found: ExternalKey) -> dict[str, Any]:
    entitlement = found.entitlement
    state = "revoked" if found.revoked_at else "used" if found.used_at and not found.reusable else "open"
    return {
        "id": found.id,
        "organisation": entitlement.organisation,
        "organisation_identifier": entitlement.organisation_identifier,
        "client_id": entitlement.client_id,
        "profile": entitlement.profile,
        "allowed": list(entitlement.allowed),
        "reusable": found.reusable,
        "accounts": found.accounts,
        "created_at": stamp(found.created_at),
        "expires_at": stamp(found.expires_at),
        "state": state,
    }


def _account_row(found: Account) -> dict[str, Any]:
    return {
        "id": found.id,
        "status": found.status,
        "external_key": found.external_key_id,
        "contact": list(found.contact),
        "thumbprint": found.thumbprint,
        "created_at": stamp(found.created_at),
    }


def _replacement_row(found: Replacement) -> dict[str, Any]:
    return {
        "id": found.id,
        "issuer": found.issuer,
        "issued_until": stamp(found.issued_until),
        "starts_at": stamp(found.starts_at),
        "ends_at": stamp(found.ends_at),
        "explanation_url": found.explanation_url,
        "withdrawn_at": stamp(found.withdrawn_at) if found.withdrawn_at else None,
    }


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is not a moment of RFC 3339") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
