"""PAdES signatures in two steps: ``prepare`` fixes the bytes that will be signed, ``finish`` signs exactly those.

EN 319 142-1. Between the steps a person reviews and approves; the prepared signature is a value that can be parked.
The input is always a byte prefix of the output (S5), and ``finish`` checks what it made before returning it (S2).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any

from signing import pdf_objects, revision_checksum, token_signer
from signing.appearance import DEFAULT_HEIGHT, DEFAULT_WIDTH, AppearanceText
from signing.document_errors import (
    DocUnreadable,
    PlacementOutsidePage,
    ReservedSpaceTooSmall,
    SignatureSelfCheckFailed,
    TimeStampUnusable,
)
from signing.documents import (
    MAX_DOCUMENT_OCTETS,
    DocumentFacts,
    OpenedDocument,
    check_field_for_signing,
    open_for_signing,
)
from signing.token_signer import CmsSignature, SigningKey
from signing.validation import cms, time_stamps
from signing.validation.revocation import NO_EVIDENCE, Evidence, covers_chain, order_chain

if TYPE_CHECKING:
    from signing.pdf_structure import RevisionWriter

__all__ = [
    "Evidence",
    "EvidenceSupplier",
    "Placement",
    "PreparedSignature",
    "SignedDocument",
    "SignerFacts",
    "finish",
    "preflight",
    "prepare",
]

B_B, B_T, B_LT = "B-B", "B-T", "B-LT"
LEVELS = (B_B, B_T, B_LT)
SUB_FILTER = "ETSI.CAdES.detached"
TIME_STAMP_ALLOWANCE = 8 * 1024  # octets kept for a time-stamp token with its certificates
_FORMAT = "tamga-prepared-signature/1"

TimeStamper = Callable[[bytes], bytes]  # SHA-256 digest of the signature value -> TimeStampToken, DER
EvidenceSupplier = Callable[[], Evidence]  # asked after the time-stamp, so that the evidence is younger


@dataclass(frozen=True)
class SignerFacts:
    """What the page says of the signer. ``masked_identifier`` is already masked, e.g. ``УБ••••••12``."""

    name: str
    masked_identifier: str | None = None


@dataclass(frozen=True)
class Placement:
    """Where the signature shows: on a page (from 1), points from the lower left as displayed; or in a field."""

    page: int = 1
    x: float = 0.0
    y: float = 0.0
    width: float = DEFAULT_WIDTH
    height: float = DEFAULT_HEIGHT
    field: str | None = None


@dataclass(frozen=True)
class PreparedSignature:
    """A document with an empty signature. ``sdr`` is the hexadecimal SHA-256 over ``byte_range``: what is signed."""

    revision: bytes
    byte_range: tuple[int, int, int, int]
    sdr: str
    reserved: int  # octets of CMS that fit
    field_name: str
    signing_time: datetime
    evidence: Evidence = NO_EVIDENCE  # what the revision's own DSS holds

    def to_bytes(self) -> bytes:
        """One line of JSON, then the document."""
        header = {
            "format": _FORMAT,
            "byte_range": self.byte_range,
            "sdr": self.sdr,
            "reserved": self.reserved,
            "field_name": self.field_name,
            "signing_time": self.signing_time.isoformat(),
            "evidence": {
                name: [base64.b64encode(der).decode() for der in listed] for name, listed in vars(self.evidence).items()
            },
        }
        return json.dumps(header, ensure_ascii=False).encode() + b"\n" + self.revision

    @classmethod
    def from_bytes(cls, data: bytes) -> PreparedSignature:
        """Read what ``to_bytes`` wrote. Raises ValueError."""
        line, _, revision = data.partition(b"\n")
        header = json.loads(line)
        if header.get("format") != _FORMAT:
            raise ValueError("not a prepared signature of this form")
        first, second, third, fourth = header["byte_range"]
        return cls(
            revision=revision,
            byte_range=(first, second, third, fourth),
            sdr=header["sdr"],
            reserved=header["reserved"],
            field_name=header["field_name"],
            signing_time=datetime.fromisoformat(header["signing_time"]),
            evidence=Evidence(**{k: tuple(map(base64.b64decode, v)) for k, v in header["evidence"].items()}),
        )


@dataclass(frozen=True)
class SignedDocument:
    """A signed document. ``level`` is the level reached, whatever was asked for."""

    data: bytes
    level: str
    field_name: str
    signature_digest: str  # hexadecimal SHA-256 of the signature value
    certificate_serial: str  # lower-case hexadecimal
    signing_time: datetime
    time_stamp_time: datetime | None = None


def preflight(data: bytes, *, placement: Placement | None = None, limit: int = MAX_DOCUMENT_OCTETS) -> DocumentFacts:
    """The document's facts, or the coded error that says why it cannot be signed, or not at that place (S6)."""
    opened = open_for_signing(data, limit=limit)
    _check_placement(opened, placement, placement.field if placement else None)
    return opened.facts()


