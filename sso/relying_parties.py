"""Relying parties: the services that send people here, how each proves itself and what it may ask for."""

from __future__ import annotations

import hmac
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core.audit import AuditLog
from core.clock import Clock
from core.database import Database
from policies.authentication import LADDER
from policies.keys import KeyRefused, check_public_key
from sso import events, redirect_uris
from sso.errors import ClientNotFound, InvalidClientMetadata
from sso.opaque import digest, new_value
from sso.scopes import PARTNER_SCOPES, PERSON_SCOPES, SUPPORTED
from sso.tables import AccessTokenRow, AuthorizationCodeRow, RelyingPartyRow

Kind = Literal["web", "native", "machine"]
KINDS: tuple[Kind, ...] = ("web", "native", "machine")
AUTH_METHODS = ("private_key_jwt", "client_secret_basic", "none")
# RFC 8725 3.1: the algorithm is the registration's, never the token's. RS256 is for those who cannot do otherwise.
ASSERTION_ALGORITHMS = ("ES256", "PS256", "EdDSA", "RS256")
MAX_KEYS = 10
MAX_NAME_CHARACTERS = 100
# RFC 7518 3.3, 3.4: P-256 for ES256, RSA of 2048 bits and more; Ed25519 is checked by its own type.
MIN_MODULUS_CHARACTERS = 342  # 2048 bits in base64url
KEY_KINDS = ("P-256", "RSA-2048")
_CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,63}")
_NOBODYS_HOSTS = frozenset({"", "localhost", "127.0.0.1", "::1"})
_SECTOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,254}")


@dataclass(frozen=True)
class RelyingParty:
    """A registered service. ``secret_digest`` is the SHA-256 of its secret, for ``client_secret_basic`` only."""

    client_id: str
    name_mn: str
    name_en: str
    kind: Kind
    auth_method: str
    auth_algorithm: str | None
    secret_digest: str | None
    jwks: Mapping[str, Any] | None
    redirect_uris: tuple[str, ...]
    post_logout_redirect_uris: tuple[str, ...]
    scopes: tuple[str, ...]
    sector: str
    minimum_acr: str | None
    webhook_uris: tuple[str, ...]
    return_urls: tuple[str, ...]
    created_at: datetime
    disabled_at: datetime | None

    def __repr__(self) -> str:
        return f"RelyingParty({self.client_id!r})"

    @property
    def enabled(self) -> bool:
        """Whether it may be served at all."""
        return self.disabled_at is None

    @property
    def host(self) -> str:
        """Where people go back to, as they are shown it."""
        return redirect_uris.host_of(self.redirect_uris[0]) if self.redirect_uris else ""

    @property
    def person_scopes(self) -> tuple[str, ...]:
        """What it may ask people for."""
        return tuple(scope for scope in self.scopes if scope in PERSON_SCOPES)

    @property
    def partner_scopes(self) -> tuple[str, ...]:
        """What it may do in its own name."""
        return tuple(scope for scope in self.scopes if scope in PARTNER_SCOPES)

    @property
    def grant_types(self) -> frozenset[str]:
        """The grants that follow from what it is."""
        grants = set()
        if self.redirect_uris:
            grants.add("authorization_code")
        if self.partner_scopes and self.auth_method != "none":
            grants.add("client_credentials")
        return frozenset(grants)

    def name(self, language: str) -> str:
        """Its name for a reader of ``language``."""
        return self.name_en if language == "en" else self.name_mn

    def allows_redirect_uri(self, uri: str) -> bool:
        """Whether ``uri`` is a registered redirect URI (byte for byte; loopback port aside for apps)."""
        return redirect_uris.matches(uri, self.redirect_uris, native=self.kind == "native")

    def has_secret(self, secret: str) -> bool:
        """Whether ``secret`` is this client's."""
        return self.secret_digest is not None and hmac.compare_digest(self.secret_digest, digest(secret))

    def keys(self, kid: object = None) -> tuple[Key, ...]:
        """Its public keys that may bear this ``kid``: a key registered without one may bear any."""
        registered = (self.jwks or {}).get("keys", ())
        fitting = [key for key in registered if kid is None or key.get("kid") in (None, kid)]
        return tuple(JWKRegistry.import_key(key) for key in fitting)


@dataclass(frozen=True)
class Registered:
    """A new relying party and, once only, the secret made for it."""

    relying_party: RelyingParty
    client_secret: str | None

    def __repr__(self) -> str:
        return f"Registered({self.relying_party!r})"


@dataclass(frozen=True)
class Registration:
    """What an administrator says about a new relying party; everything else follows from it."""

    name_mn: str
    name_en: str
    kind: Kind = "web"
    auth_method: str = "private_key_jwt"
    auth_algorithm: str | None = None
    jwks: Mapping[str, Any] | None = None
    redirect_uris: tuple[str, ...] = ()
    post_logout_redirect_uris: tuple[str, ...] = ()
    scopes: tuple[str, ...] = PERSON_SCOPES
    sector: str | None = None
    minimum_acr: str | None = None
    webhook_uris: tuple[str, ...] = ()
    return_urls: tuple[str, ...] = ()
    client_id: str | None = None


