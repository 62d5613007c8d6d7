"""Alternative names: of the kinds that the profile takes, each well formed, none twice."""

from __future__ import annotations

from collections.abc import Iterator

from policies import names
from policies.lints import Finding, error
from policies.lints.shape import Slots
from policies.profiles import CertificateProfile


def lint(slots: Slots, profile: CertificateProfile) -> Iterator[Finding]:
    """RFC 5280 4.2.1.6, and nothing that a request might have slipped in."""
    allowed, given = {name.kind: name.required for name in profile.alternative_names}, slots.alternative_names
    for kind, text in given:
        if kind not in allowed:
            yield error("alternative_name.kind", "RFC 3647 4.7.1", f"the profile takes no names of kind {kind}")
            continue
        try:
            names.check_alternative_name(kind, text, wildcard="serverAuth" in profile.extended_key_usage)
        except names.NameRefused as refusal:
            yield error(f"alternative_name.{refusal.code.removeprefix('name.')}", "RFC 5280 4.2.1.6", str(refusal))
    if len(set(given)) != len(given):
        yield error("alternative_name.duplicate", "RFC 5280 4.2.1.6", "a name stands twice")
    missing = {kind for kind, required in allowed.items() if required} - {kind for kind, _ in given}
    if missing or (profile.alternative_name_required and not given):
        yield error("alternative_name.missing", "RFC 3647 4.7.1", f"names are missing: {sorted(missing)}")
