"""Findings: what was seen, by name. Policies say what a finding means; sentences say it to people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Finding:
    """A named observation. ``detail`` is English and technical, for the detailed report."""

    code: str
    detail: str = ""


# Every name a finding may have; policies and sentences are complete over these.
CODES = frozenset(
    {
        "ALGORITHM",
        "ALGORITHM_WEAK",
        "ANNOTATION_OVER_CONTENT",
        "BYTE_RANGE",
        "CERTIFICATE_MALFORMED",
        "CHECKSUM_BROKEN",
        "CMS",
        "CMS_NOT_DER",
        "DOC_MDP_BREACH",
        "DOC_UNREADABLE",
        "DSS_OBJECT_UNREADABLE",
        "FIELD_LOCK_BREACH",
        "FORM_FILLED",
        "HYBRID_XREF",
        "ISSUER_NOT_ACCEPTED",
        "KEY_USAGE",
        "LEADING_BYTES",
        "LEVEL_TOO_LOW",
        "NO_REVOCATION_EVIDENCE",
        "PAGE_ADDED",
        "PAGE_REMOVED",
        "PAGE_TREE",
        "PARSER_LIMIT",
        "SEVERAL_FIELDS",
        "SIGNATURE_DICTIONARY",
        "SIGNATURE_DICTIONARY_CHANGED",
        "SIGNED_ATTRIBUTES",
        "SIGNER_INFO_COUNT",
        "SIGNING_CERTIFICATE_ATTRIBUTE",
        "SUB_FILTER",
        "SUSPENDED",
        "TIME_STAMP",
        "TIME_STAMP_BROKEN",
        "TIME_STAMP_NOT_TRUSTED",
        "TOKEN_IN_SIGNATURE",
        "TRAILING_BYTES",
        "UNDEFINED_CHANGE",
        "UNRELATED_CERTIFICATE",
        "UNSIGNED_ATTRIBUTE_UNKNOWN",
        "XREF_LOOP",
    }
)
