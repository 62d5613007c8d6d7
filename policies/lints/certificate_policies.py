"""Certificate policies: those of the profile, in its order, without qualifiers; a policy and its statements agree."""

from __future__ import annotations

from collections.abc import Iterator

from asn1crypto import x509

from policies import oids
from policies.lints import Finding, error
from policies.profiles import CertificateProfile

# EN 319 411-2 5.3: QCP-n speaks of signatures by natural persons, QCP-l of seals by legal persons.
_CLAIMED = {"QCP-n": ("esign", "natural"), "QCP-l": ("eseal", "legal")}


def lint(certificate: x509.Certificate, profile: CertificateProfile) -> Iterator[Finding]:
    """RFC 5280 4.2.1.4. What stands for ``CP`` is the installation's own identifier, which no lint knows."""
    found = [policy["policy_identifier"].dotted for policy in certificate.certificate_policies_value or ()]
    if len(found) != len(set(found)):
        yield error("policies.duplicate", "RFC 5280 4.2.1.4", "a policy stands twice")
    expected = [oids.CERTIFICATE_POLICIES_BY_NAME.get(name) for name in profile.policies]
    fits = len(found) == len(expected) and all(oid in (None, own) for oid, own in zip(expected, found, strict=False))
    unnamed = [own for oid, own in zip(expected, found, strict=False) if oid is None]
    if not fits or set(unnamed) & set(oids.CERTIFICATE_POLICIES_BY_NAME.values()):
        yield error("policies", "RFC 5280 4.2.1.4", f"policies are {found}")
    if any(policy["policy_qualifiers"].native for policy in certificate.certificate_policies_value or ()):
        yield error("policies.qualifier", "RFC 5280 4.2.1.4", "policy qualifiers are not used here")
    yield from _agreement(profile)


def _agreement(profile: CertificateProfile) -> Iterator[Finding]:
    claims = profile.qualified
    for name in profile.policies:
        if name in _CLAIMED and (claims is None or (claims.type, claims.semantics) != _CLAIMED[name]):
            yield error("policies.statements", "EN 319 411-2 5.3", f"{name} does not fit the qualified statements")
    if claims is not None and not set(profile.policies) & set(_CLAIMED):
        yield error("policies.statements", "EN 319 411-2 5.3", "qualified statements without a qualified policy")
