"""Linting: pkilint with the profile's type, then our own lints; what they call an error is never signed.

Building pkilint's validators takes about a second, so it is done once, on first use or by ``warm_up``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import date
from typing import Any

from ca.errors import LintRefused
from policies.lints import Finding
from policies.lints.every import lint_certificate
from policies.profiles import CertificateProfile, load_profile, profile_names

_BLOCKING = frozenset({"FATAL", "ERROR", "WARNING"})


class Linter:
    """Holds the validators. Threads may share it: pkilint is plain Python, so the lock costs nothing."""

    def __init__(self, *, on_loopback: bool = False) -> None:
        """``on_loopback`` says that the instance's addresses are on its own machine, which some waivers ask for."""
        self._on_loopback = on_loopback
        self._lock = threading.Lock()
        self._validators: dict[str, Callable[[bytes], list[Finding]]] = {}

    def warm_up(self) -> None:
        """Load pkilint and build every validator that the profiles and CRLs name."""
        with self._lock:
            for kind in {load_profile(name).linter for name in profile_names()} | {"crl", "arl"}:
                self._validator(kind)

    def certificate_findings(self, der: bytes, profile: CertificateProfile) -> tuple[Finding, ...]:
        """Everything both linters say about a certificate."""
        with self._lock:
            theirs = self._validator(profile.linter)(der)
        return (*theirs, *lint_certificate(der, profile))

    def check_certificate(self, der: bytes, profile: CertificateProfile, today: date) -> tuple[Finding, ...]:
        """The findings that do not block. Raises LintRefused for an error, or a warning without a waiver in force."""
        waivers = [waiver for waiver in profile.waivers if today <= waiver.until]
        waived = {("WARNING", waiver.finding) for waiver in waivers if not waiver.only_on_loopback}
        if self._on_loopback:
            waived |= {
                (severity, waiver.finding)
                for waiver in waivers
                if waiver.only_on_loopback
                for severity in ("ERROR", "WARNING")
            }
        return _passed(self.certificate_findings(der, profile), waived)

    def check_crl(self, der: bytes, *, for_authorities: bool) -> tuple[Finding, ...]:
        """The findings about a CRL that do not block. Raises LintRefused."""
        with self._lock:
            findings = self._validator("arl" if for_authorities else "crl")(der)
        return _passed(findings, set())

    def _validator(self, kind: str) -> Callable[[bytes], list[Finding]]:
        if kind not in self._validators:
            self._validators[kind] = _build(kind)
        return self._validators[kind]


def _passed(findings: Iterable[Finding], waived: set[tuple[str, str]]) -> tuple[Finding, ...]:
    kept = tuple(findings)
    blocking = [f for f in kept if f.severity in _BLOCKING and (f.severity, f.code) not in waived]
    if blocking:
        codes = sorted({finding.code for finding in blocking})
        raise LintRefused(f"the linters refuse it: {', '.join(codes)}", findings=codes)
    return kept


def _build(kind: str) -> Callable[[bytes], list[Finding]]:
    if kind in ("crl", "arl"):
        return _crl_validator(kind)
    if kind.startswith("etsi:"):
        return _etsi_validator(kind.removeprefix("etsi:"))
    return _pkix_validator()


def _etsi_validator(name: str) -> Callable[[bytes], list[Finding]]:
    from pkilint import etsi, finding_filter, loader
    from pkilint.etsi.etsi_constants import CertificateType
    from pkilint.pkix import certificate

    kind = CertificateType.from_option_str(name)
    container = certificate.create_pkix_certificate_validator_container(
        etsi.create_decoding_validators(kind), etsi.create_validators(kind)
    )
    filters = etsi.create_etsi_finding_filters(kind)
    load = loader.load_der_certificate

    def findings(der: bytes) -> list[Finding]:
        results, _ = finding_filter.filter_results(filters, container.validate(load(der, "").root))
        return _findings(results)

    return findings


def _pkix_validator() -> Callable[[bytes], list[Finding]]:
    from pkilint import loader
    from pkilint.pkix import certificate, extension, name

    container = certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )
    return lambda der: _findings(container.validate(loader.load_der_certificate(der, "").root))


def _crl_validator(kind: str) -> Callable[[bytes], list[Finding]]:
    from pkilint import loader, pkix
    from pkilint.cabf import cabf_crl
    from pkilint.pkix import crl, extension, name

    crl_type = crl.CertificateRevocationListType[kind.upper()]
    container = crl.create_pkix_crl_validator_container(
        [
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container([cabf_crl.create_validity_period_validator(crl_type)]),
            crl.create_extensions_validator_container([]),
        ],
    )
    return lambda der: _findings(container.validate(loader.load_der_crl(der, "").root))


def _findings(results: Iterable[Any]) -> list[Finding]:
    return [
        Finding(
            code=str(description.finding.code),
            severity=str(description.finding.severity.name),
            clause=type(result.validator).__name__,
            message=description.message or "",
        )
        for result in results
        for description in result.finding_descriptions
    ]
