"""Facts of a document: revisions, signatures, time-stamps, evidence, later changes. No opinion, clock or network.

Imports pyHanko inside functions: half a second that only a worker pays.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes

from signing import revision_checksum
from signing.document_errors import DocEncrypted, DocumentError, DocUnreadable, ParserLimit
from signing.documents import MAX_DOCUMENT_OCTETS, check_form
from signing.validation import cms, der, time_stamps
from signing.validation.cms import AlgorithmUnknown, CmsError, SignedData
from signing.validation.findings import Finding
from signing.validation.revocation import Evidence, is_readable, load_certificate

if TYPE_CHECKING:
    from pyhanko.pdf_utils.reader import PdfFileReader

    from signing.validation.modification import Restrictions, Revisions

SIGNATURE, DOCUMENT_TIME_STAMP = "signature", "document_time_stamp"
_CMS_SUB_FILTERS = ("/ETSI.CAdES.detached", "/adbe.pkcs7.detached")
_RFC3161 = "/ETSI.RFC3161"
_UPPER, _LOWER = frozenset(b"0123456789ABCDEF"), frozenset(b"0123456789abcdef")


@dataclass(frozen=True)
class TimeStampFacts:
    """A signature-time-stamp as found. ``findings`` say why it cannot be used, if it cannot."""

    token: time_stamps.TimeStampToken | None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class SignatureFacts:
    """One signature or document time-stamp. ``structure`` breaks the format, ``modifications`` came after signing."""

    field_names: tuple[str, ...]
    kind: str
    sub_filter: str | None = None
    byte_range: tuple[int, int, int, int] | None = None
    revision: int = -1  # counted from 0
    claimed_signing_time: datetime | None = None
    reason: str | None = None
    signed_data: SignedData | None = None
    content_digest: bytes | None = None  # None when its algorithm is unknown
    signer_certificate: bytes | None = None
    token: time_stamps.TimeStampToken | None = None  # of a document time-stamp
    time_stamps: tuple[TimeStampFacts, ...] = ()
    structure: tuple[Finding, ...] = ()
    modifications: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()
    counted: bool = True

    @property
    def covered(self) -> int:
        """How many octets from the start the byte range reaches."""
        return self.byte_range[2] + self.byte_range[3] if self.byte_range else 0

    @property
    def is_broken(self) -> bool:
        """Whether it fails by itself, whoever made it: structure, later changes, digest or signature value."""
        harmless = {"FORM_FILLED"}
        if self.structure or any(finding.code not in harmless for finding in self.modifications):
            return True
        if not self.counted:
            return False
        return not self._verifies()

    def _verifies(self) -> bool:
        try:
            if self.token is not None:
                time_stamps.verify_token_signature(self.token, self.signer_certificate)
                return self.content_digest == self.token.message_imprint
            if self.signed_data is None or self.signer_certificate is None or self.content_digest is None:
                return False
            cms.verify_message_digest(self.signed_data, self.content_digest)
            key = load_certificate(self.signer_certificate).public_key()
            cms.verify_signature(self.signed_data, key, self.content_digest)
        except (CmsError, cms.HashMismatch, cms.SignatureMismatch, AlgorithmUnknown, ValueError):
            return False
        return True


@dataclass(frozen=True)
class DocumentFacts:
    """A document as it lies there. ``evidence`` comes from its DSS; ``findings`` are about the file as a whole."""

    size: int
    sha256: str
    pages: int | None
    revisions: int
    signatures: tuple[SignatureFacts, ...]
    evidence: Evidence
    findings: tuple[Finding, ...] = ()
    unsigned_fields: tuple[str, ...] = field(default=())


def gather(data: bytes, *, limit: int = MAX_DOCUMENT_OCTETS) -> DocumentFacts:
    """Read everything a verdict needs.

    Raises EmptyBody, NotAPdf, UnsupportedFormat, TooLarge, DocEncrypted; any other damage is a finding.
    """
    check_form(data, limit=limit)
    start = data.index(b"%PDF-")
    leading = (Finding("LEADING_BYTES", f"{start} octets before the header"),) if start else ()
    from signing import pdf_structure

    try:
        facts = _read(data[start:], pdf_structure.read(data[start:]))
    except DocEncrypted:
        raise
    except ParserLimit as error:
        return unreadable(data, *leading, Finding("PARSER_LIMIT", error.detail))
    except RecursionError:
        return unreadable(data, *leading, Finding("PARSER_LIMIT", "nesting"))
    except pdf_structure.DOCUMENT_FAULTS as error:
        detail = error.detail if isinstance(error, DocumentError) else type(error).__name__
        return unreadable(data, *leading, Finding("DOC_UNREADABLE", detail))
    return replace(facts, size=len(data), sha256=cms.sha256(data), findings=(*leading, *facts.findings))


def unreadable(data: bytes, *findings: Finding) -> DocumentFacts:
    """The facts of a file that no signature could be read from, with the reasons."""
    return DocumentFacts(len(data), cms.sha256(data), None, 0, (), Evidence(), findings)


def _read(data: bytes, reader: PdfFileReader) -> DocumentFacts:
    from signing import pdf_structure
    from signing.validation.modification import Revisions

    findings: list[Finding] = []
    if reader.xrefs.hybrid_xrefs_present:
        findings.append(Finding("HYBRID_XREF", "two forms of cross-references"))
    pages: int | None = None
    try:
        pages = len(pdf_structure.pages(reader))
    except DocUnreadable as error:
        findings.append(Finding("PAGE_TREE", error.detail))
    fields = pdf_structure.signature_fields(reader)
    evidence, unreadable = _security_store(reader)
    findings += unreadable
    names = frozenset(name for name, _, _ in fields)
    revisions = Revisions(reader)
    groups = _grouped(fields)
    signatures = tuple(_signature(data, reader, revisions, names, group, evidence.certificates) for group in groups)
    signatures = _with_paint(signatures, revisions, fields)
    findings += _tail_findings(data, reader, signatures)
    ordered = tuple(sorted(signatures, key=lambda signature: (signature.covered, signature.field_names)))
    unsigned = tuple(name for name, value, _ in fields if not pdf_structure.is_signed(value))
    count = reader.xrefs.total_revisions
    return DocumentFacts(len(data), "", pages, count, ordered, evidence, tuple(findings), unsigned)


def _grouped(fields: list[tuple[str, Any, Any]]) -> list[list[tuple[str, Any, Any]]]:
    """Filled fields, those that share one signature dictionary together (trap P11)."""
    from signing import pdf_structure

    groups: dict[object, list[tuple[str, Any, Any]]] = {}
    for name, value, pointer in fields:
        if not pdf_structure.is_signed(value):
            continue
        try:
            raw = pointer.get_object().raw_get("/V")
            key: object = (raw.idnum, raw.generation)
        except (KeyError, AttributeError):
            key = name
        groups.setdefault(key, []).append((name, value, pointer))
    return list(groups.values())


def _signature(
    data: bytes,
    reader: PdfFileReader,
    revisions: Revisions,
    names: frozenset[str],
    group: list[tuple[str, Any, Any]],
    known: tuple[bytes, ...],
) -> SignatureFacts:
    """One signature's facts; whatever goes wrong concerns this one alone (trap P10)."""
    from signing import pdf_structure

    field_names = tuple(name for name, _, _ in group)
    notes = (Finding("SEVERAL_FIELDS", ", ".join(field_names)),) if len(group) > 1 else ()
    facts = SignatureFacts(field_names, SIGNATURE, notes=notes)
    try:
        facts = _dictionary_facts(facts, group[0][1])
        facts = _with_byte_range(facts, data, group[0][1])
        facts = _with_cms(facts, data, known)
        return _with_modifications(facts, data, reader, revisions, names, group[0])
    except CmsError as error:
        return replace(facts, structure=(*facts.structure, Finding(error.finding, str(error))))
    except der.MalformedDer as error:
        return replace(facts, structure=(*facts.structure, Finding("CMS", str(error))))
    except pdf_structure.DOCUMENT_FAULTS as error:
        return replace(facts, structure=(*facts.structure, Finding("SIGNATURE_DICTIONARY", type(error).__name__)))


