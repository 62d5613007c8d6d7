"""The certificate holds what its profile says, and nothing else: whatever the request asked for."""

from __future__ import annotations

from collections.abc import Iterator

from asn1crypto import x509

from policies import oids
from policies.lints import Finding, error
from policies.profiles import CertificateProfile

CLAUSE = "RFC 3647 4.7.1"

_KEY_USAGE_NAMES = {
    "digital_signature": "digital_signature",
    "non_repudiation": "content_commitment",
    "key_encipherment": "key_encipherment",
    "data_encipherment": "data_encipherment",
    "key_agreement": "key_agreement",
    "key_cert_sign": "key_cert_sign",
    "crl_sign": "crl_sign",
    "encipher_only": "encipher_only",
    "decipher_only": "decipher_only",
}
_CRITICAL = frozenset({"2.5.29.15", "2.5.29.19"})  # RFC 5280 4.2.1.3, 4.2.1.9
_EXTENDED_KEY_USAGE = "2.5.29.37"


def lint(certificate: x509.Certificate, profile: CertificateProfile) -> Iterator[Finding]:
    """Compare usages, constraints, extensions present and their criticality with the profile."""
    key_usage = certificate.key_usage_value
    usages = {_KEY_USAGE_NAMES[bit] for bit in key_usage.native} if key_usage else set()
    if usages != profile.key_usage:
        yield error("profile.key_usage", CLAUSE, f"keyUsage is {sorted(usages)}")
    constraints = certificate.basic_constraints_value
    wanted = profile.basic_constraints
    expected = (wanted.ca, wanted.path_length) if wanted else None
    found = (bool(constraints["ca"].native), constraints["path_len_constraint"].native) if constraints else None
    if found != expected:
        yield error("profile.basic_constraints", CLAUSE, f"basicConstraints is {found}")
    purposes = certificate.extended_key_usage_value
    identifiers = [purpose.dotted for purpose in purposes or ()]
    if identifiers != [oids.EXTENDED_KEY_USAGES[name] for name in profile.extended_key_usage]:
        yield error("profile.extended_key_usage", CLAUSE, f"extendedKeyUsage is {identifiers}")
    yield from _extensions(certificate, profile)


def _extensions(certificate: x509.Certificate, profile: CertificateProfile) -> Iterator[Finding]:
    present = [extension["extn_id"].dotted for extension in certificate["tbs_certificate"]["extensions"]]
    if len(present) != len(set(present)):
        yield error("extension.duplicate", "RFC 5280 4.2", "an extension appears twice")
    demanded, allowed = _demanded(profile), {"2.5.29.17"} if profile.alternative_names else set()
    if set(present) - allowed != demanded - allowed or not demanded <= set(present):
        yield error("profile.extensions", CLAUSE, f"extensions are {sorted(present)}")
    critical = {
        extension["extn_id"].dotted
        for extension in certificate["tbs_certificate"]["extensions"]
        if extension["critical"].native
    }
    expected = _CRITICAL & set(present) | ({_EXTENDED_KEY_USAGE} if profile.extended_key_usage_critical else set())
    if critical != expected:
        yield error("profile.criticality", "RFC 5280 4.2.1", f"critical extensions are {sorted(critical)}")


def _demanded(profile: CertificateProfile) -> set[str]:
    wanted = {
        "2.5.29.14": True,
        "2.5.29.15": True,
        "2.5.29.16": profile.private_key_usage_period is not None,
        "2.5.29.17": profile.alternative_name_required or any(name.required for name in profile.alternative_names),
        "2.5.29.19": profile.basic_constraints is not None,
        "2.5.29.31": profile.crl_distribution_point,
        "2.5.29.32": bool(profile.policies),
        "2.5.29.35": profile.authority_key_identifier,
        _EXTENDED_KEY_USAGE: bool(profile.extended_key_usage),
        "1.3.6.1.5.5.7.1.1": profile.authority_information_access,
        "1.3.6.1.5.5.7.48.1.5": profile.ocsp_no_check,
        oids.QC_STATEMENTS: profile.qualified is not None or profile.identifier_semantics is not None,
        oids.VALIDITY_ASSURED_SHORT_TERM: profile.validity_assured_short_term,
    }
    return {oid for oid, is_wanted in wanted.items() if is_wanted}
