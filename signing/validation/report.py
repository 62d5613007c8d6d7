"""Reports: a verdict put into words and JSON. Decides nothing (S38: same verdict, same report)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from policies.signature_validation import Severity, SignatureValidationPolicy
from signing.validation.findings import Finding
from signing.validation.process import Indication, Result, SignatureVerdict, TimeStampVerdict, Verdict
from signing.validation.revocation import load_certificate
from signing.validation.sentences import next_step, sentence

NO_SIGNATURE_FOUND = "NO_SIGNATURE_FOUND"  # ours, not the standard's


@dataclass(frozen=True)
class ValidationReport:
    """A report as values. ``document_status`` is a main indication or NO_SIGNATURE_FOUND."""

    document_status: str
    sub_indication: str | None
    signature_count: int
    content: dict[str, Any]

    def simple(self) -> dict[str, Any]:
        """The simple report, ready for JSON; members are described in ``render``."""
        return self.content


def render(verdict: Verdict, language: str) -> ValidationReport:
    """The simple report in a language.

    Members: ``document_status``, ``sub_indication``, ``sentence``, ``signature_count``, ``document``, ``signatures``,
    ``document_time_stamps``, ``findings``, ``policy``, ``validation_time``, ``language``. Times are RFC 3339 in UTC.
    """
    status, sub_indication = _document_status(verdict)
    content = {
        "document_status": status,
        "sub_indication": sub_indication,
        "sentence": sentence("document", status, language),
        "signature_count": len(verdict.signatures),
        "document": {
            "sha256": verdict.facts.sha256,
            "size": verdict.facts.size,
            "pages": verdict.facts.pages,
            "revisions": verdict.facts.revisions,
            "unsigned_fields": list(verdict.facts.unsigned_fields),
        },
        "signatures": [_signature(entry, verdict.policy, language) for entry in verdict.signatures],
        "document_time_stamps": [
            _document_time_stamp(entry, verdict.policy, language) for entry in verdict.document_time_stamps
        ],
        "findings": _findings(verdict.findings, verdict.policy, language),
        "policy": {"id": verdict.policy.id, "version": verdict.policy.version, "digest": verdict.policy.digest},
        "validation_time": _time(verdict.at),
        "language": language,
    }
    return ValidationReport(status, sub_indication, len(verdict.signatures), content)


def _document_status(verdict: Verdict) -> tuple[str, str | None]:
    """The worst of the signatures; a file nobody can read fails whether or not it holds one."""
    results = [entry.result for entry in verdict.signatures]
    results += [e.result for e in verdict.document_time_stamps if e.result.indication is Indication.TOTAL_FAILED]
    for worst in (Indication.TOTAL_FAILED, Indication.INDETERMINATE):
        for result in results:
            if result.indication is worst:
                return worst.value, result.sub_indication.value if result.sub_indication else None
    if verdict.signatures:
        return Indication.TOTAL_PASSED.value, None
    if verdict.facts.pages is None:
        return Indication.TOTAL_FAILED.value, "FORMAT_FAILURE"
    return NO_SIGNATURE_FOUND, None


def _signature(entry: SignatureVerdict, policy: SignatureValidationPolicy, language: str) -> dict[str, Any]:
    facts = entry.facts
    return {
        "field_names": list(facts.field_names),
        **_outcome(entry.result, language),
        "signer": _party(facts.signer_certificate),
        "claimed_signing_time": _time(facts.claimed_signing_time),
        "best_signature_time": _time(entry.best_signature_time),
        "level": entry.level,
        "reason": facts.reason,
        "sub_filter": facts.sub_filter,
        "covered_octets": facts.covered,
        "modifications": _findings(entry.modifications, policy, language),
        "findings": _findings((*entry.result.findings, *entry.notes), policy, language, without=entry.modifications),
        "time_stamps": [_time_stamp(stamp, policy, language) for stamp in entry.time_stamps],
    }


def _document_time_stamp(entry: SignatureVerdict, policy: SignatureValidationPolicy, language: str) -> dict[str, Any]:
    return {
        "field_names": list(entry.facts.field_names),
        **_outcome(entry.result, language, time_stamp=True),
        "authority": _party(entry.facts.signer_certificate),
        "time": _time(entry.best_signature_time),
        "covered_octets": entry.facts.covered,
        "modifications": _findings(entry.modifications, policy, language),
        "findings": _findings((*entry.result.findings, *entry.notes), policy, language, without=entry.modifications),
    }


def _time_stamp(stamp: TimeStampVerdict, policy: SignatureValidationPolicy, language: str) -> dict[str, Any]:
    return {
        "time": _time(stamp.generation_time),
        **_outcome(stamp.result, language, time_stamp=True),
        "authority": _party(stamp.certificate),
        "findings": _findings(stamp.result.findings, policy, language),
    }


def _outcome(result: Result, language: str, *, time_stamp: bool = False) -> dict[str, Any]:
    sub_indication = result.sub_indication.value if result.sub_indication is not None else None
    section, name = ("time_stamp" if time_stamp else "indication"), result.indication.value
    if sub_indication is not None and not time_stamp:
        section, name = "sub_indication", sub_indication
    return {
        "indication": result.indication.value,
        "sub_indication": sub_indication,
        "sentence": sentence(section, name, language),
        "next_step": next_step(section, name, language, time=_time(result.try_after) or ""),
        "try_after": _time(result.try_after),
    }


def _findings(
    findings: Iterable[Finding], policy: SignatureValidationPolicy, language: str, without: Iterable[Finding] = ()
) -> list[dict[str, str]]:
    told = [entry for entry in dict.fromkeys(findings) if entry not in set(without)]
    return [
        {
            "code": entry.code,
            "severity": policy.severity(entry.code).value,
            "sentence": sentence("finding", entry.code, language),
            "detail": entry.detail,
        }
        for entry in told
        if policy.severity(entry.code) is not Severity.IGNORE
    ]


def _party(certificate: bytes | None) -> dict[str, Any] | None:
    """Who a certificate names. No attribute that may hold a personal number is repeated."""
    if certificate is None:
        return None
    try:
        parsed = load_certificate(certificate)
    except ValueError:
        return None
    return {
        "display_name": display_name(parsed),
        "organization": _attribute(parsed.subject, NameOID.ORGANIZATION_NAME),
        "issuer": _attribute(parsed.issuer, NameOID.COMMON_NAME),
        "certificate_serial": serial_text(parsed.serial_number),
        "not_before": _time(parsed.not_valid_before_utc),
        "not_after": _time(parsed.not_valid_after_utc),
    }


def serial_text(serial: int) -> str:
    """A serial number as it is shown everywhere: its octets in lower-case hexadecimal, two digits each."""
    return serial.to_bytes(max(1, (serial.bit_length() + 7) // 8), "big", signed=False).hex()


def display_name(certificate: x509.Certificate) -> str | None:
    """The subject's name for people: common name, else surname and given name, else organisation."""
    subject = certificate.subject
    names = [_attribute(subject, oid) for oid in (NameOID.SURNAME, NameOID.GIVEN_NAME)]
    return (
        _attribute(subject, NameOID.COMMON_NAME)
        or " ".join(name for name in names if name)
        or _attribute(subject, NameOID.ORGANIZATION_NAME)
    )


def _attribute(name: x509.Name, oid: x509.ObjectIdentifier) -> str | None:
    found = name.get_attributes_for_oid(oid)
    value = found[0].value if found else None
    if not isinstance(value, str):
        return None
    return "".join(character for character in value if character.isprintable())[:200]


def _time(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment is not None else None