def _dictionary_facts(facts: SignatureFacts, value: Any) -> SignatureFacts:
    from pyhanko.pdf_utils import generic

    from signing.pdf_structure import entry

    if not isinstance(value, generic.DictionaryObject):
        raise CmsError("SIGNATURE_DICTIONARY", "the field's value is not a dictionary")
    kind, sub_filter, reason = entry(value, "/Type"), entry(value, "/SubFilter"), entry(value, "/Reason")
    is_token = kind == "/DocTimeStamp" or (sub_filter == _RFC3161 and kind != "/Sig")
    return replace(
        facts,
        kind=DOCUMENT_TIME_STAMP if is_token else SIGNATURE,
        sub_filter=str(sub_filter).lstrip("/") if sub_filter is not None else None,
        claimed_signing_time=_claimed_time(value),
        reason=_plain(reason) if isinstance(reason, str) else None,
    )


def _plain(text: str) -> str:
    return "".join(character for character in text if character.isprintable())[:200]


def _claimed_time(value: Any) -> datetime | None:
    from pyhanko.pdf_utils.generic import parse_pdf_date

    from signing import pdf_structure

    try:
        moment = parse_pdf_date(value["/M"], strict=False)
    except pdf_structure.PARSER_FAULTS:
        return None
    return moment if isinstance(moment, datetime) and moment.tzinfo is not None else None