def prepare(
    data: bytes,
    *,
    signer: SignerFacts,
    chain: tuple[bytes, ...],
    placement: Placement | None,
    language: str,
    signing_time: datetime,
    reason: str | None = None,
    field_name: str | None = None,
    limit: int = MAX_DOCUMENT_OCTETS,
    evidence: Evidence | None = None,
) -> PreparedSignature:
    """Append a revision with an empty signature and say what its bytes digest to. Uses no key.

    ``chain`` is DER, the signer's certificate first. With ``evidence`` (also of the time-stamping authority) the DSS
    is part of the signed revision, so that the signature covers the whole file; without, ``finish`` appends it.
    Raises the coded errors of ``document_errors``.
    """
    from signing import pdf_structure

    opened = open_for_signing(data, limit=limit)
    name = _check_placement(opened, placement, field_name or (placement.field if placement else None))
    text = AppearanceText(signer.name, signing_time, language, signer.masked_identifier, reason)
    reserved = token_signer.estimated_size(chain, time_stamp_allowance=TIME_STAMP_ALLOWANCE)
    try:
        writer = pdf_structure.RevisionWriter.over(opened.reader)
        if evidence is not None and not evidence.is_empty:
            evidence = replace(evidence, certificates=tuple(dict.fromkeys((*chain, *evidence.certificates))))
            _extend_security_store(writer, evidence)
        revision, byte_range = _write_revision(writer, opened, name, placement, text, reason, signing_time, reserved)
    except pdf_structure.PARSER_FAULTS as error:
        raise DocUnreadable("a signature field cannot be added to this document") from error
    sdr = byte_range_digest(revision, byte_range).hex()
    return PreparedSignature(revision, byte_range, sdr, reserved, name, signing_time, evidence or NO_EVIDENCE)


def finish(
    prepared: PreparedSignature,
    *,
    key: SigningKey,
    chain: tuple[bytes, ...],
    time_stamp: TimeStamper | None,
    evidence: Evidence | EvidenceSupplier | None,
    level: str = B_LT,
) -> SignedDocument:
    """Sign the prepared bytes with the person's key, time-stamp the signature, embed evidence, check the result.

    One key operation. ``chain`` is DER from the signer's certificate to the anchor. The level asked for is a ceiling:
    the answer states the level reached, and B-LT needs fresh revocation evidence for every certificate below an
    anchor. Raises TimeStampUnusable, ReservedSpaceTooSmall, SignatureSelfCheckFailed.
    """
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}")
    digest = byte_range_digest(prepared.revision, prepared.byte_range)
    if digest.hex() != prepared.sdr:
        raise SignatureSelfCheckFailed("the prepared document is not the one that was digested")
    signature = token_signer.sign(digest, key=key, chain=chain)
    token: time_stamps.TimeStampToken | None = None
    if level != B_B and time_stamp is not None:
        token = _stamp(signature, time_stamp)
        signature = signature.with_time_stamp(token.der)
    document = _embed(prepared, signature.der())
    reached = B_B if token is None else B_T
    if token is not None and level == B_LT:
        document, reached = _to_long_term(prepared, document, chain, token, evidence)
    signed = SignedDocument(
        data=document,
        level=reached,
        field_name=prepared.field_name,
        signature_digest=hashlib.sha256(signature.signature).hexdigest(),
        certificate_serial=_serial(chain[0]),
        signing_time=prepared.signing_time,
        time_stamp_time=token.generation_time if token else None,
    )
    _check(prepared, signed, signature)
    return signed


def _to_long_term(
    prepared: PreparedSignature,
    document: bytes,
    chain: tuple[bytes, ...],
    token: time_stamps.TimeStampToken,
    evidence: Evidence | EvidenceSupplier | None,
) -> tuple[bytes, str]:
    """The document at B-LT when the evidence carries it, else as it is at B-T (trap P3)."""
    if _is_long_term(chain, token, prepared.evidence):
        return document, B_LT
    supplied = evidence() if callable(evidence) else evidence or NO_EVIDENCE
    if not _is_long_term(chain, token, prepared.evidence + supplied):
        return document, B_T
    return _with_security_store(document, chain, token, supplied), B_LT


def byte_range_digest(document: bytes, byte_range: tuple[int, int, int, int]) -> bytes:
    """SHA-256 over the two parts of a byte range."""
    view = memoryview(document)
    first, first_length, second, second_length = byte_range
    hasher = hashlib.sha256(view[first : first + first_length])
    hasher.update(view[second : second + second_length])
    return hasher.digest()