class RelyingParties:
    """The register of relying parties. ``development`` lets loopback addresses of plain http in."""

    def __init__(self, database: Database, audit: AuditLog, clock: Clock, *, development: bool) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._development = development

    def create(self, registration: Registration, *, actor: str) -> Registered:
        """Check and enter a relying party. Raises InvalidClientMetadata naming what is wrong."""
        secret = new_value() if registration.auth_method == "client_secret_basic" else None
        row = self._checked(registration, secret)
        with self._database.transaction() as session:
            if session.get(RelyingPartyRow, row.client_id) is not None:
                raise InvalidClientMetadata(f"client_id {row.client_id} is taken")
            session.add(row)
            facts = {"kind": row.kind, "auth_method": row.auth_method, "scopes": list(row.scopes)}
            self._audit.append(session, events.CLIENT_CREATED, actor=actor, subject=row.client_id, facts=facts)
            return Registered(_relying_party(row), secret)

    def get(self, client_id: str) -> RelyingParty:
        """The relying party of that id, disabled or not. Raises ClientNotFound."""
        row = None
        if _CLIENT_ID.fullmatch(client_id):
            with self._database.reading() as session:
                row = session.get(RelyingPartyRow, client_id)
        if row is None:
            raise ClientNotFound(f"there is no client {client_id[:64]!r}")
        return _relying_party(row)

    def enabled(self, client_id: str) -> RelyingParty | None:
        """The relying party of that id if it may be served, else None."""
        if not _CLIENT_ID.fullmatch(client_id):  # a stranger's string is not asked of the database
            return None
        with self._database.reading() as session:
            row = session.get(RelyingPartyRow, client_id)
        return _relying_party(row) if row is not None and row.disabled_at is None else None

    def all(self) -> tuple[RelyingParty, ...]:
        """Every relying party, oldest first."""
        with self._database.reading() as session:
            rows = session.scalars(select(RelyingPartyRow).order_by(RelyingPartyRow.created_at)).all()
        return tuple(_relying_party(row) for row in rows)

    def disable(self, client_id: str, *, actor: str) -> None:
        """Stop serving a relying party; its codes and tokens end in the same transaction. Raises ClientNotFound."""
        now = self._clock()
        with self._database.transaction() as session:
            row = session.get(RelyingPartyRow, client_id, with_for_update=True)
            if row is None:
                raise ClientNotFound(f"there is no client {client_id[:64]!r}")
            if row.disabled_at is not None:
                return
            row.disabled_at = now
            _end_credentials(session, client_id, now)
            self._audit.append(session, events.CLIENT_DISABLED, actor=actor, subject=client_id)

    def _checked(self, asked: Registration, secret: str | None) -> RelyingPartyRow:
        _check_choices(asked)
        jwks, algorithm = _checked_keys(asked)
        addresses = self._checked_addresses(asked)
        client_id = asked.client_id or uuid.uuid4().hex
        if not _CLIENT_ID.fullmatch(client_id):
            raise InvalidClientMetadata("client_id must be 3 to 64 letters, digits, dots, hyphens or underscores")
        return RelyingPartyRow(
            client_id=client_id,
            name_mn=_checked_name(asked.name_mn, "name_mn"),
            name_en=_checked_name(asked.name_en, "name_en"),
            kind=asked.kind,
            auth_method=asked.auth_method,
            auth_algorithm=algorithm,
            secret_digest=digest(secret) if secret else None,
            jwks=jwks,
            scopes=list(dict.fromkeys(asked.scopes)),
            sector=_sector(asked, client_id),
            minimum_acr=asked.minimum_acr,
            created_at=self._clock(),
            disabled_at=None,
            **{name: list(values) for name, values in addresses.items()},
        )

    def _checked_addresses(self, asked: Registration) -> dict[str, tuple[str, ...]]:
        loopback = self._development
        if asked.kind == "native":
            redirects = redirect_uris.check_native_uris(asked.redirect_uris)
            after_logout = redirect_uris.check_native_uris(asked.post_logout_redirect_uris)
        else:
            redirects = redirect_uris.check_web_uris(asked.redirect_uris, what="redirect_uris", loopback=loopback)
            after_logout = redirect_uris.check_web_uris(
                asked.post_logout_redirect_uris, what="post_logout_redirect_uris", loopback=loopback
            )
        return {
            "redirect_uris": redirects,
            "post_logout_redirect_uris": after_logout,
            "webhook_uris": redirect_uris.check_web_uris(asked.webhook_uris, what="webhook_uris", loopback=loopback),
            "return_urls": redirect_uris.check_web_uris(asked.return_urls, what="return_urls", loopback=loopback),
        }


def _end_credentials(session: Session, client_id: str, now: datetime) -> None:
    # Codes first: a redemption in flight holds its code's row, so the statement after this one sees its token.
    for table in (AuthorizationCodeRow, AccessTokenRow):
        session.execute(
            update(table).where(table.client_id == client_id, table.revoked_at.is_(None)).values(revoked_at=now)
        )


