"""The names that stand in a certification request or certificate, read to be compared and never to be certified."""

from __future__ import annotations

from asn1crypto import csr as asn1_csr
from cryptography import x509

from ca.errors import CsrMalformed
from policies import names

Names = frozenset[tuple[str, str]]


def requested_subject(csr: bytes) -> tuple[tuple[str, str], ...]:
    """The subject of a request (DER): label or dotted identifier, and text, in order. Raises CsrMalformed."""
    try:
        subject = asn1_csr.CertificationRequest.load(csr)["certification_request_info"]["subject"].dump()
        return names.read_name(bytes(subject))
    except (ValueError, TypeError, KeyError) as error:
        raise CsrMalformed("the request's subject cannot be read") from error


def requested_alternative_names(csr: bytes) -> Names:
    """The subjectAltName values that a request (DER) asks for; none is an empty set. Raises CsrMalformed."""
    try:
        return _alternative_names(x509.load_der_x509_csr(csr).extensions)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise CsrMalformed("the request's extensions cannot be read") from error


def certified_subject(certificate: bytes) -> tuple[tuple[str, str], ...]:
    """The subject of a certificate of ours (DER)."""
    return names.read_name(names.subject_of(certificate))


def certified_alternative_names(certificate: bytes) -> tuple[tuple[str, str], ...]:
    """The subjectAltName values of a certificate of ours (DER), in order."""
    return tuple(_listed(x509.load_der_x509_certificate(certificate).extensions))


def canonical(name: tuple[str, str]) -> tuple[str, str]:
    """A name as it is compared: host names have no case (RFC 4343)."""
    kind, value = name
    return (kind, value.lower() if kind == "DNS" else value)


def _alternative_names(extensions: x509.Extensions) -> Names:
    return frozenset(canonical(name) for name in _listed(extensions))


def _listed(extensions: x509.Extensions) -> list[tuple[str, str]]:
    try:
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [_pair(name) for name in found]


def _pair(name: x509.GeneralName) -> tuple[str, str]:
    if isinstance(name, x509.DNSName):
        return "DNS", name.value
    if isinstance(name, x509.IPAddress):
        return "IP", str(name.value)
    if isinstance(name, x509.UniformResourceIdentifier):
        return "URI", name.value
    # Compared only, and equal to nothing that a profile of ours holds.
    return type(name).__name__, repr(name)
