"""Documents as they come in: size, form, structure and what earlier signatures allow, before any key is used."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from signing.document_errors import (
    DocCertifiedNoChanges,
    DocFieldLocked,
    DocHybridXref,
    DocPermissions,
    DocUnreadable,
    DocXfa,
    EmptyBody,
    ExistingSignatureBroken,
    FieldAlreadySigned,
    FieldNotFound,
    NotAPdf,
    TooLarge,
    UnsupportedFormat,
)

if TYPE_CHECKING:
    from pyhanko.pdf_utils.reader import PdfFileReader

    from signing.pdf_structure import Page

MAX_DOCUMENT_OCTETS = 100 * 1024 * 1024
HEADER_WINDOW = 1024  # ISO 32000-1 Annex H.3, note 13: where readers look for the header
MAX_TITLE_CHARACTERS = 200


@dataclass(frozen=True)
class DocumentFacts:
    """What a ceremony says of a document. Sizes of pages are in points, as displayed."""

    sha256: str
    size: int
    pages: int
    page_sizes: tuple[tuple[float, float], ...]
    existing_signatures: int
    title: str | None


@dataclass(frozen=True)
class OpenedDocument:
    """A document that passed preflight, with the reader over it."""

    data: bytes
    reader: PdfFileReader
    pages: tuple[Page, ...]
    fields: tuple[tuple[str, Any, Any], ...]
    existing_signatures: int

    def facts(self) -> DocumentFacts:
        """What a ceremony says of the document."""
        return DocumentFacts(
            sha256=hashlib.sha256(self.data).hexdigest(),
            size=len(self.data),
            pages=len(self.pages),
            page_sizes=tuple(page.displayed_size for page in self.pages),
            existing_signatures=self.existing_signatures,
            title=_title(self.reader),
        )

    @property
    def free_field_name(self) -> str:
        """A name no field has yet."""
        taken = {name.partition(".")[0] for name in _field_names(self.reader)}
        number = len(self.fields) + 1
        while f"Signature{number}" in taken:
            number += 1
        return f"Signature{number}"


def open_document(data: bytes, *, limit: int = MAX_DOCUMENT_OCTETS) -> DocumentFacts:
    """Preflight for signing: the document's facts, or the coded error that says why it cannot be signed (S6)."""
    return open_for_signing(data, limit=limit).facts()


def open_for_signing(data: bytes, *, limit: int = MAX_DOCUMENT_OCTETS) -> OpenedDocument:
    """The same checks, with what they read kept for the steps that follow."""
    check_form(data, limit=limit)
    if not data.startswith(b"%PDF-"):
        raise DocUnreadable("there are bytes before the PDF header")
    from signing import pdf_structure

    reader = pdf_structure.read(data)
    try:
        _check_structure(reader)
    except pdf_structure.PARSER_FAULTS as error:
        raise DocUnreadable("the document catalog cannot be read") from error
    listed = pdf_structure.pages(reader)
    if not listed:
        raise DocUnreadable("the document has no pages")
    fields = pdf_structure.signature_fields(reader)
    pdf_structure.check_permissions(reader, new_field=all(pdf_structure.is_signed(value) for _, value, _ in fields))
    signed = [value for _, value, _ in fields if pdf_structure.is_signed(value)]
    if signed:
        _check_existing_signatures(data)
    return OpenedDocument(data, reader, listed, tuple(fields), len(signed))


def check_form(data: bytes, *, limit: int = MAX_DOCUMENT_OCTETS) -> None:
    """Raise EmptyBody, TooLarge, UnsupportedFormat or NotAPdf before anything is parsed."""
    if not data:
        raise EmptyBody("no document was sent")
    if len(data) > limit:
        raise TooLarge(f"at most {limit} octets are taken", limit=limit)
    if b"%PDF-" in data[: HEADER_WINDOW + 5]:
        return
    known = _known_format(data)
    if known:
        raise UnsupportedFormat(f"this is {known}; only PDF is taken", format=known)
    raise NotAPdf(f"there is no PDF header in the first {HEADER_WINDOW} octets")


def check_field_for_signing(opened: OpenedDocument, name: str | None, *, must_exist: bool) -> str:
    """The name of the field to sign: existing and empty, or new. Raises the field's coded error."""
    from signing import pdf_structure

    known = {field: value for field, value, _ in opened.fields}
    if name is not None and name in known:
        if pdf_structure.is_signed(known[name]):
            raise FieldAlreadySigned(f"the field {name!r} holds a signature")
    elif must_exist or (name is not None and (name in _field_names(opened.reader) or not _usable_name(name))):
        raise FieldNotFound(f"there is no signature field {name!r}")
    chosen = name or opened.free_field_name
    try:
        _check_locks(opened, chosen)
    except pdf_structure.PARSER_FAULTS as error:
        raise ExistingSignatureBroken("an earlier signature's locks cannot be read") from error
    return chosen


