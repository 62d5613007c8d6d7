"""Webhooks: each one a compact JWS by the instance's own key, made anew for every attempt."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from joserfc import jwt

from core.clock import Clock
from core.database import Database
from core.egress import Egress
from core.errors import CodedError
from core.logs import get_logger
from core.outbox import Delivery, Outbox
from hsm.jwk import token_jwk
from hsm.keystore import Keystore
from signing.sign_requests import WEBHOOK

log = get_logger("signing.deliveries")

LIFETIME_SECONDS = 300
CONTENT_TYPE = "application/jwt"
EVENT_TYPE = "sign-event+jwt"


@dataclass(frozen=True)
class Delivered:
    """One round: how many were acknowledged, how many will be tried again or are given up."""

    delivered: int
    failed: int


class Deliveries:
    """Sends the webhooks that are due; what was not acknowledged stays in the outbox for its next attempt."""

    def __init__(
        self,
        *,
        database: Database,
        outbox: Outbox,
        egress: Egress,
        keystore: Keystore,
        clock: Clock,
        issuer: str,
        key_label: str,
        kid: str | None = None,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._egress = egress
        self._keystore = keystore
        self._clock = clock
        self._issuer = issuer
        self._key_label = key_label
        self._kid = kid
        self._running = threading.Lock()

    def run(self, *, limit: int = 50) -> Delivered:
        """Attempt every delivery that is due now."""
        done = [self._attempt(delivery) for delivery in self._outbox.due(self._database, kind=WEBHOOK, limit=limit)]
        return Delivered(delivered=sum(done), failed=len(done) - sum(done))

    def run_soon(self) -> None:
        """Start a round in the background, best effort; `tamga deliver` does what this one does not."""
        threading.Thread(target=self._run_quietly, name="signing-deliveries", daemon=True).start()

    def _run_quietly(self) -> None:
        if not self._running.acquire(blocking=False):
            return
        try:
            self.run()
        except Exception:
            log.exception("deliveries_failed")
        finally:
            self._running.release()

    def render(self, body: Mapping[str, Any]) -> str:
        """The event as `sign-event+jwt`, valid for five minutes from now (RFC 7515, RFC 7519)."""
        key = self._keystore.key(self._key_label)
        jwk = token_jwk(key, kid=self._kid or "", alg="ES256")
        kid = self._kid or jwk.thumbprint()
        now = int(self._clock().timestamp())
        header = {"alg": "ES256", "typ": EVENT_TYPE, "kid": kid}
        claims = {"iss": self._issuer, **body, "iat": now, "exp": now + LIFETIME_SECONDS}
        return jwt.encode(header, claims, jwk, algorithms=["ES256"])

    def _attempt(self, delivery: Delivery) -> bool:
        try:
            answer = self._egress.post(delivery.destination, self.render(delivery.body).encode(), CONTENT_TYPE)
        except CodedError as error:
            self._outbox.failed(self._database, delivery, error.code)
            log.warning("webhook_failed", delivery=delivery.id, attempt=delivery.attempt, reason=error.code)
            return False
        if 200 <= answer.status < 300:
            self._outbox.delivered(self._database, delivery)
            return True
        # A redirect is a failure: the address that was registered is the address that must answer.
        self._outbox.failed(self._database, delivery, f"HTTP {answer.status}")
        log.warning("webhook_failed", delivery=delivery.id, attempt=delivery.attempt, reason=f"HTTP {answer.status}")
        return False
