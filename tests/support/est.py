"""An EST client's half: requests made, bodies packed, answers unpacked by openssl, and strongSwan's client."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.tools import Ran, require_file, require_tool, run

BANK = {"O": "Example Bank", "organizationIdentifier": "NTRMN-1234567", "CN": "api.bank.example.mn"}
BANK_NAMES = [("URI", "https://api.bank.example.mn/"), ("DNS", "api.bank.example.mn")]
_OIDS = {
    "C": x509.NameOID.COUNTRY_NAME,
    "O": x509.NameOID.ORGANIZATION_NAME,
    "organizationIdentifier": x509.NameOID.ORGANIZATION_IDENTIFIER,
    "CN": x509.NameOID.COMMON_NAME,
}


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def general_name(kind: str, value: str) -> x509.GeneralName:
    if kind == "IP":
        return x509.IPAddress(ip_address(value))
    return x509.DNSName(value) if kind == "DNS" else x509.UniformResourceIdentifier(value)


def request(
    key: ec.EllipticCurvePrivateKey,
    *,
    subject: dict[str, str] | None = None,
    names: Sequence[tuple[str, str]] = (),
) -> bytes:
    """PKCS #10 in DER."""
    attributes = [x509.NameAttribute(_OIDS[label], text) for label, text in (subject or {"CN": "ignored"}).items()]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if names:
        general = [general_name(kind, value) for kind, value in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def request_like(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> bytes:
    """PKCS #10 in DER with the names of a certificate: what RFC 7030 4.2.2 asks of a renewal."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(certificate.subject)
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def body(csr: bytes, *, width: int | None = None, line_end: str = "\n") -> bytes:
    """A request's body: base64 on one line, or broken into lines of `width`."""
    text = base64.b64encode(csr).decode()
    return (line_end.join(textwrap.wrap(text, width)) + line_end if width else text).encode()


def certificates(answer: bytes) -> list[x509.Certificate]:
    """What a certs-only answer holds, and that it holds nothing else (RFC 5272 4.1)."""
    content = cms.ContentInfo.load(base64.b64decode(answer, validate=True))
    assert content["content_type"].native == "signed_data"
    signed = content["content"]
    assert len(signed["signer_infos"]) == 0 and signed["encap_content_info"]["content"].native is None
    return [x509.load_der_x509_certificate(each.dump()) for each in signed["certificates"]]


def write_key(key: ec.EllipticCurvePrivateKey, path: Path) -> Path:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def strongswan(*arguments: str | Path) -> Ran:
    """strongSwan's `pki`, with elliptic curves."""
    program = require_tool("pki", "strongswan-pki")
    require_file("/usr/lib/ipsec/plugins/libstrongswan-openssl.so", "libstrongswan-standard-plugins")
    return run(program, *arguments, timeout=60)
