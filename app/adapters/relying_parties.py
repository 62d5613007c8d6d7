"""What signing asks about relying parties, answered by their register."""

from __future__ import annotations

from signing.ports import RelyingPartyFacts
from sso.relying_parties import RelyingParties


class RegisteredRelyingParties:
    """Answers ``signing.ports.RelyingParties``."""

    def __init__(self, relying_parties: RelyingParties) -> None:
        self._relying_parties = relying_parties

    def relying_party(self, client_id: str) -> RelyingPartyFacts | None:
        """Facts of an enabled client."""
        found = self._relying_parties.enabled(client_id)
        if found is None:
            return None
        return RelyingPartyFacts(
            client_id=found.client_id,
            name={"mn": found.name_mn, "en": found.name_en},
            domain=found.host,
            jwks=found.jwks,
            signing_algorithms=(found.auth_algorithm,) if found.auth_algorithm else (),
            scopes=frozenset(found.scopes),
            webhooks=frozenset(found.webhook_uris),
            return_urls=frozenset(found.return_urls),
        )