def _check_placement(opened: OpenedDocument, placement: Placement | None, wanted: str | None) -> str:
    """The name of the field that will be signed, once field and rectangle are known to be usable."""
    must_exist = placement is not None and placement.field is not None
    name = check_field_for_signing(opened, wanted, must_exist=must_exist)
    if placement is not None and not must_exist:
        _rectangle(opened, placement)
    return name


def _rectangle(opened: OpenedDocument, placement: Placement) -> tuple[float, float, float, float]:
    if not 1 <= placement.page <= len(opened.pages):
        raise PlacementOutsidePage(f"the document has {len(opened.pages)} pages")
    page = opened.pages[placement.page - 1]
    return page.rectangle(placement.x, placement.y, placement.width, placement.height)


def _write_revision(
    writer: RevisionWriter,
    opened: OpenedDocument,
    name: str,
    placement: Placement | None,
    text: AppearanceText,
    reason: str | None,
    signing_time: datetime,
    reserved: int,
) -> tuple[bytes, tuple[int, int, int, int]]:
    from pyhanko.sign.fields import SigSeedSubFilter
    from pyhanko.sign.signers.cms_embedder import PdfCMSEmbedder, SigIOSetup, SigObjSetup
    from pyhanko.sign.signers.pdf_byterange import SignatureObject

    exists = name in {field for field, _, _ in opened.fields}
    spec = None if exists else _new_field(opened, name, placement, text)
    steps = PdfCMSEmbedder(new_field_spec=spec).write_cms(name, writer, existing_fields_only=exists)
    field = next(steps).get_object()
    _give_appearance(writer, opened, field, placement, text, exists=exists)
    signature = SignatureObject(
        timestamp=_whole_seconds(signing_time),
        subfilter=SigSeedSubFilter.PADES,
        name=text.name,
        reason=reason,
        bytes_reserved=2 * reserved,  # counted in hexadecimal digits (trap P6)
    )
    steps.send(SigObjSetup(sig_placeholder=signature))
    digest, output = steps.send(SigIOSetup(md_algorithm="sha256", output=BytesIO()))
    start, end = digest.reserved_region_start, digest.reserved_region_end
    revision = output.getvalue()
    return revision, (0, start, end, len(revision) - end)


def _whole_seconds(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)


def _new_field(opened: OpenedDocument, name: str, placement: Placement | None, text: AppearanceText) -> Any:
    from pyhanko.sign.fields import SigFieldSpec

    if placement is None:
        return SigFieldSpec(sig_field_name=name, readable_field_name=text.alternative)
    box = _rectangle(opened, placement)
    return SigFieldSpec(
        sig_field_name=name,
        on_page=placement.page - 1,
        box=box,  # type: ignore[arg-type]
        readable_field_name=text.alternative,
    )


def _give_appearance(
    writer: RevisionWriter,
    opened: OpenedDocument,
    field: Any,
    placement: Placement | None,
    text: AppearanceText,
    *,
    exists: bool,
) -> None:
    """Draw into the field's widget, when it has a rectangle."""
    from pyhanko.pdf_utils.form_tools import annot_width_height

    from signing.appearance import draw

    widget = field if not exists or "/Kids" not in field else field["/Kids"][0]
    width, height = (float(side) for side in annot_width_height(widget))
    if not width or not height:
        return
    rotation = _rotation(opened, widget) if exists or placement is None else opened.pages[placement.page - 1].rotation
    if rotation in (90, 270):
        width, height = height, width
    picture = draw(writer, text, width, height, rotation)
    widget[pdf_objects.name("/AP")] = pdf_objects.dictionary({"/N": picture})
    if exists and "/TU" not in field:
        field[pdf_objects.name("/TU")] = pdf_objects.text(text.alternative)
    writer.update_container(widget)


def _rotation(opened: OpenedDocument, widget: Any) -> int:
    """Rotation of the page an existing widget is on; unknown pages count as upright."""
    try:
        rotation = int(widget["/P"]["/Rotate"]) % 360
    except (KeyError, TypeError, ValueError, AttributeError):
        return opened.pages[0].rotation if len(opened.pages) == 1 else 0
    return rotation


def _stamp(signature: CmsSignature, time_stamp: TimeStamper) -> time_stamps.TimeStampToken:
    """A token over the signature value, checked before it is embedded (trap P8)."""
    try:
        token = time_stamps.parse_token(time_stamp(hashlib.sha256(signature.signature).digest()))
        time_stamps.verify_token(token, signature.signature)
    except (cms.CmsError, cms.HashMismatch, cms.SignatureMismatch, cms.AlgorithmUnknown) as error:
        raise TimeStampUnusable("the time-stamp does not hold for this signature") from error
    return token


