"""The statements of a qualified certificate without a claim on the device (QCP-n, QCP-l), complete and in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from asn1crypto import core, x509

from policies import oids
from policies.lints import Finding, error, extension_value
from policies.profiles import CertificateProfile

_SEMANTICS = {"natural": oids.SEMANTICS_NATURAL, "legal": oids.SEMANTICS_LEGAL}
_TYPES = {"esign": oids.QC_TYPE_ESIGN, "eseal": oids.QC_TYPE_ESEAL}
_ORDER = [oids.QC_COMPLIANCE, oids.QC_PDS, oids.QC_TYPE, oids.QC_CC_LEGISLATION, oids.PKIX_QC_SYNTAX_V2]


def lint(certificate: x509.Certificate, profile: CertificateProfile) -> Iterator[Finding]:
    """Check the statements against the profile; certificates that claim nothing are not looked at."""
    if profile.qualified is None:
        return
    value = extension_value(certificate, oids.QC_STATEMENTS)
    if value is None:
        yield error("qc.absent", "EN 319 412-2 4.5", "a qualified certificate carries qcStatements")
        return
    statements = [core.Sequence.load(item.dump()) for item in core.SequenceOf.load(value, spec=core.Sequence)]
    identifiers = [statement[0].native for statement in statements]
    information = {s[0].native: s[1].native for s in statements if len(s) > 1}
    if oids.QC_SSCD in identifiers:
        yield error("qc.sscd", "EN 319 412-5 4.2.2", "QcSSCD is claimed without proof of a qualified device")
    if identifiers != _ORDER:
        yield error("qc.statements", "EN 319 412-5 4.2, 4.3", f"statements are {identifiers}")
        return
    claims = profile.qualified
    if list(_values(information[oids.QC_TYPE])) != [_TYPES[claims.type]]:
        yield error("qc.type", "EN 319 412-5 4.2.3", "QcType differs from the profile")
    if list(_values(information[oids.QC_CC_LEGISLATION])) != list(claims.legislation):
        yield error("qc.legislation", "EN 319 412-5 4.2.4", "QcCClegislation differs from the profile")
    if list(_values(information[oids.PKIX_QC_SYNTAX_V2])) != [_SEMANTICS[claims.semantics]]:
        yield error("qc.semantics", "EN 319 412-1 5.1", "the semantics identifier differs from the profile")
    yield from _disclosure(information[oids.QC_PDS])


def _disclosure(locations: object) -> Iterator[Finding]:
    languages = []
    for location in _values(locations):
        url, language = list(_values(location))
        languages.append(language)
        if not str(url).startswith("https://"):
            yield error("qc.pds_url", "EN 319 412-5 4.3.4", "a disclosure statement is fetched over https")
    if "en" not in languages or any(language != str(language).lower() for language in languages):
        yield error("qc.pds_language", "EN 319 412-5 4.3.4", "languages are lower case, English among them")


def _values(native: object) -> Iterator[object]:
    """The members of a native SEQUENCE, which may have come as a mapping or a list."""
    if isinstance(native, Mapping):
        yield from native.values()
    elif isinstance(native, list | tuple):
        yield from native
