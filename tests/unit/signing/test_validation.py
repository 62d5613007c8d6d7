"""Verdicts: EN 319 102-1's words on good, broken, changed, revoked, foreign and odd signatures (S24-S30, S36)."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any

import pikepdf
import pytest
from asn1crypto import cms as asn1_cms
from cryptography import x509

from signing.document_errors import DocEncrypted, EmptyBody, NotAPdf, PolicyUnknown, UnsupportedFormat
from signing.pades import Evidence
from signing.validation import NO_SIGNATURE_FOUND, EvidenceSource, TrustAnchors, ValidationReport, validate
from tests.support.certificates import serial_text

from .conftest import NOW, Pki, make_identity, make_ocsp, make_pdf, sign

LATER = NOW + timedelta(minutes=10)
HOUR = timedelta(hours=1)


class Source:
    """Fresh evidence, as our own issuers give it."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def evidence(self, certificate: bytes, issuer: bytes) -> Evidence:
        return self._evidence


def fresh(pki: Pki, at: datetime = LATER, **kwargs: Any) -> Source:
    return Source(
        Evidence(ocsp=(pki.ocsp(at=at, **kwargs), pki.ocsp(pki.time_stamping, at=at)), crls=(pki.crl(at=at),))
    )


def judged(
    data: bytes, pki: Pki, *, at: datetime = LATER, evidence: EvidenceSource | None = None, policy: str = "mn-default"
) -> ValidationReport:
    return validate(data, policy=policy, trust=TrustAnchors((pki.root.der,)), evidence=evidence, at=at, language="en")


def only(report: ValidationReport) -> dict[str, Any]:
    (signature,) = report.simple()["signatures"]
    return dict(signature)


def outcome(report: ValidationReport) -> tuple[str, str | None]:
    signature = only(report)
    return signature["indication"], signature["sub_indication"]


def codes(signature: dict[str, Any]) -> set[str]:
    return {finding["code"] for finding in (*signature["modifications"], *signature["findings"])}


def byte_range(data: bytes) -> tuple[int, int, int, int]:
    first, before, after, rest = map(int, re.search(rb"/ByteRange \[(\d+) (\d+) (\d+) (\d+)\]", data).groups())  # type: ignore[union-attr]
    return first, before, after, rest