def _embed(prepared: PreparedSignature, der: bytes) -> bytes:
    if len(der) > prepared.reserved:
        raise ReservedSpaceTooSmall(f"{len(der)} octets are needed, {prepared.reserved} kept", needed=len(der))
    _, before, after, _ = prepared.byte_range
    contents = base64.b16encode(der.ljust(prepared.reserved, b"\x00"))
    return b"".join((prepared.revision[:before], b"<", contents, b">", prepared.revision[after:]))


def _is_long_term(chain: tuple[bytes, ...], token: time_stamps.TimeStampToken, evidence: Evidence) -> bool:
    """EN 319 142-1 5.4.2, S2: fresh evidence for signer, time-stamping authority and their issuers."""
    if evidence.is_empty or token.certificate is None:
        return False
    known = (*chain, *token.signed_data.certificates, *evidence.certificates)
    whole = replace(evidence, certificates=known)
    return all(
        covers_chain(order_chain(leaf, known), whole, at=token.generation_time)
        for leaf in (chain[0], token.certificate)
    )


def _with_security_store(
    document: bytes, chain: tuple[bytes, ...], token: time_stamps.TimeStampToken, evidence: Evidence
) -> bytes:
    """The document with a DSS appended, or with the one it has extended (ISO 32000-2 12.8.4.3)."""
    from signing import pdf_structure

    reader = pdf_structure.read(document)
    writer = pdf_structure.RevisionWriter.over(reader)
    certificates = (*chain, *token.signed_data.certificates, *evidence.certificates)
    _extend_security_store(writer, replace(evidence, certificates=certificates))
    _make_room_for_checksum(writer)
    written = writer.whole()
    return document + revision_checksum.sealed(written[len(document) :])


def _extend_security_store(writer: RevisionWriter, evidence: Evidence) -> None:
    root: Any = writer.root
    if "/DSS" in root:
        store = root["/DSS"]
        writer.update_container(store)
    else:
        store = pdf_objects.dictionary({"/Type": pdf_objects.name("/DSS")})
        root[pdf_objects.name("/DSS")] = writer.add_object(store)
        writer.mark_update(writer.root_ref)
    for key, listed in (("/Certs", evidence.certificates), ("/OCSPs", evidence.ocsp), ("/CRLs", evidence.crls)):
        present = store[key] if key in store else pdf_objects.array([])
        pointers = [present.raw_get(index) for index in range(len(present))]
        known = {pointer.get_object().data for pointer in pointers}
        fresh = [entry for entry in dict.fromkeys(listed) if entry not in known]
        if fresh:
            streams = [writer.add_object(pdf_objects.plain_stream(entry)) for entry in fresh]
            store[pdf_objects.name(key)] = pdf_objects.array([*pointers, *streams])


def _make_room_for_checksum(writer: RevisionWriter) -> None:
    identifiers = (writer.document_id[0], bytes(revision_checksum.IDENTIFIER_OCTETS))
    writer._document_id = pdf_objects.array(pdf_objects.octets(identifier) for identifier in identifiers)


def _check(prepared: PreparedSignature, signed: SignedDocument, signature: CmsSignature) -> None:
    """S2's fast check on the very bytes that leave: digest recomputed, signature and token verified, input kept."""
    from cryptography import x509

    _, before, after, _ = prepared.byte_range
    if not signed.data.startswith(prepared.revision[:before]):
        raise SignatureSelfCheckFailed("earlier bytes changed")
    embedded = bytes.fromhex(signed.data[before + 1 : after - 1].decode("ascii"))
    der = signature.der()
    if embedded[: len(der)] != der or any(embedded[len(der) :]):
        raise SignatureSelfCheckFailed("the embedded signature is not the one that was made")
    try:
        read = cms.parse_signed_data(der)
        digest = byte_range_digest(signed.data, prepared.byte_range)
        cms.verify_message_digest(read, digest)
        cms.verify_signature(read, x509.load_der_x509_certificate(signature.certificates[0]).public_key(), digest)
        for value in read.signer.unsigned(cms.ID_SIGNATURE_TIME_STAMP):
            time_stamps.verify_token(time_stamps.parse_token(value.raw), read.signer.signature)
    except (cms.CmsError, cms.HashMismatch, cms.SignatureMismatch, cms.AlgorithmUnknown) as error:
        raise SignatureSelfCheckFailed("the signature just made does not verify") from error


def _serial(certificate: bytes) -> str:
    from cryptography import x509

    from signing.validation.report import serial_text

    return serial_text(x509.load_der_x509_certificate(certificate).serial_number)