def _with_byte_range(facts: SignatureFacts, data: bytes, value: Any) -> SignatureFacts:
    """ISO 32000-2 12.8.1: from the first octet, around /Contents and nothing else, within the file."""
    from pyhanko.pdf_utils import generic

    from signing.pdf_structure import entry

    numbers = entry(value, "/ByteRange")
    if not isinstance(numbers, generic.ArrayObject) or len(numbers) != 4:
        raise CmsError("SIGNATURE_DICTIONARY" if numbers is None else "BYTE_RANGE", "/ByteRange is not four numbers")
    if not all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers):
        raise CmsError("BYTE_RANGE", "/ByteRange holds something else than non-negative integers")
    start, before, after, length = (int(number) for number in numbers)
    facts = replace(facts, byte_range=(start, before, after, length))
    if start != 0 or not 0 < before < after or after + length > len(data):
        raise CmsError("BYTE_RANGE", "the byte range does not start at 0, overlaps or leaves the file")
    gap = data[before:after]
    contents = value.raw_get("/Contents", decrypt=generic.EncryptedObjAccess.RAW) if "/Contents" in value else None
    octets = getattr(contents, "original_bytes", None)
    if not isinstance(octets, bytes):
        raise CmsError("SIGNATURE_DICTIONARY", "/Contents is absent or not a string")
    digits = frozenset(gap[1:-1])
    if gap[:1] != b"<" or gap[-1:] != b">" or not (digits <= _UPPER or digits <= _LOWER) or len(gap) % 2:
        raise CmsError("BYTE_RANGE", "the gap in the byte range is not one hexadecimal string")
    if bytes.fromhex(gap[1:-1].decode("ascii")) != octets:
        raise CmsError("BYTE_RANGE", "the gap in the byte range is not /Contents")
    return facts


def _with_cms(facts: SignatureFacts, data: bytes, known: tuple[bytes, ...]) -> SignatureFacts:
    byte_range = facts.byte_range
    assert byte_range is not None  # noqa: S101 - _with_byte_range went before
    _, before, after, _ = byte_range
    contents = bytes.fromhex(data[before + 1 : after - 1].decode("ascii"))
    value, rest = _split_padding(contents)
    if rest.strip(b"\x00"):
        raise CmsError("CMS", "octets other than zero padding follow the CMS")
    if facts.kind == SIGNATURE and f"/{facts.sub_filter}" not in (*_CMS_SUB_FILTERS, _RFC3161):
        raise CmsError("SUB_FILTER", f"{facts.sub_filter} is not a form this software checks")
    signed = cms.parse_signed_data(value)
    # EN 319 142-1 6.3: a PAdES signature carries the signer's certificate itself.
    elsewhere = () if facts.sub_filter == "ETSI.CAdES.detached" else known
    facts = replace(facts, signed_data=signed, signer_certificate=time_stamps.find_signer(signed, elsewhere))
    if not signed.is_der:
        facts = replace(facts, notes=(*facts.notes, Finding("CMS_NOT_DER", "BER encoded")))
    if facts.kind == DOCUMENT_TIME_STAMP:
        token = time_stamps.parse_token(value)
        return replace(facts, token=token, content_digest=_range_digest(data, byte_range, token.hash_algorithm))
    if signed.content_type == cms.ID_TST_INFO:
        note = Finding("TOKEN_IN_SIGNATURE", "a time-stamp token where a signature should be")
        return replace(facts, counted=False, notes=(*facts.notes, note))
    if signed.content is not None or signed.content_type != cms.ID_DATA:
        raise CmsError("CMS", "the signed content must be detached data")
    cms.check_algorithm_protection(signed.signer)
    digest = _range_digest(data, byte_range, signed.signer.digest_algorithm)
    if signed.signer.signed_attributes_raw is None and facts.sub_filter == "ETSI.CAdES.detached":
        raise CmsError("SIGNED_ATTRIBUTES", "there are no signed attributes")
    return replace(facts, content_digest=digest, time_stamps=tuple(_signature_time_stamps(signed)))