def with_cms(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The document with another CMS in the same gap."""
    _, before, after, _ = byte_range(data)
    octets = bytes.fromhex(data[before + 1 : after - 1].decode())
    changed = change(asn1_cms.ContentInfo.load(octets).dump()).ljust(len(octets), b"\x00")
    return data[: before + 1] + changed.hex().upper().encode() + data[after - 1 :]


# Good


def test_a_long_term_signature_passes_offline(pki: Pki, signed: bytes) -> None:
    report = judged(signed, pki)
    signature = only(report)
    assert report.document_status == "TOTAL-PASSED"
    assert (signature["indication"], signature["sub_indication"], signature["level"]) == ("TOTAL-PASSED", None, "B-LT")
    assert signature["best_signature_time"] == signature["claimed_signing_time"] == "2026-11-21T04:05:06Z"
    assert signature["signer"]["display_name"] == "БАТ Өлзий"
    assert signature["signer"]["certificate_serial"] == serial_text(pki.signer.certificate)
    assert signature["modifications"] == signature["findings"] == []
    assert report.simple()["policy"]["id"] == "mn-default"


def test_a_document_without_signature_says_so(pki: Pki, pdf: bytes) -> None:
    report = judged(pdf, pki)
    assert (report.document_status, report.signature_count) == (NO_SIGNATURE_FOUND, 0)


def test_the_report_is_json_and_the_same_every_time(pki: Pki, signed: bytes) -> None:
    first, second = (json.dumps(judged(signed, pki).simple(), ensure_ascii=False) for _ in range(2))
    assert first == second


def test_reports_are_written_in_both_languages(pki: Pki, signed: bytes) -> None:
    trust = TrustAnchors((pki.root.der,))
    mn, en = (validate(signed, trust=trust, at=LATER, language=language).simple() for language in ("mn", "en"))
    assert mn["sentence"] != en["sentence"]
    assert [entry["indication"] for entry in mn["signatures"]] == [entry["indication"] for entry in en["signatures"]]


# Times and revocation


def test_revoked_after_the_proven_time_passes(pki: Pki, signed: bytes) -> None:
    report = judged(signed, pki, evidence=fresh(pki, revoked_at=NOW + timedelta(minutes=5)))
    assert outcome(report) == ("TOTAL-PASSED", None)


def test_revoked_before_the_signature_fails(pki: Pki, pdf: bytes) -> None:
    done = sign(pki, pdf, level="B-T")
    report = judged(done.data, pki, evidence=fresh(pki, revoked_at=NOW - HOUR))
    assert outcome(report) == ("TOTAL-FAILED", "REVOKED")


def test_revoked_between_claim_and_proof_is_undecided(pki: Pki, pdf: bytes) -> None:
    """The signer says noon, the time-stamp one o'clock, the revocation lies between: nobody knows what came first."""
    from signing.pades import SignerFacts, finish, prepare

    prepared = prepare(
        pdf, signer=SignerFacts("Бат"), chain=pki.chain, placement=None, language="mn", signing_time=NOW - HOUR
    )
    done = finish(
        prepared, key=pki.signer.key, chain=pki.chain, time_stamp=pki.time_stamp(), evidence=None, level="B-T"
    )
    report = judged(done.data, pki, evidence=fresh(pki, revoked_at=NOW - timedelta(minutes=30)))
    assert outcome(report) == ("INDETERMINATE", "REVOKED_NO_POE")


def test_revoked_without_any_proof_of_time_is_undecided(pki: Pki, pdf: bytes) -> None:
    done = sign(pki, pdf, level="B-B")
    assert outcome(judged(done.data, pki, evidence=fresh(pki))) == ("TOTAL-PASSED", None)
    report = judged(done.data, pki, evidence=fresh(pki, revoked_at=NOW + timedelta(minutes=5)))
    assert outcome(report) == ("INDETERMINATE", "REVOKED_NO_POE")


def test_a_suspension_counts_while_it_lasts_and_is_named(pki: Pki, pdf: bytes) -> None:
    done = sign(pki, pdf, level="B-T")
    held = pki.ocsp(at=LATER, revoked_at=NOW - HOUR, reason=x509.ReasonFlags.certificate_hold)
    others = fresh(pki).evidence(b"", b"")
    report = judged(done.data, pki, evidence=Source(dataclasses.replace(others, ocsp=(held, others.ocsp[1]))))
    assert outcome(report) == ("TOTAL-FAILED", "REVOKED")
    assert "SUSPENDED" in codes(only(report))
    resumed = (held, pki.ocsp(at=LATER + timedelta(minutes=1)), others.ocsp[1])
    report = judged(done.data, pki, at=LATER + HOUR / 2, evidence=Source(dataclasses.replace(others, ocsp=resumed)))
    assert outcome(report) == ("TOTAL-PASSED", None)


def test_an_authority_on_the_list_of_the_root_is_named(pki: Pki, pdf: bytes) -> None:
    done = sign(pki, pdf, level="B-B")
    crl = pki.crl(at=LATER, revoked=(pki.authority.certificate.serial_number,))
    report = judged(done.data, pki, evidence=Source(Evidence(ocsp=(pki.ocsp(at=LATER),), crls=(crl,))))
    assert outcome(report) == ("INDETERMINATE", "REVOKED_CA_NO_POE")


def test_without_evidence_it_says_when_to_try_again(pki: Pki, pdf: bytes) -> None:
    done = sign(pki, pdf, level="B-T")
    report = judged(done.data, pki)
    assert outcome(report) == ("INDETERMINATE", "TRY_LATER")
    assert only(report)["try_after"] is not None
    assert only(report)["try_after"] in only(report)["next_step"]


@pytest.mark.parametrize("flaw", ["foreign key", "other certificate", "old", "not a responder", "expired responder"])
def test_evidence_that_does_not_hold_is_no_evidence(pki: Pki, foreign_pki: Pki, pdf: bytes, flaw: str) -> None:
    from cryptography.x509.oid import ExtendedKeyUsageOID

    certificate = pki.signer.certificate
    responders = {
        "foreign key": foreign_pki.responder,
        "not a responder": make_identity("Хариулагч биш", pki.authority, usages=(ExtendedKeyUsageOID.CLIENT_AUTH,)),
        "expired responder": make_identity(
            "Хугацаа нь дууссан", pki.authority, usages=(ExtendedKeyUsageOID.OCSP_SIGNING,), nocheck=True,
            not_after=NOW - HOUR,
        ),
    }  # fmt: skip
    answer = make_ocsp(
        pki.time_stamping.certificate if flaw == "other certificate" else certificate, pki.authority,
        responders.get(flaw, pki.responder), at=NOW - 48 * HOUR if flaw == "old" else LATER,
    )  # fmt: skip
    evidence = Evidence(ocsp=(answer, pki.ocsp(pki.time_stamping, at=LATER)), crls=(pki.crl(at=LATER),))
    report = judged(sign(pki, pdf, level="B-B").data, pki, evidence=Source(evidence))
    assert outcome(report) == ("INDETERMINATE", "TRY_LATER")


def test_an_expired_certificate_without_proof_is_out_of_bounds(pki: Pki, pdf: bytes) -> None:
    short = make_identity("Богино", pki.authority, not_after=NOW + HOUR)
    done = sign(pki, pdf, level="B-B", key=short.key, chain=(short.der, pki.authority.der, pki.root.der))
    report = judged(done.data, pki, at=NOW + 2 * HOUR)
    assert outcome(report) == ("INDETERMINATE", "OUT_OF_BOUNDS_NO_POE")


def test_signed_after_expiry_and_before_issue_fail_when_the_time_is_proven(pki: Pki, pdf: bytes) -> None:
    old = make_identity("Хугацаа дууссан", pki.authority, not_after=NOW - HOUR)
    new = make_identity("Эхлээгүй", pki.authority, not_before=NOW + timedelta(minutes=5))
    for identity, expected in ((old, "EXPIRED"), (new, "NOT_YET_VALID")):
        chain = (identity.der, pki.authority.der, pki.root.der)
        done = sign(pki, pdf, level="B-T", key=identity.key, chain=chain)
        assert outcome(judged(done.data, pki, evidence=fresh(pki))) == ("TOTAL-FAILED", expected)


# Trust


def test_a_foreign_authority_is_not_accepted(pki: Pki, foreign_pki: Pki, pdf: bytes) -> None:
    report = judged(sign(foreign_pki, pdf).data, pki)
    assert outcome(report) == ("INDETERMINATE", "NO_CERTIFICATE_CHAIN_FOUND")


def test_an_authority_of_the_same_name_is_still_foreign(pki: Pki, pdf: bytes) -> None:
    root = make_identity("Туршилтын үндэс", authority=True, not_after=NOW + timedelta(days=3650))
    authority = make_identity("Туршилтын олгогч", root, authority=True)
    signer = make_identity("БАТ Өлзий", authority)
    done = sign(pki, pdf, level="B-B", key=signer.key, chain=(signer.der, authority.der, root.der))
    assert outcome(judged(done.data, pki, evidence=fresh(pki))) == ("INDETERMINATE", "NO_CERTIFICATE_CHAIN_FOUND")


def test_a_person_cannot_issue_certificates(pki: Pki, pdf: bytes) -> None:
    forged = make_identity("Хуурамч", pki.signer)
    chain = (forged.der, pki.signer.der, pki.authority.der, pki.root.der)
    done = sign(pki, pdf, level="B-B", key=forged.key, chain=chain)
    report = judged(done.data, pki, evidence=fresh(pki))
    assert outcome(report) == ("INDETERMINATE", "CHAIN_CONSTRAINTS_FAILURE")


def test_a_time_stamp_of_an_ordinary_certificate_proves_nothing(pki: Pki, pdf: bytes) -> None:
    other = dataclasses.replace(pki, time_stamping=make_identity("Энгийн", pki.authority))
    done = sign(other, pdf, level="B-T")
    signature = only(judged(done.data, pki, evidence=fresh(pki)))
    assert (signature["indication"], signature["best_signature_time"], signature["level"]) == (
        "TOTAL-PASSED",
        None,
        "B-B",
    )
    assert "TIME_STAMP_NOT_TRUSTED" in codes(signature)


# Changes


def test_changed_content_is_a_hash_failure(pki: Pki, signed: bytes) -> None:
    position = signed.index(b"/MediaBox")
    changed = signed[:position] + signed[position:].replace(b"595", b"596", 1)
    assert outcome(judged(changed, pki)) == ("TOTAL-FAILED", "HASH_FAILURE")


def test_another_signature_value_is_a_crypto_failure(pki: Pki, pdf: bytes) -> None:
    def change(octets: bytes) -> bytes:
        info = asn1_cms.ContentInfo.load(octets)
        signer = info["content"]["signer_infos"][0]
        other = bytearray(signer["signature"].native)
        other[-1] ^= 1
        signer["signature"] = bytes(other)
        return bytes(info.dump())

    report = judged(with_cms(sign(pki, pdf, level="B-B").data, change), pki, evidence=fresh(pki))
    assert outcome(report) == ("TOTAL-FAILED", "SIG_CRYPTO_FAILURE")


@pytest.mark.parametrize("tail", [b"\n", b" ", b"%", b"%comment\n", b"\x00", b"%%EOF\n", b"9 0 obj\n<<>>\nendobj\n"])
@pytest.mark.parametrize("level", ["B-T", "B-LT"])
def test_appended_octets_never_pass(pki: Pki, pdf: bytes, level: str, tail: bytes) -> None:
    document = sign(pki, pdf, level=level).data
    report = judged(document + tail, pki, evidence=fresh(pki))
    assert (report.document_status, report.sub_indication) == ("TOTAL-FAILED", "FORMAT_FAILURE")


def test_octets_in_front_never_pass(pki: Pki, signed: bytes) -> None:
    report = judged(b"\n" + signed, pki)
    assert report.document_status == "TOTAL-FAILED"
    assert "LEADING_BYTES" in {finding["code"] for finding in report.simple()["findings"]}


def incrementally(data: bytes, change: Callable[[Any], None]) -> bytes:
    """A revision appended by the stock writer."""
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter

    writer = IncrementalPdfFileWriter(BytesIO(data))
    change(writer)
    output = BytesIO()
    writer.write(output)
    return output.getvalue()


def replace_text(writer: Any) -> None:
    from pyhanko.pdf_utils import generic

    page = writer.root["/Pages"]["/Kids"][0].get_object()
    page["/Contents"] = writer.add_object(generic.StreamObject(stream_data=b"BT /F1 12 Tf (other) Tj ET"))
    writer.mark_update(page.container_ref)


def add_page(writer: Any) -> None:
    from pyhanko.pdf_utils import generic

    pages = writer.root["/Pages"]
    page = generic.DictionaryObject(
        {
            generic.pdf_name("/Type"): generic.pdf_name("/Page"),
            generic.pdf_name("/Parent"): writer.root.raw_get("/Pages"),
        }
    )
    pages["/Kids"].append(writer.add_object(page))
    pages["/Count"] = generic.NumberObject(len(pages["/Kids"]))
    writer.mark_update(writer.root.raw_get("/Pages"))


def remove_page(writer: Any) -> None:
    from pyhanko.pdf_utils import generic

    pages = writer.root["/Pages"]
    del pages["/Kids"][1]
    pages["/Count"] = generic.NumberObject(1)
    writer.mark_update(writer.root.raw_get("/Pages"))


def add_comment(writer: Any) -> None:
    from pyhanko.pdf_utils import generic

    page = writer.root["/Pages"]["/Kids"][0].get_object()
    comment = generic.DictionaryObject(
        {
            generic.pdf_name("/Type"): generic.pdf_name("/Annot"),
            generic.pdf_name("/Subtype"): generic.pdf_name("/Square"),
            generic.pdf_name("/Rect"): generic.ArrayObject(generic.NumberObject(n) for n in (70, 690, 200, 720)),
        }
    )
    annotations = page["/Annots"] if "/Annots" in page else generic.ArrayObject()
    page["/Annots"] = generic.ArrayObject([*annotations, writer.add_object(comment)])
    writer.mark_update(writer.root["/Pages"]["/Kids"].raw_get(0))


def add_orphan(writer: Any) -> None:
    from pyhanko.pdf_utils import generic

    writer.add_object(generic.StreamObject(stream_data=b"BT (waiting) Tj ET"))


def rewrite_signature(writer: Any) -> None:
    from pyhanko.pdf_utils import generic

    field = writer.root["/AcroForm"]["/Fields"][0].get_object()
    field["/V"]["/Reason"] = generic.TextStringObject("other")
    writer.mark_update(field.raw_get("/V"))


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (replace_text, "UNDEFINED_CHANGE"),
        (add_page, "PAGE_ADDED"),
        (remove_page, "PAGE_REMOVED"),
        (add_comment, "ANNOTATION_OVER_CONTENT"),
        (add_orphan, "UNDEFINED_CHANGE"),
        (rewrite_signature, "SIGNATURE_DICTIONARY_CHANGED"),
    ],
)
@pytest.mark.parametrize("level", ["B-T", "B-LT"])
def test_changes_after_signing_are_named_and_fail(
    pki: Pki, pdf: bytes, level: str, change: Callable[[Any], None], finding: str
) -> None:
    """Trap P1: the stock process over the CMS with its digest passes on every one of these files."""
    document = incrementally(sign(pki, pdf, level=level).data, change)
    report = judged(document, pki, evidence=fresh(pki))
    assert outcome(report) == ("TOTAL-FAILED", "FORMAT_FAILURE")
    assert finding in codes(only(report))


