"""``/oauth2/logout``: a relying party asks that the login end (OpenID Connect RP-Initiated Logout 1.0)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from core.database import Database
from sso.errors import PageRequestInvalid, RedirectUriMismatch
from sso.id_token import IdTokens
from sso.parameters import Parameters
from sso.redirect_uris import matches, with_parameters
from sso.relying_parties import RelyingParties, RelyingParty
from sso.sessions import LoginSession
from sso.tables import AuthorizationCodeRow


@dataclass(frozen=True)
class LogoutRequest:
    """A request that passed its checks.

    ``session_id`` is the login to end unasked, proven by a valid hint of ``actor``. ``confirm``: a person must be
    asked first. ``location`` is where the browser goes afterwards, None for our own page.
    """

    session_id: str | None
    confirm: bool
    location: str | None
    actor: str = ""


class EndSessionEndpoint:
    """Decides whose login ends and whether to ask first."""

    def __init__(self, database: Database, relying_parties: RelyingParties, id_tokens: IdTokens) -> None:
        self._database = database
        self._relying_parties = relying_parties
        self._id_tokens = id_tokens

    def check(self, asked: Parameters, login: LoginSession | None) -> LogoutRequest:
        """What to do. Raises PageRequestInvalid, RedirectUriMismatch: errors here are pages, never redirects."""
        if asked.doubled():
            raise PageRequestInvalid("parameters must not be repeated")
        # The hint proves that this client once had this login; its age does not matter (2).
        hint = self._id_tokens.read_hint(asked.get("id_token_hint"))
        client = self._client(hint, asked.get("client_id"))
        if hint is None or client is None:
            # Without proof nobody is sent anywhere and nothing ends unasked (3, 6).
            return LogoutRequest(None, confirm=login is not None, location=None)
        location = _location(client, asked)
        if login is not None and login.sid_for(client.client_id) != hint["sid"]:
            return LogoutRequest(None, confirm=True, location=location)
        session_id = login.id if login else self._session_of(client, str(hint["sid"]))
        return LogoutRequest(session_id, confirm=False, location=location, actor=f"client:{client.client_id}")

    def _client(self, hint: dict[str, Any] | None, client_id: str | None) -> RelyingParty | None:
        audience = hint["aud"] if hint else None
        if audience and client_id and audience != client_id:
            raise PageRequestInvalid("client_id is not the audience of id_token_hint")
        return self._relying_parties.enabled(audience) if audience else None

    def _session_of(self, client: RelyingParty, sid: str) -> str | None:
        # A form posted from the relying party's site carries no cookie of ours; the hint still names the login.
        query = select(AuthorizationCodeRow.session_id).where(
            AuthorizationCodeRow.sid == sid, AuthorizationCodeRow.client_id == client.client_id
        )
        with self._database.reading() as session:
            return session.scalar(query.limit(1))


def _location(client: RelyingParty, asked: Parameters) -> str | None:
    uri = asked.get("post_logout_redirect_uri")
    if uri is None:
        return None
    if not matches(uri, client.post_logout_redirect_uris, native=client.kind == "native"):
        raise RedirectUriMismatch("post_logout_redirect_uri is not a registered one")
    state = asked.get("state")
    return with_parameters(uri, [("state", state)]) if state is not None else uri