def _known_format(data: bytes) -> str | None:
    if data.startswith(b"PK\x03\x04"):
        return "ASiC" if b"mimetype" in data[:64] and b"vnd.etsi.asic" in data[:200] else "ZIP"
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:64]
    if start.startswith(b"<?xml") or (start.startswith(b"<") and b"html" not in start.lower()):
        return "XML"
    if data[0] == 0x30 and b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02" in data[:32]:
        return "CMS"
    return None


def _check_structure(reader: PdfFileReader) -> None:
    from signing.pdf_structure import entry

    if reader.xrefs.hybrid_xrefs_present:
        raise DocHybridXref("the document has two forms of cross-references that may disagree")
    root = reader.root
    form = entry(root, "/AcroForm", {})
    if "/XFA" in form and (entry(root, "/NeedsRendering", False) is not False or _is_dynamic_xfa(form["/XFA"])):
        raise DocXfa("the document is a dynamic XFA form")
    _check_certification(root)


def _is_dynamic_xfa(xfa: Any) -> bool:
    """Whether the form's configuration demands dynamic rendering (XFA 3.3, config grammar)."""
    streams = xfa[1::2] if isinstance(xfa, list) else [xfa]
    return any(b">required</dynamicRender" in stream.get_object().data.replace(b" ", b"") for stream in streams)


def _check_certification(root: Any) -> None:
    from signing.pdf_structure import entry, references

    if "/Perms" not in root:
        return
    perms = root["/Perms"]
    if "/DocMDP" in perms:
        for method, parameters in references(perms["/DocMDP"]):
            # ISO 32000-2 12.8.2.2: P is 2 unless it is stated.
            if method == "/DocMDP" and entry(parameters, "/P", 2) == 1:
                raise DocCertifiedNoChanges("the certifying signature forbids any change")
    if "/UR3" in perms and not _usage_rights_allow_signing(perms["/UR3"]):
        raise DocPermissions("the document's usage rights do not include signing")


def _usage_rights_allow_signing(signature: Any) -> bool:
    from signing.pdf_structure import entry, references

    for _method, rights in references(signature):
        if "/Modify" in entry(rights, "/Signature", []) or {"/FillIn", "/Add"} & set(entry(rights, "/Form", [])):
            return True
    return False


def _check_locks(opened: OpenedDocument, name: str) -> None:
    """ISO 32000-2 12.8.2.4 and Table 236: what earlier signatures lock, also where stock software looks away."""
    from signing import pdf_structure

    for _field, value, pointer in opened.fields:
        if not pdf_structure.is_signed(value):
            continue
        field = pointer.get_object()
        locks = [field["/Lock"]] if "/Lock" in field else []
        locks += [lock for method, lock in pdf_structure.references(value) if method == "/FieldMDP"]
        for lock in locks:
            if pdf_structure.entry(lock, "/P", 2) == 1:
                raise DocCertifiedNoChanges("an earlier signature forbids any further change")
            if _covers(lock, name):
                raise DocFieldLocked(f"an earlier signature locks the field {name!r}")


def _covers(lock: Any, name: str) -> bool:
    from signing.pdf_structure import entry

    action = entry(lock, "/Action")
    listed = [str(field) for field in entry(lock, "/Fields", [])]
    within = any(name == field or name.startswith(f"{field}.") for field in listed)
    return bool(action == "/All" or (action == "/Include" and within) or (action == "/Exclude" and not within))


def _check_existing_signatures(data: bytes) -> None:
    from signing.validation.facts import gather

    broken = [facts.field_names[0] for facts in gather(data).signatures if facts.is_broken]
    if broken:
        raise ExistingSignatureBroken(f"the signature in {broken[0]!r} does not hold", fields=broken)


def _field_names(reader: PdfFileReader) -> frozenset[str]:
    """Names of the form's topmost fields, of any type."""
    from signing.pdf_structure import entry

    form = entry(reader.root, "/AcroForm", {})
    return frozenset(str(entry(field.get_object(), "/T", "")) for field in entry(form, "/Fields", []))


def _usable_name(name: str) -> bool:
    return 0 < len(name) <= 100 and "." not in name and name.isprintable()


def _title(reader: PdfFileReader) -> str | None:
    """The author's title, without control and bidirectional override characters."""
    from signing import pdf_structure

    try:
        trailer = reader.trailer
        information = trailer["/Info"] if "/Info" in trailer else {}  # noqa: SIM401 - get would not follow
        title = pdf_structure.entry(information, "/Title")
    except pdf_structure.PARSER_FAULTS:
        return None
    if not isinstance(title, str):
        return None
    shown = "".join(char for char in unicodedata.normalize("NFC", title) if unicodedata.category(char)[0] != "C")
    return shown.strip()[:MAX_TITLE_CHARACTERS] or None
