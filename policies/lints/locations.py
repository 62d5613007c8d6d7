"""Addresses inside certificates: plain http, one CRL shard, and the issuer's certificate beside the status service."""

from __future__ import annotations

from collections.abc import Iterator

from asn1crypto import x509

from policies.lints import Finding, error
from policies.profiles import CertificateProfile


def lint(certificate: x509.Certificate, profile: CertificateProfile) -> Iterator[Finding]:
    """RFC 5280 4.2.1.13 and 8: https would need a certificate checked before the certificate is."""
    points = certificate.crl_distribution_points_value
    urls = [name.native for point in points or () for name in point["distribution_point"].chosen]
    if profile.crl_distribution_point and len(urls) != 1:
        yield error("cdp.one", "BR 7.1.2.11.2", f"{len(urls)} distribution points")
    access = certificate.authority_information_access_value
    located = {entry["access_method"].native: entry["access_location"].native for entry in access or ()}
    if profile.authority_information_access:
        expected = {"ca_issuers", "ocsp"} if profile.ocsp_pointer else {"ca_issuers"}
        if set(located) != expected:
            yield error("aia.methods", "EN 319 412-2 4.4.1", f"access methods are {sorted(located)}")
    for url in [*urls, *located.values()]:
        if not str(url).startswith("http://"):
            yield error("location.scheme", "RFC 5280 8", f"{url} is not plain http")
