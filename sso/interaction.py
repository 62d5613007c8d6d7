"""Interactions: what a person is in the middle of, kept on our side under an id that says nothing.

Each request of a relying party has its own, so two tabs never disturb each other. The browser holds only the id;
who may continue is decided by the state here and the session, never by a form's hidden fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from core.clock import Clock
from core.one_time import OneTimeStore
from sso.errors import InteractionGone, InvalidReturnAddress
from sso.opaque import digest, new_value

KIND = "interaction"
# After its lifetime an interaction is kept this much longer, so that its page can offer to start again.
AFTERLIFE_SECONDS = 3600
MAX_ID_CHARACTERS = 64
MAX_RETURN_OCTETS = 2048


@dataclass(frozen=True)
class Interaction:
    """One thing a person is doing: answering a relying party's request, or logging in to a page of ours.

    Exactly one of ``parameters`` (the authorization request) and ``return_to`` (a path of this site) is set.
    ``claimant`` has given the right password and still owes a one-time code. ``session_id`` is the login the
    interaction belongs to once there is one.
    """

    id: str
    begun_at: str
    parameters: Mapping[str, str] | None = None
    return_to: str | None = None
    claimant: str | None = None
    wrong_codes: int = 0
    session_id: str | None = None

    @property
    def begun(self) -> datetime:
        """When it began; a login or consent from before does not satisfy a demand for a fresh one."""
        return datetime.fromisoformat(self.begun_at)


class InteractionExpired(InteractionGone):
    """The interaction took too long; its request is still known and can be begun again."""

    code = "interaction_expired"

    def __init__(self, interaction: Interaction) -> None:
        super().__init__("this login took too long")
        self.interaction = interaction


class Interactions:
    """Keeps interactions in the one-time store; ``lifetime`` is in seconds."""

    def __init__(self, one_time: OneTimeStore, clock: Clock, *, lifetime: int) -> None:
        self._one_time = one_time
        self._clock = clock
        self._lifetime = lifetime

    def begin(self, *, parameters: Mapping[str, str] | None = None, return_to: str | None = None) -> Interaction:
        """A new interaction, kept."""
        interaction = Interaction(new_value(), self._clock().isoformat(), parameters, return_to)
        self.keep(interaction)
        return interaction

    def keep(self, interaction: Interaction) -> None:
        """Store the interaction in its present state."""
        age = int((self._clock() - interaction.begun).total_seconds())
        left = max(1, self._lifetime + AFTERLIFE_SECONDS - age)
        self._one_time.put(KIND, digest(interaction.id), asdict(interaction), ttl=left)

    def find(self, interaction_id: str | None) -> Interaction:
        """The interaction of that id. Raises InteractionGone; InteractionExpired when it can be begun again."""
        held = self._peek(interaction_id)
        if held is None:
            raise InteractionGone("this login has ended")
        interaction = Interaction(**held)
        if self._clock() >= interaction.begun + timedelta(seconds=self._lifetime):
            raise InteractionExpired(interaction)
        return interaction

    def finish(self, interaction: Interaction) -> None:
        """Take the interaction, so that it is answered once. Raises core.one_time.NotThere for the second taker."""
        self._one_time.take(KIND, digest(interaction.id))

    def drop(self, interaction: Interaction) -> None:
        """Forget the interaction."""
        self._one_time.discard(KIND, digest(interaction.id))

    def claimed_by(self, interaction: Interaction, person_id: str) -> Interaction:
        """The right password was given; a one-time code is still owed."""
        return self._kept(replace(interaction, claimant=person_id, wrong_codes=0))

    def wrong_code(self, interaction: Interaction) -> Interaction:
        """One more wrong one-time code."""
        return self._kept(replace(interaction, wrong_codes=interaction.wrong_codes + 1))

    def bound_to(self, interaction: Interaction, session_id: str | None) -> Interaction:
        """The interaction belongs to this login from now on (None: to nobody, a new login is due)."""
        if interaction.session_id == session_id and interaction.claimant is None:
            return interaction
        return self._kept(replace(interaction, session_id=session_id, claimant=None, wrong_codes=0))

    def _kept(self, interaction: Interaction) -> Interaction:
        self.keep(interaction)
        return interaction

    def _peek(self, interaction_id: str | None) -> dict[str, Any] | None:
        if not interaction_id or len(interaction_id) > MAX_ID_CHARACTERS:
            return None
        return self._one_time.peek(KIND, digest(interaction_id))


def checked_return_to(path: str) -> str:
    """``path`` if it is a path of this site and nothing a browser reads otherwise. Raises InvalidReturnAddress."""
    plain = path.isascii() and path.isprintable() and "\\" not in path and " " not in path
    if not plain or not path.startswith("/") or path.startswith("//") or len(path) > MAX_RETURN_OCTETS:
        raise InvalidReturnAddress("return_to must be a path of this site")
    try:
        parts = urlsplit(path)
    except ValueError as error:
        raise InvalidReturnAddress("return_to must be a path of this site") from error
    if parts.scheme or parts.netloc:
        raise InvalidReturnAddress("return_to must be a path of this site")
    return path
