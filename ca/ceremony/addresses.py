"""The words that an installation puts into certificates: its addresses, its country, its policy.

They decide octets of each certificate, so they stand in a plan that custodians sign and in each transcript, and whoever
verifies needs no configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any
from urllib.parse import urlsplit

from ca.settings import CaSettings


@dataclass(frozen=True)
class Addresses:
    """What the settings give to certificates."""

    base_url: str
    service_url: str
    country: str
    policy_oid: str
    pds_url: str

    @classmethod
    def of(cls, settings: CaSettings) -> Addresses:
        """Those of an installation, as they end up in certificates."""
        return cls(
            base_url=settings.certificate_base,
            service_url=settings.oidc_issuer,
            country=settings.country,
            policy_oid=settings.policy_oid,
            pds_url=settings.disclosure_url,
        )

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> Addresses:
        """From a plan's table or a transcript. Raises ValueError."""
        wanted = {each.name for each in fields(cls)}
        if set(table) != wanted or not all(isinstance(value, str) for value in table.values()):
            raise ValueError(f"[addresses] holds {', '.join(sorted(wanted))}")
        addresses = cls(**table)
        addresses.settings()  # refuses what no certificate may hold
        return addresses

    def table(self) -> dict[str, str]:
        """As the transcript keeps them."""
        return asdict(self)

    def settings(self) -> CaSettings:
        """Settings that put exactly these words into certificates. Raises ValueError."""
        return CaSettings(**asdict(self))

    @property
    def host(self) -> str:
        """The host of the OpenID issuer."""
        return urlsplit(self.service_url).hostname or ""

    def toml(self) -> str:
        """The table for a ceremony file."""
        lines = [f'{name} = "{value}"' for name, value in asdict(self).items()]
        return "\n".join(["[addresses]", *lines])