def _split_padding(contents: bytes) -> tuple[bytes, bytes]:
    if contents[1:2] == b"\x80":  # BER with indefinite length, in old signatures
        _value, length = der.from_ber(contents)
        return contents[:length], contents[length:]
    element, rest = der.parse_first(contents)
    return element.raw, rest


def _range_digest(data: bytes, byte_range: tuple[int, int, int, int], algorithm: str) -> bytes | None:
    try:
        hasher = hashes.Hash(cms.hash_algorithm(algorithm))
    except AlgorithmUnknown:
        return None
    start, before, after, length = byte_range
    hasher.update(memoryview(data)[start : start + before])
    hasher.update(memoryview(data)[after : after + length])
    return hasher.finalize()


def _signature_time_stamps(signed: SignedData) -> Iterator[TimeStampFacts]:
    for value in signed.signer.unsigned(cms.ID_SIGNATURE_TIME_STAMP):
        try:
            token = time_stamps.parse_token(value.raw)
            time_stamps.verify_token(token, signed.signer.signature)
        except (CmsError, cms.HashMismatch, cms.SignatureMismatch, AlgorithmUnknown, ValueError) as error:
            yield TimeStampFacts(None, (Finding("TIME_STAMP_BROKEN", str(error)),))
        else:
            yield TimeStampFacts(token)


def _with_modifications(
    facts: SignatureFacts,
    data: bytes,
    reader: PdfFileReader,
    revisions: Revisions,
    names: frozenset[str],
    located: tuple[str, Any, Any],
) -> SignatureFacts:
    _name, value, pointer = located
    raw = pointer.get_object().raw_get("/V")
    reference = raw.reference if hasattr(raw, "reference") else pointer.reference
    revision = reader.xrefs.get_last_change(reference)
    facts = replace(facts, revision=revision)
    if not _covers_revision(facts, reader, data, revision):
        changed = revision > reader.xrefs.get_introducing_revision(reference)
        name = "SIGNATURE_DICTIONARY_CHANGED" if changed else "BYTE_RANGE"
        return replace(
            facts, structure=(*facts.structure, Finding(name, "the byte range does not end with its revision"))
        )
    if facts.covered < len(data) and not revisions.are_contained(data[: facts.covered], revision):
        detail = "what is signed reads differently without the octets after it"
        return replace(facts, structure=(*facts.structure, Finding("BYTE_RANGE", detail)))
    found = tuple(dict.fromkeys(revisions.changes_after(revision, _restrictions(value, pointer), names)))
    return replace(facts, modifications=found)


def _with_paint(
    signatures: tuple[SignatureFacts, ...], revisions: Revisions, fields: list[tuple[str, Any, Any]]
) -> tuple[SignatureFacts, ...]:
    """Only a signature may show itself on a page that is signed already (ISO 32000-2 12.8.5: time-stamps do not).

    A field without one could cover the page with anything, and no verdict would speak about it.
    """
    own = {name for entry in signatures if entry.kind == SIGNATURE and entry.counted for name in entry.field_names}
    others = [pointer.reference for name, _, pointer in fields if name not in own]
    note = Finding("ANNOTATION_OVER_CONTENT", "a field without a signature")
    return tuple(
        replace(entry, modifications=(*entry.modifications, note))
        if entry.revision >= 0 and revisions.are_painted_over(entry.revision, others)
        else entry
        for entry in signatures
    )


