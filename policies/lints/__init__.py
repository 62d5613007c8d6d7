"""Lints of our own: rules that the linter we use does not check, one file each, every finding with its clause.

A lint looks at the octets about to be signed, not at what the issuing code meant to write. Lints of a certificate read
everything that certificates of one shape share; lints of slots read what differs between them, so they run every time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from asn1crypto import x509

from policies.lints.shape import Slots
from policies.profiles import CertificateProfile


@dataclass(frozen=True)
class Finding:
    """Something a linter says. Severity: FATAL, ERROR, WARNING, NOTICE, INFO or DEBUG."""

    code: str
    severity: str
    clause: str
    message: str


Lint = Callable[[x509.Certificate, CertificateProfile], Iterable[Finding]]
SlotLint = Callable[[Slots, CertificateProfile], Iterable[Finding]]


def error(code: str, clause: str, message: str) -> Finding:
    """A finding that blocks."""
    return Finding(f"tamga.{code}", "ERROR", clause, message)


def extension_value(certificate: x509.Certificate, oid: str) -> bytes | None:
    """The octets inside an extension's OCTET STRING, or None when it is absent."""
    for extension in certificate["tbs_certificate"]["extensions"]:
        if extension["extn_id"].dotted == oid:
            return bytes(extension["extn_value"].contents)
    return None
