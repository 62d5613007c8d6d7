"""What the subject's identifier means, in certificates that claim no qualification."""

from __future__ import annotations

from collections.abc import Iterator

from asn1crypto import core, x509

from policies import oids
from policies.lints import Finding, error, extension_value
from policies.profiles import CertificateProfile

_SEMANTICS = {"natural": oids.SEMANTICS_NATURAL, "legal": oids.SEMANTICS_LEGAL}


def lint(certificate: x509.Certificate, profile: CertificateProfile) -> Iterator[Finding]:
    """EN 319 412-1 5.1: one statement, id-qcs-pkixQCSyntax-v2, with one identifier and no claim beside it."""
    if profile.identifier_semantics is None:
        return
    value = extension_value(certificate, oids.QC_STATEMENTS)
    if value is None:
        yield error("semantics.absent", "EN 319 412-1 5.1", "the identifier's semantics are not stated")
        return
    statements = [item.native for item in core.SequenceOf.load(value, spec=core.Sequence)]
    expected = {"0": oids.PKIX_QC_SYNTAX_V2, "1": {"0": _SEMANTICS[profile.identifier_semantics]}}
    if statements != [expected]:
        yield error("semantics", "EN 319 412-1 5.1", "more or other statements than the identifier's semantics")