def test_changes_are_named_whoever_signed(foreign_pki: Pki, pki: Pki, pdf: bytes) -> None:
    """Trap P14: a chain problem does not hide a change."""
    document = incrementally(sign(foreign_pki, pdf).data, add_page)
    assert outcome(judged(document, pki)) == ("TOTAL-FAILED", "FORMAT_FAILURE")


def test_the_stock_process_over_the_cms_misses_the_change(pki: Pki, pdf: bytes) -> None:
    from pyhanko.pdf_utils.reader import PdfFileReader

    document = incrementally(sign(pki, pdf, level="B-B").data, replace_text)
    (embedded,) = PdfFileReader(BytesIO(document)).embedded_signatures
    assert embedded.compute_digest() == embedded.signer_info["signed_attrs"][1]["values"][0].native


def with_leftovers() -> bytes:
    """A document as authors leave them: a link written inside the page's list, metadata that is no XMP."""
    output = BytesIO()
    with pikepdf.open(BytesIO(make_pdf(2))) as document:
        link = pikepdf.Dictionary(
            Type=pikepdf.Name.Annot, Subtype=pikepdf.Name.Link, Rect=[0, 0, 10, 10], Border=[0, 0, 0]
        )
        document.pages[0].obj.Annots = pikepdf.Array([link])
        document.Root.Metadata = document.make_stream(b"<x/>", Type=pikepdf.Name.Metadata, Subtype=pikepdf.Name.XML)
        document.Root.Lang = pikepdf.String("mn")
        document.save(output)
    return output.getvalue()


