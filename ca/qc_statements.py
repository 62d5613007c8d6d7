"""The qcStatements extension (RFC 3739 3.2.6, EN 319 412-5), for which the certificate library has no type."""

from __future__ import annotations

from asn1crypto import core

from policies import oids
from policies.profiles import QualifiedStatements

_TYPES = {"esign": oids.QC_TYPE_ESIGN, "eseal": oids.QC_TYPE_ESEAL}
_SEMANTICS = {"natural": oids.SEMANTICS_NATURAL, "legal": oids.SEMANTICS_LEGAL}


class _Statement(core.Sequence):  # type: ignore[misc]
    _fields = [("statement_id", core.ObjectIdentifier), ("statement_info", core.Any, {"optional": True})]


class _Statements(core.SequenceOf):  # type: ignore[misc]
    _child_spec = _Statement


class _Identifiers(core.SequenceOf):  # type: ignore[misc]
    _child_spec = core.ObjectIdentifier


class _Countries(core.SequenceOf):  # type: ignore[misc]
    _child_spec = core.PrintableString


class _Location(core.Sequence):  # type: ignore[misc]
    _fields = [("url", core.IA5String), ("language", core.PrintableString)]


class _Locations(core.SequenceOf):  # type: ignore[misc]
    _child_spec = _Location


def qc_statements(claims: QualifiedStatements, disclosure_url: str) -> bytes:
    """The DER of the extension's value. The order is fixed, because some validators read by position."""
    locations = [{"url": disclosure_url, "language": language} for language in claims.pds_languages]
    return bytes(
        _Statements(
            [
                {"statement_id": oids.QC_COMPLIANCE},  # EN 319 412-5 4.2.1
                _statement(oids.QC_PDS, _Locations(locations)),  # 4.3.4
                _statement(oids.QC_TYPE, _Identifiers([_TYPES[claims.type]])),  # 4.2.3
                _statement(oids.QC_CC_LEGISLATION, _Countries(list(claims.legislation))),  # 4.2.4
                _statement(oids.PKIX_QC_SYNTAX_V2, _Identifiers([_SEMANTICS[claims.semantics]])),  # EN 319 412-1 5.1
            ]
        ).dump()
    )


def identifier_semantics(semantics: str) -> bytes:
    """The DER of the extension's value when it says only what the subject's identifier means (EN 319 412-1 5.1)."""
    return bytes(_Statements([_statement(oids.PKIX_QC_SYNTAX_V2, _Identifiers([_SEMANTICS[semantics]]))]).dump())


def _statement(identifier: str, information: core.Asn1Value) -> dict[str, object]:
    return {"statement_id": identifier, "statement_info": core.Any(information)}
