"""Names looked up for validations, by the name servers that the operator chose."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ca.acme.errors import DnsFailed
from ca.acme.settings import resolver_address

if TYPE_CHECKING:
    import dns.resolver

MAX_TEXTS = 50


class Resolver:
    """Asks recursive name servers; nothing is cached, so that each attempt sees what is there now."""

    def __init__(self, *, servers: Sequence[str], timeout: float) -> None:
        self._servers = tuple(servers)
        self._timeout = timeout

    def addresses(self, name: str) -> tuple[str, ...]:
        """Every address of a name, IPv4 first; an address stands for itself. Raises DnsFailed."""
        try:
            return (str(ipaddress.ip_address(name)),)
        except ValueError:
            pass
        found = [str(record.address) for kind in ("A", "AAAA") for record in self._ask(name, kind)]
        if not found:
            raise DnsFailed(f"{name} has no address")
        return tuple(found)

    def texts(self, name: str) -> tuple[bytes, ...]:
        """The texts of a name's TXT records, each with its strings joined. Raises DnsFailed."""
        return tuple(b"".join(record.strings) for record in self._ask(name, "TXT")[:MAX_TEXTS])

    def authorities(self, name: str) -> tuple[tuple[int, str, str], ...]:
        """The CAA records that hold for a name (RFC 8659 3): flags, tag in lower case and value; the nearest set of
        the name and those above it. Raises DnsFailed."""
        labels = name.split(".")
        for first in range(len(labels)):
            found = self._ask(".".join(labels[first:]), "CAA")
            if found:
                return tuple((r.flags, r.tag.decode().lower(), r.value.decode(errors="replace")) for r in found)
        return ()

    def _ask(self, name: str, kind: str) -> list[Any]:
        import dns.exception
        import dns.resolver

        try:
            return list(self._resolver().resolve(name + ".", kind, search=False))
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except dns.exception.DNSException as error:
            raise DnsFailed(f"the name servers did not say {kind} of {name}") from error

    def _resolver(self) -> dns.resolver.Resolver:
        import dns.resolver

        resolver = dns.resolver.Resolver(configure=not self._servers)
        addresses = [resolver_address(server) for server in self._servers]
        if addresses:
            resolver.nameservers = [address for address, _ in addresses]
            resolver.nameserver_ports = dict(addresses)
        resolver.timeout = resolver.lifetime = self._timeout
        return resolver
