"""``tamga person``: the people who can log in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cli.ca import stamp
from cli.context import Context, command_options, read_secret

if TYPE_CHECKING:
    from sso.people import Person


@click.group()
def person() -> None:
    """People who can log in."""


@person.command()
@click.option("--username", required=True, help="What the person types to log in.")
@click.option("--given-name", required=True)
@click.option("--family-name", required=True, help="The patronymic; empty for those who have none.")
@click.option("--civil-id", required=True, help="12 digits.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of asking.")
@click.option("--totp/--no-totp", default=True, help="Whether to give one-time codes as second factor (default: yes).")
@command_options
def create(
    context: Context,
    /,
    username: str,
    given_name: str,
    family_name: str,
    civil_id: str,
    password_stdin: bool,
    totp: bool,
) -> None:
    """Enter a person. The secret for one-time codes is printed this once."""
    from sso.authentication import otp
    from sso.people import NewPerson

    actor = context.acting("ra-officer")  # whoever can log in can have certificates
    password = read_secret("Password", from_stdin=password_stdin)
    new = NewPerson(username, given_name, family_name, civil_id, password)
    enrolled = context.services.sso.people.create(new, actor=actor, totp=totp)
    row = _row(enrolled.person)
    text = f"person {row['id']} entered as {row['username']}"
    if enrolled.totp_secret is not None:
        row["totp_secret"] = otp.secret_text(enrolled.totp_secret)
        row["otpauth_uri"] = otp.provisioning_uri(
            enrolled.totp_secret, account=enrolled.person.username, issuer=context.settings.name_en
        )
        text += f"\nsecret for one-time codes, shown this once: {row['totp_secret']}\n{row['otpauth_uri']}"
    context.emit(row, text)


@person.command("list")
@command_options
def list_people(context: Context, /) -> None:
    """All people, oldest first; no national numbers."""
    rows = [_row(each) for each in context.services.sso.people.all()]
    context.emit_lines(rows, ("id", "username", "name", "has_totp", "enabled"))


@person.command()
@click.argument("who")
@command_options
def show(context: Context, /, who: str) -> None:
    """One person, by id or user name, with the signing credentials that ``tamga sign`` takes."""
    from sso.errors import PersonNotFound

    people = context.services.sso.people
    try:
        found = people.get(who)
    except PersonNotFound:
        found = people.by_username(who)
    row = _row(found)
    credentials = _credentials(context, found.id)
    lines = [f"{name}: {value}" for name, value in row.items()]
    lines += [f"credential: {each['id']}  {each['certificate_serial']}  {each['state']}" for each in credentials]
    context.emit({**row, "credentials": credentials}, "\n".join(lines))


def _credentials(context: Context, person_id: str) -> list[dict[str, Any]]:
    """The person's signing credentials, newest first, as they stand now."""
    credentials = context.services.signing.credentials
    return [
        {
            "id": each.id,
            "certificate_serial": each.certificate_serial,
            "state": str(credentials.standing(each)),
            "not_after": stamp(each.not_after),
        }
        for each in credentials.of_person(person_id)
    ]


def _row(person: Person) -> dict[str, Any]:
    return {
        "id": person.id,
        "username": person.username,
        "name": person.name,
        "given_name": person.given_name,
        "family_name": person.family_name,
        "has_totp": person.has_totp,
        "created_at": person.created_at.isoformat(timespec="seconds"),
        "enabled": person.enabled,
    }
