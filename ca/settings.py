"""The certificate authority's knobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ca.acme.settings import AcmeSettings
from ca.est.settings import EstSettings


@dataclass(frozen=True)
class QuorumSettings:
    """How many officers beside the one who asks must sign, by what is asked for."""

    role_change: int = 1
    """Enrolling, changing and retiring officers."""

    profile_change: int = 1
    """First use of a new version of a certificate profile."""

    mass_revocation: int = 2
    """Revoking or suspending more than one certificate at once."""

    ceremony: int = 2
    """Acts of an authority's key: ceremonies, new generations, cross-certificates."""

    other: int = 1
    """Everything else that asks for approval."""

    def __post_init__(self) -> None:
        """Nothing that needs approval is approved by nobody."""
        if not all(1 <= getattr(self, name) <= 10 for name in self.__dataclass_fields__):
            raise ValueError("a quorum is 1 to 10 officers")

    def of(self, kind: str) -> int:
        """The number for requests of this kind, such as ``role-change``."""
        name = kind.replace("-", "_")
        return int(getattr(self, name)) if name in self.__dataclass_fields__ else self.other


@dataclass(frozen=True)
class CaSettings:
    """What an operator decides about the certificate authority."""

    base_url: str = "http://localhost:8080"
    """Stands before every address inside certificates; plain http, because checking https would need a certificate
    (RFC 5280 8). Addresses live as long as the certificates: changing this means a new generation of CAs."""

    service_url: str = ""
    """The OpenID issuer that a ceremony file may name as ``{issuer}`` and ``{host}``; empty means ``base_url``."""

    country: str = "MN"
    """C of every subject, and the country in identifiers of EN 319 412-1."""

    policy_oid: str = "1.3.6.1.4.1.32473.1.1"
    """The certificate policy. The default lies in the arc for documentation (RFC 5612): name your own."""

    pds_url: str = ""
    """PKI disclosure statement in English (EN 319 412-5 4.3.4), https; empty means ``/pds/en.pdf`` of the base URL's
    host."""

    instance: int = 1
    """First octet of serial numbers, 1 to 127; every installation that signs for the same CA takes its own."""

    crl_lifetime_hours: int = 168
    """nextUpdate of an issuing CA's CRL; at most 240 hours (BR 7.2)."""

    ca_crl_lifetime_days: int = 364
    """nextUpdate of the root's CRL; at most 12 months (BR 7.2)."""

    trust_list_key: str = "token-signing-1"
    """The P-256 key in the token that signs the trust list; its public half is at the OpenID issuer's jwks_uri."""

    est: EstSettings = field(default_factory=EstSettings)
    """Enrolment over Secure Transport."""

    intent_expiry_seconds: int = 60
    """An issuance that has not ended after this long is taken for dead and settled."""

    weak_key_lists: tuple[str, ...] = ()
    """Files with keys that are never certified, in the form of Debian's openssl-blacklist (BR 6.1.1.3)."""

    lint_workers: int = 1
    """Processes in which the linter runs, for each process that issues; with 0 it runs in the issuing process."""

    full_lint_one_in: int = 50
    """One certificate in so many is linted in full although its shape is known; 1 lints every one in full."""

    approval_days: int = 7
    """How long a request for approval may be signed and used."""

    officers_share_accounts: bool = False
    """Whether several officers may be known by one account of the system; their keys then tell them apart."""

    quorum: QuorumSettings = field(default_factory=QuorumSettings)

    acme: AcmeSettings = field(default_factory=AcmeSettings)

    def __post_init__(self) -> None:
        """Refuse values that would end up in certificates and be wrong there."""
        url = urlsplit(self.base_url)
        if url.scheme != "http" or not url.netloc or self.base_url.endswith("/"):
            raise ValueError("base_url must be http://host[:port] without a slash at its end")
        if not 1 <= self.instance <= 127:
            raise ValueError("instance must be 1 to 127")
        if not 1 <= self.crl_lifetime_hours <= 240 or not 1 <= self.ca_crl_lifetime_days <= 365:
            raise ValueError("a CRL lives at most 240 hours, a root's at most 365 days")
        if not 0 <= self.lint_workers <= 16 or not 1 <= self.full_lint_one_in <= 10_000:
            raise ValueError("lint_workers is 0 to 16, full_lint_one_in 1 to 10000")
        if not 1 <= self.approval_days <= 90:
            raise ValueError("approval_days must be 1 to 90")
        if self.pds_url and not self.pds_url.startswith("https://"):
            raise ValueError("pds_url must begin with https://")

    @property
    def certificate_base(self) -> str:
        """``base_url`` as it may stand in certificates: ``localhost`` is no fully qualified name (RFC 5280 4.2.1.6)."""
        return _qualified(self.base_url)

    @property
    def on_loopback(self) -> bool:
        """Whether the addresses in certificates are on this machine, as in development."""
        return urlsplit(self.certificate_base).hostname in ("127.0.0.1", "::1")

    @property
    def development(self) -> bool:
        """Whether nobody but this machine can reach the instance, so that it may do without officers."""
        return self.on_loopback and urlsplit(self.oidc_issuer).scheme == "http"

    @property
    def ocsp_url(self) -> str:
        """Where status is asked."""
        return f"{self.certificate_base}/ocsp"

    @property
    def disclosure_url(self) -> str:
        """Where the PKI disclosure statement is."""
        return self.pds_url or f"https://{urlsplit(self.certificate_base).hostname}/pds/en.pdf"

    @property
    def oidc_issuer(self) -> str:
        """The OpenID issuer as it may stand in a certificate."""
        return _qualified(self.service_url or self.base_url)

    def crl_url(self, issuer: str, shard: str) -> str:
        """Where one shard of an issuer's CRL is; the exact octets stand in CDP and IDP."""
        return f"{self.certificate_base}/crl/{issuer}/{shard}.crl"

    def aia_url(self, issuer: str) -> str:
        """Where an issuer's own certificate is."""
        return f"{self.certificate_base}/aia/{issuer}.cer"


def _qualified(url: str) -> str:
    parts = urlsplit(url)
    if parts.hostname != "localhost":
        return url
    return parts._replace(netloc="127.0.0.1" + (f":{parts.port}" if parts.port else "")).geturl()
