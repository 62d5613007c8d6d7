"""Certificates as a stranger gets them: by the addresses inside other certificates, as files for other tools."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtensionOID

from tests.support.web import Walker


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def serial_text(certificate: x509.Certificate) -> str:
    """As serials are written everywhere: the octets in lower-case hexadecimal."""
    serial = certificate.serial_number
    return serial.to_bytes((serial.bit_length() + 7) // 8, "big").hex()


def _access(certificate: x509.Certificate, method: x509.ObjectIdentifier) -> str | None:
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return None
    return next((str(each.access_location.value) for each in access if each.access_method == method), None)


def ocsp_address(certificate: x509.Certificate) -> str | None:
    """Where its status is asked (RFC 5280 4.2.2.1)."""
    return _access(certificate, AuthorityInformationAccessOID.OCSP)


def issuer_address(certificate: x509.Certificate) -> str | None:
    """Where its issuer's certificate lies (RFC 5280 4.2.2.1)."""
    return _access(certificate, AuthorityInformationAccessOID.CA_ISSUERS)


def crl_address(certificate: x509.Certificate) -> str | None:
    """Where its revocation list lies (RFC 5280 4.2.1.13)."""
    try:
        extension = certificate.extensions.get_extension_for_oid(ExtensionOID.CRL_DISTRIBUTION_POINTS)
    except x509.ExtensionNotFound:
        return None
    points = extension.value
    assert isinstance(points, x509.CRLDistributionPoints)
    return next(str(name.value) for point in points for name in point.full_name or ())


@dataclass(frozen=True)
class Chain:
    """A certificate and its issuers, leaf first, root last; and the revocation list of each issuer."""

    certificates: tuple[x509.Certificate, ...]

    @property
    def leaf(self) -> x509.Certificate:
        return self.certificates[0]

    @property
    def issuer(self) -> x509.Certificate:
        return self.certificates[1]

    @property
    def root(self) -> x509.Certificate:
        return self.certificates[-1]

    def write(self, folder: Path) -> Path:
        """leaf.pem, issuer.pem, root.pem, between.pem (what lies between), chain.pem (all); returns the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "leaf.pem").write_bytes(pem(self.leaf))
        (folder / "issuer.pem").write_bytes(pem(self.issuer))
        (folder / "root.pem").write_bytes(pem(self.root))
        (folder / "between.pem").write_bytes(pem(*self.certificates[1:-1]))
        (folder / "chain.pem").write_bytes(pem(*self.certificates))
        return folder


def follow(leaf: x509.Certificate, http: Walker) -> Chain:
    """Climb from a certificate to its root by the addresses inside."""
    climbed = [leaf]
    while climbed[-1].issuer != climbed[-1].subject:
        address = issuer_address(climbed[-1])
        assert address is not None, f"{climbed[-1].subject.rfc4514_string()} does not say where its issuer is"
        answer = http.get(address)
        assert answer.status == 200, f"{address}: {answer.status}"
        climbed.append(x509.load_der_x509_certificate(answer.body))
    return Chain(tuple(climbed))


def revocation_lists(certificates: Iterable[x509.Certificate], http: Walker) -> list[x509.CertificateRevocationList]:
    """The list each certificate points at."""
    found = []
    for certificate in certificates:
        address = crl_address(certificate)
        if address is not None:
            answer = http.get(address)
            assert answer.status == 200, f"{address}: {answer.status}"
            assert answer.content_type == "application/pkix-crl"  # RFC 2585 4.2
            found.append(x509.load_der_x509_crl(answer.body))
    return found