def _covers_revision(facts: SignatureFacts, reader: PdfFileReader, data: bytes, revision: int) -> bool:
    """Whether the byte range ends exactly where the revision does that holds the signature."""
    if facts.covered == len(data):
        return bool(revision == reader.xrefs.total_revisions - 1)
    end = _START_XREF.search(data[max(facts.covered - 128, 0) : facts.covered])
    if end is None or int(end.group(1)) != reader.xrefs.get_startxref_for_revision(revision):
        return False
    ends = (reader.xrefs.get_xref_container_info(number).end_location for number in range(revision + 1))
    return all(int(end) <= facts.covered for end in ends)


def _restrictions(value: Any, pointer: Any) -> Restrictions:
    """DocMDP and FieldMDP of a signature, and its field's lock (ISO 32000-2 12.8.2, Table 236)."""
    from pyhanko.sign.fields import FieldMDPSpec, MDPPerm

    from signing.pdf_structure import entry, references
    from signing.validation.modification import Restrictions

    document, fields = None, None
    for method, parameters in references(value):
        if method == "/DocMDP":
            document = MDPPerm(entry(parameters, "/P", 2))
        elif method == "/FieldMDP":
            fields = FieldMDPSpec.from_pdf_object(parameters)
    lock = entry(pointer.get_object(), "/Lock")
    if document is None and lock is not None and "/P" in lock:
        document = MDPPerm(lock["/P"])
    return Restrictions(document, fields)


def _security_store(reader: PdfFileReader) -> tuple[Evidence, list[Finding]]:
    """The DSS (ISO 32000-2 12.8.4.3); what cannot be read is a finding and is left out."""
    from signing import pdf_structure

    found: dict[str, list[bytes]] = {"certificate": [], "OCSP": [], "CRL": []}
    damaged: list[Finding] = []
    for key, kind in (("/Certs", "certificate"), ("/OCSPs", "OCSP"), ("/CRLs", "CRL")):
        try:
            store = pdf_structure.entry(reader.root, "/DSS", {})
            streams = list(pdf_structure.entry(store, key, []))
        except pdf_structure.PARSER_FAULTS:
            damaged.append(Finding("DSS_OBJECT_UNREADABLE", key))
            continue
        for stream in streams:
            try:
                octets = stream.get_object().data
            except pdf_structure.PARSER_FAULTS:
                octets = b""
            if is_readable(octets, kind):
                found[kind].append(octets)
            else:
                damaged.append(Finding("DSS_OBJECT_UNREADABLE", kind))
    return Evidence(tuple(found["OCSP"]), tuple(found["CRL"]), tuple(found["certificate"])), damaged


_START_XREF = re.compile(rb"startxref\s+(\d{1,12})\s+%%EOF\s*\Z")
_END_OF_FILE = re.compile(rb"%%EOF(\r\n|\n|\r)?\Z")


def _tail_findings(data: bytes, reader: PdfFileReader, signatures: tuple[SignatureFacts, ...]) -> Iterator[Finding]:
    """What stands after the last signed octet and belongs to no revision, or to a damaged one."""
    covered = max((signature.covered for signature in signatures), default=0)
    if not signatures or covered >= len(data):
        return
    tail = data[covered:]
    marker = _END_OF_FILE.search(data[-16:])
    whole_revisions = reader.xrefs.total_revisions - 1 > max(signature.revision for signature in signatures)
    if marker is None or not whole_revisions or b"startxref" not in tail:
        yield Finding("TRAILING_BYTES", "octets after the last revision")
        return
    if revision_checksum.check(tail) is revision_checksum.Checksum.BROKEN:
        yield Finding("CHECKSUM_BROKEN", "the last revision is not as it was written")
    before = data[:covered]
    if b"/ID" in before and b"/ID" not in tail:
        yield Finding("UNDEFINED_CHANGE", "the last revision has lost the file identifier")
    if not _starts_like_a_revision(tail):
        yield Finding("TRAILING_BYTES", "octets between two revisions")


def _starts_like_a_revision(tail: bytes) -> bool:
    """White space, then the first object or the cross-references of an appended revision."""
    start = tail.lstrip(string.whitespace.encode("ascii") + b"\x00")
    return re.match(rb"\d+ \d+ obj|xref|%", start) is not None
