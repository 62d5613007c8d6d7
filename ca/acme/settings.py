"""The ACME server's knobs."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

HTTP_01 = "http-01"
DNS_01 = "dns-01"
TLS_ALPN_01 = "tls-alpn-01"
CHALLENGES = (HTTP_01, DNS_01, TLS_ALPN_01)


@dataclass(frozen=True)
class AcmeSettings:
    """What an operator decides about orders by machines."""

    challenges: tuple[str, ...] = CHALLENGES
    """Ways to prove control of a name that are offered."""

    resolvers: tuple[str, ...] = ()
    """Name servers to ask, ``address`` or ``address@port``; none means those of the machine's resolv.conf."""

    resolver_timeout: float = 5.0
    """Seconds until a question to the name servers counts as unanswered."""

    http01_port: int = 80
    """Where http-01 is answered; anything but 80 (RFC 8555 8.3) is for test benches."""

    tls_alpn01_port: int = 443
    """Where tls-alpn-01 is answered; anything but 443 (RFC 8737 3) is for test benches."""

    validation_attempts: int = 4
    """How often a challenge is tried before it counts as failed; the pauses are 2, 5, 15, 30 … seconds."""

    validation_threads: int = 4
    """Challenges that one process looks at side by side."""

    order_lifetime: int = 86_400
    """Seconds in which an order must be fulfilled."""

    authorization_reuse: int = 86_400
    """Seconds for which a proven name serves further orders of the same account; 0: each order proves anew."""

    orders_per_hour: int = 100
    """New orders of one account."""

    failures_per_hour: int = 30
    """Failed validations of one account; afterwards it must wait."""

    terms_url: str = ""
    """Terms of service that each account must agree to; empty: there are none."""

    website: str = ""
    """A page for people about this server; empty: none is named."""

    caa_identities: tuple[str, ...] = ()
    """This authority's domain names in CAA records (RFC 8659); none: CAA is not checked."""

    sealing_key: str = "seal-1"
    """The secret that seals external account keys at rest."""

    nonce_key: str = "page-mac-1"
    """The secret that replay nonces are derived from."""

    def __post_init__(self) -> None:
        """Refuse values that no validation could work with."""
        if not self.challenges or set(self.challenges) - set(CHALLENGES):
            raise ValueError(f"challenges are among {', '.join(CHALLENGES)}")
        for resolver in self.resolvers:
            resolver_address(resolver)
        if not all(1 <= port <= 65_535 for port in (self.http01_port, self.tls_alpn01_port)):
            raise ValueError("a port is 1 to 65535")
        if not 1 <= self.validation_attempts <= 10 or not 1 <= self.validation_threads <= 64:
            raise ValueError("validation_attempts is 1 to 10, validation_threads 1 to 64")
        if not 0.1 <= self.resolver_timeout <= 30:
            raise ValueError("resolver_timeout is 0.1 to 30 seconds")
        if not 600 <= self.order_lifetime <= 30 * 86_400 or not 0 <= self.authorization_reuse <= 30 * 86_400:
            raise ValueError("order_lifetime is 600 seconds to 30 days, authorization_reuse up to 30 days")
        if self.orders_per_hour < 1 or self.failures_per_hour < 1:
            raise ValueError("orders_per_hour and failures_per_hour are at least 1")
        if any(urlsplit(url).scheme not in ("https", "http") for url in (self.terms_url, self.website) if url):
            raise ValueError("terms_url and website are web addresses")


def resolver_address(text: str) -> tuple[str, int]:
    """``address`` or ``address@port`` as address and port. Raises ValueError."""
    address, _, port = text.partition("@")
    return str(ipaddress.ip_address(address)), int(port or 53)
