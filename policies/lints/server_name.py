"""A server's common name repeats one of its alternative names, which alone are looked at."""

from __future__ import annotations

from collections.abc import Iterator

from policies.lints import Finding, error
from policies.lints.shape import Slots
from policies.profiles import CertificateProfile


def lint(slots: Slots, profile: CertificateProfile) -> Iterator[Finding]:
    """BR 7.1.4.3; authorities that may issue to servers have names of their own kind."""
    if "serverAuth" not in profile.extended_key_usage or not profile.alternative_names:
        return
    shown = {attribute.text for attribute in slots.subject if attribute.label == "CN"}
    if not shown <= {text for _, text in slots.alternative_names}:
        yield error("server_name.common_name", "BR 7.1.4.3", "CN is none of the alternative names")