def test_an_authors_leftovers_are_no_later_changes(pki: Pki) -> None:
    """The stock comparison calls each of these a change as soon as a revision follows the signature."""
    first = sign(pki, with_leftovers()).data
    second = sign(pki, first, placement=None).data
    report = judged(second, pki).simple()
    assert [entry["indication"] for entry in report["signatures"]] == ["TOTAL-PASSED"] * 2

    def move_link(writer: Any) -> None:
        page = writer.root["/Pages"]["/Kids"][0].get_object()
        page["/Annots"][0]["/Rect"][2] = page["/Annots"][0]["/Rect"][1]
        writer.mark_update(writer.root["/Pages"]["/Kids"].raw_get(0))

    assert judged(incrementally(second, move_link), pki).document_status == "TOTAL-FAILED"


# Odd signatures, one by one


def odd(name: str, data: bytes) -> bytes:
    _, before, after, rest = byte_range(data)
    stated = b"/ByteRange [0 %d %d %d]" % (before, after, rest)

    def with_range(text: bytes) -> bytes:
        return data.replace(stated, b"/ByteRange " + text.ljust(len(stated) - 11), 1)

    def two_signers(octets: bytes) -> bytes:
        info = asn1_cms.ContentInfo.load(octets)
        content = info["content"]
        signer = content["signer_infos"][0].dump()  # copied as octets: a deep copy of the parsed tree takes a minute
        content["signer_infos"] = [asn1_cms.SignerInfo.load(signer) for _ in range(2)]
        return bytes(info.dump())

    def shuffled(octets: bytes) -> bytes:
        attributes = asn1_cms.ContentInfo.load(octets)["content"]["signer_infos"][0]["signed_attrs"]
        encoded = [entry.dump() for entry in attributes]
        return octets.replace(b"".join(encoded), b"".join(encoded[::-1]))

    cases: dict[str, Callable[[], bytes]] = {
        "range not from 0": lambda: with_range(b"[1 %d %d %d]" % (before - 1, after, rest)),
        "range past the end": lambda: with_range(b"[0 %d %d 999999]" % (before, after)),
        "range overlapping": lambda: with_range(b"[0 %d %d %d]" % (before, before - 9, rest)),
        "range too short": lambda: with_range(b"[0 %d %d]" % (before, after)),
        "range of names": lambda: with_range(b"[/A /B /C /D]"),
        "range negative": lambda: with_range(b"[0 %d %d -1]" % (before, after)),
        "gap too wide": lambda: with_range(b"[0 %d %d %d]" % (before - 1, after, rest)),
        "no range": lambda: data.replace(b"/ByteRange", b"/BiteRange", 1),
        "no contents": lambda: data.replace(b"/Contents <", b"/Kontents <", 1),
        "garbage": lambda: with_cms(data, lambda octets: b"\x04\x03abc"),
        "octets behind the CMS": lambda: with_cms(data, lambda octets: octets + b"\x00\x01"),
        "two signers": lambda: with_cms(data, two_signers),
        "attributes out of order": lambda: with_cms(data, shuffled),
        "unknown form": lambda: data.replace(b"/ETSI.CAdES.detached", b"/ETSI.CAdES.detachex", 1),
        "mixed digits": lambda: data[: before + 9] + data[before + 9 : before + 40].lower() + data[before + 40 :],
    }  # fmt: skip
    return cases[name]()


