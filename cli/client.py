"""``tamga client``: the relying parties that send people here and use the partner APIs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.context import Context, command_options

if TYPE_CHECKING:
    from sso.relying_parties import RelyingParty

# The choices stand here as words, so that --help need not load the provider.
KINDS = ("web", "native", "machine")
AUTH_METHODS = ("private_key_jwt", "client_secret_basic", "none")
ALGORITHMS = ("ES256", "PS256", "EdDSA", "RS256")
MAX_JWKS_OCTETS = 64 * 1024


@click.group()
def client() -> None:
    """Relying parties: banks, agencies, apps."""


@client.command()
@click.option("--name-mn", required=True, help="The name people see, in Mongolian.")
@click.option("--name-en", required=True, help="The name people see, in English.")
@click.option("--kind", type=click.Choice(KINDS), help="web (default), native for an app, machine for APIs only.")
@click.option("--auth-method", type=click.Choice(AUTH_METHODS), help="Default: private_key_jwt; none for native.")
@click.option("--auth-algorithm", type=click.Choice(ALGORITHMS), help="Of its assertions; default: what its keys say.")
@click.option("--jwks", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="File with its public keys.")
@click.option("--redirect-uri", "redirect_uris", multiple=True, help="Where people return; may be repeated.")
@click.option("--post-logout-redirect-uri", "post_logout_redirect_uris", multiple=True, help="May be repeated.")
@click.option("--scope", "scopes", multiple=True, help="May be repeated; default: openid profile.")
@click.option("--sector", help="Host name that its pairwise subjects are for; default: the redirect URIs' host.")
@click.option("--minimum-acr", help="The level below which nobody is logged in to it.")
@click.option("--webhook-uri", "webhook_uris", multiple=True, help="Where events are posted; may be repeated.")
@click.option("--return-url", "return_urls", multiple=True, help="Where people return after signing; may be repeated.")
@click.option("--client-id", help="Default: a random one.")
@command_options
def create(context: Context, /, jwks: Path | None, **options: Any) -> None:
    """Register a relying party. A secret, if it gets one, is printed this once."""
    from sso.relying_parties import Registration

    actor = context.acting("ca-administrator")
    given = {name: value for name, value in options.items() if value not in (None, ())}
    if given.get("kind") == "native":
        given.setdefault("auth_method", "none")
    if jwks is not None:
        given["jwks"] = _read_jwks(jwks)
    registered = context.services.sso.relying_parties.create(Registration(**given), actor=actor)
    row = _row(registered.relying_party)
    text = f"client {row['client_id']} registered ({row['auth_method']})"
    if registered.client_secret is not None:
        row["client_secret"] = registered.client_secret
        text += f"\nclient secret, shown this once: {registered.client_secret}"
    context.emit(row, text)


@client.command("list")
@command_options
def list_clients(context: Context, /) -> None:
    """All relying parties, oldest first."""
    columns = ("client_id", "name_en", "kind", "auth_method", "scopes", "enabled")
    context.emit_lines([_row(each) for each in context.services.sso.relying_parties.all()], columns)


@client.command()
@click.argument("client_id")
@command_options
def show(context: Context, /, client_id: str) -> None:
    """One relying party with everything it is registered with."""
    row = _row(context.services.sso.relying_parties.get(client_id))
    context.emit(row, "\n".join(f"{name}: {value}" for name, value in row.items() if value not in (None, [], "")))


@client.command()
@click.argument("client_id")
@command_options
def disable(context: Context, /, client_id: str) -> None:
    """Stop serving a relying party; its codes and tokens end at once."""
    actor = context.acting("ca-administrator")
    context.services.sso.relying_parties.disable(client_id, actor=actor)
    context.emit({"client_id": client_id, "enabled": False}, f"client {client_id} is disabled")


def _read_jwks(path: Path) -> Any:
    from sso.errors import InvalidClientMetadata

    try:
        if path.stat().st_size > MAX_JWKS_OCTETS:
            raise InvalidClientMetadata(f"{path} is larger than a key set can be")
        document = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InvalidClientMetadata(f"{path} is not JSON") from error
    if not isinstance(document, dict):
        raise InvalidClientMetadata(f"{path} is not a JWK Set")
    # A single key is forgiven: it is what many tools write.
    return document if "keys" in document else {"keys": [document]}


def _row(client: RelyingParty) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "name_mn": client.name_mn,
        "name_en": client.name_en,
        "kind": client.kind,
        "auth_method": client.auth_method,
        "auth_algorithm": client.auth_algorithm,
        "redirect_uris": list(client.redirect_uris),
        "post_logout_redirect_uris": list(client.post_logout_redirect_uris),
        "scopes": list(client.scopes),
        "sector": client.sector,
        "minimum_acr": client.minimum_acr,
        "webhook_uris": list(client.webhook_uris),
        "return_urls": list(client.return_urls),
        "jwks": client.jwks,
        "created_at": client.created_at.isoformat(timespec="seconds"),
        "enabled": client.enabled,
    }
