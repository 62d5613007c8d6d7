"""Everything the roof and the commands use of this room, put together in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from core.audit import AuditLog
from core.clock import Clock
from core.database import Database
from core.one_time import OneTimeStore
from core.passwords import Passwords
from sso import discovery
from sso.access_tokens import AccessTokens
from sso.authentication.attempts import Attempts
from sso.authentication.password import PasswordLogin
from sso.authorization_codes import AuthorizationCodes
from sso.authorization_endpoint import AuthorizationEndpoint
from sso.client_authentication import ClientAuthentication
from sso.consent import Consents
from sso.end_session_endpoint import EndSessionEndpoint
from sso.id_token import IdTokens
from sso.interaction import Interactions
from sso.jwks import SigningKey
from sso.people import People
from sso.relying_parties import RelyingParties
from sso.server import AuthorizationServer
from sso.sessions import Sessions
from sso.settings import SsoSettings
from sso.subjects import Subjects
from sso.token_endpoint import TokenEndpoint
from sso.userinfo_endpoint import UserinfoEndpoint


class Keystore(Protocol):
    """What this room asks of key custody."""

    def key(self, label: str) -> Any:
        """A private key that signs inside the token."""

    def mac(self, label: str, data: bytes) -> bytes:
        """HMAC-SHA-256 under a secret of the token."""

    def seal(self, label: str, plaintext: bytes, context: bytes) -> bytes:
        """Authenticated encryption under a secret of the token."""

    def unseal(self, label: str, sealed: bytes, context: bytes) -> bytes:
        """The inverse of ``seal``."""


@dataclass(frozen=True)
class Parts:
    """The room's parts. Other rooms are given ``sessions``, ``access_tokens``, ``people`` and ``subjects``."""

    issuer: str
    clock: Clock
    one_time: OneTimeStore
    people: People
    relying_parties: RelyingParties
    sessions: Sessions
    access_tokens: AccessTokens
    subjects: Subjects
    consents: Consents
    interactions: Interactions
    password_login: PasswordLogin
    signing_key: SigningKey
    id_tokens: IdTokens
    authorization_endpoint: AuthorizationEndpoint
    token_endpoint: TokenEndpoint
    userinfo_endpoint: UserinfoEndpoint
    end_session_endpoint: EndSessionEndpoint


def assemble(
    *,
    settings: SsoSettings,
    issuer: str,
    database: Database,
    audit: AuditLog,
    clock: Clock,
    keystore: Keystore,
    one_time: OneTimeStore,
    passwords: Passwords,
) -> Parts:
    """Build the room. ``issuer`` is the instance's origin; http is for loopback hosts, which the caller checked."""
    secure = urlsplit(issuer).scheme == "https"
    people = People(
        database,
        audit,
        clock,
        passwords,
        keystore,
        mac_key=settings.subject_key,
        sealing_key=settings.sealing_key,
    )
    relying_parties = RelyingParties(database, audit, clock, development=not secure)
    sessions = Sessions(
        database, audit, clock, idle=settings.session_idle, absolute=settings.session_absolute, secure=secure
    )
    access_tokens = AccessTokens(database, audit, clock, lifetime=settings.access_token_lifetime)
    subjects = Subjects(database, clock, keystore, key=settings.subject_key)
    consents = Consents(database, audit, clock, days=settings.consent_days)
    signing_key = SigningKey(keystore, settings.signing_key)
    id_tokens = IdTokens(issuer, signing_key, clock, lifetime=settings.id_token_lifetime)
    codes = AuthorizationCodes(audit, clock, lifetime=settings.code_lifetime)
    server = AuthorizationServer(issuer, database, codes, access_tokens, id_tokens)
    client_authentication = ClientAuthentication(
        relying_parties, one_time, clock, issuer=issuer, token_endpoint=issuer + discovery.TOKEN
    )
    return Parts(
        issuer=issuer,
        clock=clock,
        one_time=one_time,
        people=people,
        relying_parties=relying_parties,
        sessions=sessions,
        access_tokens=access_tokens,
        subjects=subjects,
        consents=consents,
        interactions=Interactions(one_time, clock, lifetime=settings.interaction_lifetime),
        password_login=PasswordLogin(people, Attempts(one_time, clock)),
        signing_key=signing_key,
        id_tokens=id_tokens,
        authorization_endpoint=AuthorizationEndpoint(
            issuer, clock, relying_parties, consents, subjects, id_tokens, server
        ),
        token_endpoint=TokenEndpoint(client_authentication, server),
        userinfo_endpoint=UserinfoEndpoint(access_tokens, people),
        end_session_endpoint=EndSessionEndpoint(database, relying_parties, id_tokens),
    )