def _check_choices(asked: Registration) -> None:
    if asked.kind not in KINDS:
        raise InvalidClientMetadata(f"kind must be one of {', '.join(KINDS)}")
    if asked.auth_method not in AUTH_METHODS:
        raise InvalidClientMetadata(f"auth_method must be one of {', '.join(AUTH_METHODS)}")
    if (asked.auth_method == "none") != (asked.kind == "native"):
        # RFC 8252 8.4: an app on many devices cannot keep a secret, and nobody else may go without one.
        raise InvalidClientMetadata("auth_method none is for native clients, and native clients use none")
    unknown = set(asked.scopes) - set(SUPPORTED)
    if unknown or not asked.scopes:
        raise InvalidClientMetadata(f"scopes must be among {', '.join(SUPPORTED)}")
    if asked.minimum_acr is not None and asked.minimum_acr not in LADDER:
        raise InvalidClientMetadata(f"minimum_acr must be one of {', '.join(LADDER)}")
    if asked.kind == "machine" and (asked.redirect_uris or set(asked.scopes) & set(PERSON_SCOPES)):
        raise InvalidClientMetadata("a machine client has no redirect_uris and no scopes about people")
    if asked.kind != "machine" and not asked.redirect_uris:
        raise InvalidClientMetadata("redirect_uris must name at least one address")
    if asked.kind == "native" and set(asked.scopes) & set(PARTNER_SCOPES):
        raise InvalidClientMetadata("a native client cannot use the partner scopes")


def _checked_name(name: str, what: str) -> str:
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS or not name.isprintable() or name != name.strip():
        raise InvalidClientMetadata(f"{what} must be 1 to {MAX_NAME_CHARACTERS} printable characters")
    return name


def _sector(asked: Registration, client_id: str) -> str:
    # OpenID Connect Core 8.1: without a sector identifier, all redirect URIs share one host.
    if asked.sector is not None:
        if not _SECTOR.fullmatch(asked.sector):
            raise InvalidClientMetadata("sector must be a host name")
        return asked.sector.lower()
    # Loopback and private-use addresses name no organisation: such clients stand alone.
    hosts = {redirect_uris.host_of(uri).lower() for uri in asked.redirect_uris} - _NOBODYS_HOSTS
    if len(hosts) > 1:
        raise InvalidClientMetadata("redirect_uris on several hosts need a sector")
    return next(iter(hosts), client_id)


def _checked_keys(asked: Registration) -> tuple[dict[str, Any] | None, str | None]:
    if asked.auth_method != "private_key_jwt":
        if asked.jwks is not None or asked.auth_algorithm is not None:
            raise InvalidClientMetadata("jwks and auth_algorithm belong to private_key_jwt")
        return None, None
    keys = (asked.jwks or {}).get("keys")
    if not isinstance(keys, list) or not 1 <= len(keys) <= MAX_KEYS:
        raise InvalidClientMetadata(f"private_key_jwt needs jwks with 1 to {MAX_KEYS} public keys")
    algorithms = {_checked_key(key) for key in keys}
    algorithm = asked.auth_algorithm or ("PS256" if algorithms == {"RSA"} else next(iter(algorithms)))
    wanted = "RSA" if algorithm in ("RS256", "PS256") else algorithm
    if algorithm not in ASSERTION_ALGORITHMS or algorithms != {wanted}:
        raise InvalidClientMetadata(f"auth_algorithm must be one of {', '.join(ASSERTION_ALGORITHMS)} and fit the keys")
    return {"keys": keys}, algorithm


def _checked_key(key: object) -> str:
    if not isinstance(key, dict) or "d" in key or "k" in key:
        raise InvalidClientMetadata("jwks must hold public keys only")
    if key.get("kty") == "RSA" and len(str(key.get("n"))) < MIN_MODULUS_CHARACTERS:
        raise InvalidClientMetadata("jwks holds an RSA key of fewer than 2048 bits")
    try:
        public: object = JWKRegistry.import_key(key).public_key
    except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidClientMetadata("jwks holds something that is not a key") from error
    if isinstance(public, Ed25519PublicKey):
        return "EdDSA"
    try:
        kind = check_public_key(public, KEY_KINDS)
    except KeyRefused as error:
        raise InvalidClientMetadata(f"jwks holds a key that is not good enough: {error} ({error.code})") from error
    return "ES256" if kind == "P-256" else "RSA"


def _relying_party(row: RelyingPartyRow) -> RelyingParty:
    return RelyingParty(
        client_id=row.client_id,
        name_mn=row.name_mn,
        name_en=row.name_en,
        kind=row.kind,  # type: ignore[arg-type]
        auth_method=row.auth_method,
        auth_algorithm=row.auth_algorithm,
        secret_digest=row.secret_digest,
        jwks=row.jwks,
        redirect_uris=tuple(row.redirect_uris),
        post_logout_redirect_uris=tuple(row.post_logout_redirect_uris),
        scopes=tuple(row.scopes),
        sector=row.sector,
        minimum_acr=row.minimum_acr,
        webhook_uris=tuple(row.webhook_uris),
        return_urls=tuple(row.return_urls),
        created_at=row.created_at,
        disabled_at=row.disabled_at,
    )