ODD = {
    "range not from 0": "BYTE_RANGE", "range past the end": "BYTE_RANGE", "range overlapping": "BYTE_RANGE",
    "range too short": "BYTE_RANGE", "range of names": "BYTE_RANGE", "range negative": "BYTE_RANGE",
    "gap too wide": "BYTE_RANGE", "no range": "SIGNATURE_DICTIONARY", "no contents": "SIGNATURE_DICTIONARY",
    "garbage": "CMS", "octets behind the CMS": "CMS", "two signers": "SIGNER_INFO_COUNT",
    "attributes out of order": "SIGNED_ATTRIBUTES", "unknown form": "SUB_FILTER", "mixed digits": "BYTE_RANGE",
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_an_odd_signature_is_a_finding(pki: Pki, pdf: bytes, name: str) -> None:
    report = judged(odd(name, sign(pki, pdf, level="B-T").data), pki, evidence=fresh(pki))
    assert outcome(report) == ("TOTAL-FAILED", "FORMAT_FAILURE")
    assert ODD[name] in codes(only(report))


def test_one_odd_signature_does_not_stop_the_others(pki: Pki, pdf: bytes) -> None:
    """Trap P10: the stock run ends with the first of these."""
    first = sign(pki, pdf, level="B-T").data
    second = sign(pki, first, level="B-T", placement=None).data
    last = second.rindex(b"/Contents <")
    broken = second[: last + 11] + b"0403616263" + b"0" * 1000 + second[last + 1021 :]
    report = judged(broken, pki, evidence=fresh(pki)).simple()
    assert [entry["indication"] for entry in report["signatures"]] == ["TOTAL-PASSED", "TOTAL-FAILED"]


def test_empty_contents_is_an_unsigned_field(pki: Pki, pdf: bytes) -> None:
    document = with_cms(sign(pki, pdf, level="B-B").data, lambda octets: bytes(len(octets)))
    report = judged(document, pki)
    assert report.document_status == NO_SIGNATURE_FOUND
    assert report.simple()["document"]["unsigned_fields"] == ["Signature1"]


def test_one_signature_in_two_fields_is_counted_once(pki: Pki, signed: bytes) -> None:
    """Trap P11."""
    from pyhanko.pdf_utils import generic

    def refer_again(writer: Any) -> None:
        form = writer.root["/AcroForm"]
        first = form["/Fields"][0].get_object()
        field = generic.DictionaryObject(
            {
                generic.pdf_name("/FT"): generic.pdf_name("/Sig"),
                generic.pdf_name("/T"): generic.TextStringObject("Again"),
                generic.pdf_name("/V"): first.raw_get("/V"),
            }
        )
        form["/Fields"].append(writer.add_object(field))
        writer.update_container(form["/Fields"])

    signature = only(judged(incrementally(signed, refer_again), pki))
    assert signature["field_names"] == ["Signature1", "Again"]
    assert "SEVERAL_FIELDS" in codes(signature)


# Bad input


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"", EmptyBody), (b"hello", NotAPdf), (b"PK\x03\x04....", UnsupportedFormat), (b"<?xml?>", UnsupportedFormat)],
)
def test_what_is_no_pdf_is_refused(pki: Pki, data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        judged(data, pki)


def test_a_locked_document_and_an_unknown_policy_are_refused(pki: Pki, pdf: bytes) -> None:
    output = BytesIO()
    with pikepdf.open(BytesIO(pdf)) as document:
        document.save(output, encryption=pikepdf.Encryption(owner="o", user="u"))
    with pytest.raises(DocEncrypted):
        judged(output.getvalue(), pki)
    with pytest.raises(PolicyUnknown):
        judged(pdf, pki, policy="../mn-default")


@pytest.mark.parametrize("keep", [20, 500, 1500])
def test_a_damaged_file_is_a_report(pki: Pki, signed: bytes, keep: int) -> None:
    report = judged(signed[:keep], pki)
    assert (report.document_status, report.sub_indication) == ("TOTAL-FAILED", "FORMAT_FAILURE")
    assert {finding["code"] for finding in report.simple()["findings"]} == {"DOC_UNREADABLE"}


def test_random_damage_never_raises_and_never_passes(pki: Pki) -> None:
    """S28 in small: octets flipped, cut out and doubled by lot, with fresh evidence that would let it pass."""
    import random

    document = sign(pki, make_pdf()).data
    lot, source = random.Random(319102), fresh(pki)
    for _ in range(25):
        changed = bytearray(document)
        position = lot.randrange(len(changed))
        if lot.random() < 0.6:
            changed[position] ^= 1 << lot.randrange(8)
        elif lot.random() < 0.5:
            del changed[position : position + lot.randrange(1, 40)]
        else:
            changed[position:position] = changed[position : position + lot.randrange(1, 40)]
        try:
            report = judged(bytes(changed), pki, evidence=source)
        except (DocEncrypted, NotAPdf):
            continue
        assert report.document_status != "TOTAL-PASSED", position


def test_a_certificate_with_a_negative_modulus_is_a_finding(pki: Pki, pdf: bytes) -> None:
    """Trap P13: the stock path builder ends in "math domain error"."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    signer = make_identity("Сөрөг", pki.authority, key=key)
    data = sign(pki, pdf, level="B-B", key=key, chain=(signer.der, pki.authority.der, pki.root.der)).data
    modulus = key.public_key().public_numbers().n.to_bytes(257, "big")
    negative = b"\x00\xff" + modulus[2:]
    broken = data.replace(
        (b"\x02\x82\x01\x01" + modulus).hex().upper().encode(),
        (b"\x02\x82\x01\x01\x80" + negative[1:]).hex().upper().encode(),
    )
    assert broken != data
    assert only(judged(broken, pki, evidence=fresh(pki)))["indication"] != "TOTAL-PASSED"
