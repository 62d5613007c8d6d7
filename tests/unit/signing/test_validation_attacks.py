"""Files made to deceive: none of them may pass (shadow attacks, overlays, borrowed certificates and the like)."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from typing import Any

import pikepdf
import pytest
from asn1crypto import cms as asn1_cms
from asn1crypto import core as asn1_core
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from pyhanko.pdf_utils import generic

from signing import pades
from signing.pades import Evidence

from .conftest import NOW, Identity, Pki, make_crl, make_identity, make_ocsp, make_pdf, make_token, sign
from .test_validation import LATER, Source, codes, fresh, incrementally, judged, only, outcome, with_cms

HOUR = timedelta(hours=1)
name = generic.pdf_name


def passes(report: Any) -> bool:
    """Whether a relying party would take the document, or any signature in it, for good."""
    return report.document_status == "TOTAL-PASSED" or any(
        entry["indication"] == "TOTAL-PASSED" for entry in report.simple()["signatures"]
    )


# Later revisions


def overlay(writer: Any, text: bytes = b"0 0 1 rg 0 0 200 50 re f") -> Any:
    """A form XObject that paints over something."""
    box = generic.ArrayObject(generic.NumberObject(n) for n in (0, 0, 200, 50))
    entries = {name("/Type"): name("/XObject"), name("/Subtype"): name("/Form"), name("/BBox"): box}
    return writer.add_object(generic.StreamObject(entries, stream_data=text))


def add_field(writer: Any, value: Any = None, kind: str = "/Sig", picture: Any = None) -> Any:
    """A visible signature field on the first page, over the text."""
    page_pointer = writer.root["/Pages"]["/Kids"].raw_get(0)
    field = generic.DictionaryObject(
        {
            name("/FT"): name(kind), name("/T"): generic.TextStringObject("Over"), name("/Type"): name("/Annot"),
            name("/Subtype"): name("/Widget"), name("/F"): generic.NumberObject(132), name("/P"): page_pointer,
            name("/Rect"): generic.ArrayObject(generic.NumberObject(n) for n in (70, 690, 270, 740)),
        }
    )  # fmt: skip
    if picture is not None:
        field[name("/AP")] = generic.DictionaryObject({name("/N"): picture})
    if value is not None:
        field[name("/V")] = value
    pointer = writer.add_object(field)
    form = writer.root["/AcroForm"]
    form["/Fields"].append(pointer)
    writer.update_container(form["/Fields"])
    page = page_pointer.get_object()
    present = page["/Annots"] if "/Annots" in page else ()  # noqa: SIM401 - get would not follow
    page[name("/Annots")] = generic.ArrayObject([*present, pointer])
    writer.mark_update(page_pointer)
    return pointer


def empty_field(writer: Any) -> None:
    add_field(writer, picture=overlay(writer))


def borrowed_value(writer: Any) -> None:
    add_field(writer, writer.root["/AcroForm"]["/Fields"][0].get_object().raw_get("/V"), picture=overlay(writer))


def text_field(writer: Any) -> None:
    add_field(writer, kind="/Tx", picture=overlay(writer))


def appearance(writer: Any) -> None:
    field = writer.root["/AcroForm"]["/Fields"].raw_get(0)
    field.get_object()["/AP"] = generic.DictionaryObject({name("/N"): overlay(writer)})
    writer.mark_update(field)


def appearance_in_place(writer: Any) -> None:
    pointer = writer.root["/AcroForm"]["/Fields"][0].get_object()["/AP"].raw_get("/N")
    pointer.get_object()._data = b"0 0 1 rg 0 0 200 50 re f"
    pointer.get_object()._encoded_data = None
    writer.mark_update(pointer)


def rectangle(writer: Any) -> None:
    field = writer.root["/AcroForm"]["/Fields"].raw_get(0)
    field.get_object()["/Rect"] = generic.ArrayObject(generic.NumberObject(n) for n in (0, 0, 595, 842))
    writer.mark_update(field)


def font(writer: Any) -> None:
    fonts = writer.root["/Pages"]["/Kids"][0].get_object()["/Resources"]["/Font"]
    pointer = fonts.raw_get("/F1")
    pointer.get_object()["/BaseFont"] = name("/Symbol")
    writer.mark_update(pointer)


def other_pages(writer: Any) -> None:
    pages = generic.DictionaryObject(writer.root["/Pages"])
    writer.root["/Pages"] = writer.add_object(pages)
    writer.mark_update(writer.root_ref)


def other_root(writer: Any) -> None:
    writer._force_write_when_empty = True
    root = writer.add_object(generic.DictionaryObject(writer.root))
    writer.trailer["/Root"] = root
    writer._root = root
    writer._root_object = root.get_object()


def open_action(writer: Any) -> None:
    action = {name("/S"): name("/JavaScript"), name("/JS"): generic.TextStringObject("app.alert(1)")}
    writer.root["/OpenAction"] = generic.DictionaryObject(action)
    writer.mark_update(writer.root_ref)


def unlocked(writer: Any) -> None:
    field = writer.root["/AcroForm"]["/Fields"].raw_get(0)
    field.get_object()["/Lock"] = generic.DictionaryObject({name("/Action"): name("/All")})
    writer.mark_update(field)


def value_gone(writer: Any) -> None:
    field = writer.root["/AcroForm"]["/Fields"].raw_get(0)
    del field.get_object()["/V"]
    writer.mark_update(field)


def layers(writer: Any) -> None:
    writer.root["/OCProperties"] = generic.DictionaryObject({name("/D"): generic.DictionaryObject()})
    writer.mark_update(writer.root_ref)


LATER_CHANGES = (
    empty_field, borrowed_value, text_field, appearance, appearance_in_place, rectangle, font, other_pages, other_root,
    open_action, unlocked, value_gone, layers,
)  # fmt: skip


@pytest.mark.parametrize("change", LATER_CHANGES)
def test_a_later_revision_that_changes_what_is_seen_fails(
    pki: Pki, signed: bytes, change: Callable[[Any], None]
) -> None:
    assert not passes(judged(incrementally(signed, change), pki))


def test_a_time_stamp_of_a_stranger_may_not_paint_over_the_page(pki: Pki, foreign_pki: Pki, signed: bytes) -> None:
    for subtype in ("/DocTimeStamp", "/Sig"):
        assert not passes(judged(stamped(signed, foreign_pki, picture=True, subtype=subtype), pki))


def stamped(data: bytes, pki: Pki, *, picture: bool = False, at: Any = NOW, subtype: str = "/DocTimeStamp") -> bytes:
    """The document with a document time-stamp appended."""
    marker = b"/ByteRange [0 1111111111 1111111111 1111111111]"

    def add(writer: Any) -> None:
        value = generic.DictionaryObject(
            {
                name("/Type"): name(subtype), name("/Filter"): name("/Adobe.PPKLite"),
                name("/SubFilter"): name("/ETSI.RFC3161"),
                name("/ByteRange"): generic.ArrayObject(generic.NumberObject(n) for n in (0, *(1111111111,) * 3)),
                name("/Contents"): generic.ByteStringObject(b"\x01" * 6000),
            }
        )  # fmt: skip
        pointer = add_field(writer, writer.add_object(value), picture=overlay(writer) if picture else None)
        if not picture:
            pointer.get_object()["/Rect"] = generic.ArrayObject(generic.NumberObject(0) for _ in range(4))

    document = incrementally(data, add)
    place = document.rindex(b"/ByteRange")
    stated = re.match(rb"/ByteRange *\[[^\]]*\]", document[place:]).group()  # type: ignore[union-attr]
    assert len(stated) >= len(marker) - 2
    before = document.index(b"<0101", place)
    after = document.index(b">", before) + 1
    text = b"/ByteRange [0 %d %d %d]" % (before, after, len(document) - after)
    document = document[:place] + text.ljust(len(stated)) + document[place + len(stated) :]
    digest = hashlib.sha256(document[:before] + document[after:]).digest()
    token = make_token(pki.time_stamping, (pki.authority.der,), at, digest)
    return document[: before + 1] + token.ljust(6000, b"\x00").hex().upper().encode() + document[after - 1 :]


def test_the_document_time_stamps_of_these_tests_hold(pki: Pki, signed: bytes) -> None:
    report = judged(stamped(signed, pki), pki).simple()
    assert [entry["indication"] for entry in report["document_time_stamps"]] == ["TOTAL-PASSED"]
    assert only(judged(stamped(signed, pki), pki))["level"] == "B-LTA"


def test_a_document_time_stamp_from_the_future_proves_nothing(pki: Pki, pdf: bytes) -> None:
    """A certificate that is not valid yet would be valid then."""
    early = make_identity("Эхлээгүй", pki.authority, not_before=LATER + 24 * HOUR)
    done = sign(pki, pdf, level="B-B", key=early.key, chain=(early.der, pki.authority.der, pki.root.der)).data
    answers = [make_ocsp(one.certificate, pki.authority, pki.responder, at=LATER, next_update=LATER + 90 * HOUR)
               for one in (early, pki.time_stamping)]  # fmt: skip
    evidence = Source(Evidence(ocsp=tuple(answers), crls=(pki.crl(at=LATER, next_update=LATER + 90 * HOUR),)))
    document = stamped(done, pki, at=LATER + 48 * HOUR)
    report = judged(document, pki, evidence=evidence)
    assert not passes(report)
    assert report.simple()["document_time_stamps"][0]["indication"] != "TOTAL-PASSED"


# Prepared by whoever wrote the document: what is signed refers to what comes later


def dangling(number: int) -> bytes:
    """A page whose contents name an object that is not there."""
    data = make_pdf(1)
    match = re.search(rb"/Contents (\d+) 0 R", data)
    assert match is not None
    text = b"/Contents [%s 0 R %d 0 R]" % (match.group(1), number)
    changed = data[: match.start()] + text + data[match.end() :]
    with pikepdf.open(BytesIO(changed)) as document:  # only to see that it opens
        assert len(document.pages) == 1
    moved = len(text) - len(match.group())
    table = changed.rindex(b"xref\n", 0, changed.rindex(b"startxref"))
    head, rest = changed[:table], changed[table:]

    def shift(entry: re.Match[bytes]) -> bytes:
        offset = int(entry.group(1))
        return b"%010d 00000 n" % (offset + moved if offset > match.start() else offset)

    rest = re.sub(rb"(\d{10}) 00000 n", shift, rest)
    return head + re.sub(rb"startxref\n\d+", b"startxref\n%d" % table, rest)


@pytest.mark.parametrize("way", ["orphan", "store", "appearance"])
def test_what_is_signed_may_not_wait_for_a_later_object(pki: Pki, way: str) -> None:
    """Shadow attack: the page names an object that the attacker defines after the signature."""
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter

    signed_document = sign(pki, dangling(200), level="B-B", placement=None).data
    writer = IncrementalPdfFileWriter(BytesIO(signed_document))
    writer._lastobj_id = 199
    writer._last_id = 199
    content = generic.StreamObject(stream_data=pki.authority.der)
    reference = generic.Reference(200, 0, writer)
    writer.objects[(0, 200)] = content  # keys are (generation, number)
    if way == "store":
        certificates = generic.ArrayObject([generic.IndirectObject(200, 0, writer)])
        writer.root["/DSS"] = writer.add_object(generic.DictionaryObject({name("/Certs"): certificates}))
        writer.mark_update(writer.root_ref)
    if way == "appearance":
        add_field(writer, picture=generic.IndirectObject(200, 0, writer))
    output = BytesIO()
    writer._force_write_when_empty = True
    writer.write(output)
    document = output.getvalue()
    assert b"\n200 0 obj" in document, reference
    assert not passes(judged(document, pki, evidence=fresh(pki)))


def before_and_behind(data: bytes, number: int, offset: int) -> bytes:
    """The document with its object ``number`` said to lie at ``offset``."""
    table = data.rindex(b"xref\n", 0, data.rindex(b"startxref"))
    entries = list(re.finditer(rb"\d{10} 0000[01] n", data[table:]))
    place = table + entries[number - 1].start()
    return data[:place] + b"%010d" % offset + data[place + 10 :]


def contents_number(data: bytes) -> int:
    match = re.search(rb"/Contents (\d+) 0 R", data)
    assert match is not None
    return int(match.group(1))


def appended(data: bytes, body: bytes) -> bytes:
    """A hand-made revision that changes nothing, with ``body`` in front of its cross-references."""
    previous = int(data[data.rindex(b"startxref") + 9 :].split()[0])
    trailer = re.findall(rb"/(?:Info|Root) \d+ 0 R|/Size \d+|/ID *\[[^\]]*\]", data[data.rindex(b"trailer") :])
    start = len(data) + len(body)
    tail = b"xref\n0 1\n0000000000 65535 f \ntrailer\n<< %s /Prev %d >>\nstartxref\n%d\n%%%%EOF\n"
    return data + body + tail % (b" ".join(trailer), previous, start)


def test_a_hand_made_revision_that_changes_nothing_passes(pki: Pki, pdf: bytes) -> None:
    document = appended(sign(pki, pdf, level="B-B", placement=None).data, b"% nothing\n")
    assert passes(judged(document, pki, evidence=fresh(pki)))


def test_signed_cross_references_may_not_point_behind_the_signature(pki: Pki) -> None:
    """Shadow attack: the page's content is said to lie where the attacker will put it."""
    number, place = contents_number(make_pdf(1)), 60_000
    done = sign(pki, before_and_behind(make_pdf(1), number, place), level="B-B", placement=None).data
    shown = b"%d 0 obj\n<< /Length 24 >>\nstream\n0 0 1 rg 0 0 200 50 re f\nendstream\nendobj\n" % number
    padding = b"%".ljust(place - len(done) - 1, b"x") + b"\n"
    assert not passes(judged(appended(done, padding + shown), pki, evidence=fresh(pki)))


def test_a_signed_stream_may_not_reach_behind_the_signature(pki: Pki) -> None:
    """Shadow attack: the content's length leads past the end of the signed file, to what comes later."""
    data = make_pdf(1)
    number = contents_number(data)
    start = data.index(b"\n%d 0 obj" % number) + 1
    end = data.index(b"endobj", start) + 7
    length, body = 60_000, b"0 0 1 rg\nendstream\nendobj\n"
    head = b"%d 0 obj\n<< /Length %d >>\nstream\n" % (number, length)
    new = head + body
    new = new[: end - start - 1].ljust(end - start - 1) + b"\n" if len(new) < end - start else new
    assert len(new) == end - start
    done = sign(pki, data[:start] + new + data[end:], level="B-B", placement=None).data
    gap = start + len(head) + length - len(done)
    later = b"%".ljust(gap - 26, b"x") + b"\n0 0 1 rg 0 0 200 50 re f\n" + b"endstream\nendobj\n"
    assert not passes(judged(appended(done, later), pki, evidence=fresh(pki)))


@pytest.mark.parametrize("locked", [False, True])
def test_a_document_locked_by_its_signature_stays_as_it_is(
    pki: Pki, locked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ISO 32000-2 12.8.2.2: /P 1 allows no change but evidence and time-stamps, not even another signature."""
    monkeypatch.setattr("signing.documents._check_locks", lambda *_: None)  # our own signing refuses
    output = BytesIO()
    with pikepdf.open(BytesIO(make_pdf(1))) as document:
        lock = pikepdf.Dictionary(Type=pikepdf.Name.SigFieldLock, Action=pikepdf.Name.All, P=1)
        field = pikepdf.Dictionary(
            FT=pikepdf.Name.Sig, T="First", Type=pikepdf.Name.Annot, Subtype=pikepdf.Name.Widget, Rect=[0, 0, 0, 0],
            F=132, **({"Lock": lock} if locked else {}),
        )  # fmt: skip
        document.Root.AcroForm = pikepdf.Dictionary(Fields=[document.make_indirect(field)], SigFlags=0)
        document.save(output)
    first = sign(pki, output.getvalue(), placement=pades.Placement(field="First")).data
    second = judged(sign(pki, first, placement=None).data, pki).simple()["signatures"]
    assert [entry["indication"] for entry in second] == ["TOTAL-FAILED" if locked else "TOTAL-PASSED", "TOTAL-PASSED"]
    assert ("DOC_MDP_BREACH" in codes(second[0])) is locked


# The signature itself


def about(pki: Pki, identity: Identity) -> Source:
    """Fresh evidence that says good of everything, ``identity`` included."""
    answers = [pki.ocsp(one, at=LATER) for one in (identity, pki.time_stamping)]
    return Source(Evidence(tuple(answers), (pki.crl(at=LATER),)))


def resigned(data: bytes, key: Any, change: Callable[[Any, list[Any]], Any]) -> bytes:
    """The signature with other signed attributes or algorithms, made by the signer's own key."""

    def rewrite(octets: bytes) -> bytes:
        info = asn1_cms.ContentInfo.load(octets)
        signer = info["content"]["signer_infos"][0]
        attributes = list(signer["signed_attrs"])
        made = change(info["content"], attributes)
        signer["signed_attrs"] = asn1_cms.CMSAttributes(sorted(attributes, key=lambda one: bytes(one.dump())))
        to_sign = signer["signed_attrs"].untag().dump(force=True)
        signer["signature"] = made(to_sign) if made else key.sign(to_sign, ec.ECDSA(hashes.SHA256()))
        return bytes(info.dump())

    return with_cms(data, rewrite)


def attribute(attributes: list[Any], kind: str) -> Any:
    return next(one for one in attributes if one["type"].native == kind)


def without(kind: str) -> Callable[[Any, list[Any]], None]:
    return lambda _, attributes: attributes.remove(attribute(attributes, kind))


def twice(kind: str) -> Callable[[Any, list[Any]], None]:
    return lambda _, attributes: attributes.append(attribute(attributes, kind).copy())


def other_type(_: Any, attributes: list[Any]) -> None:
    attribute(attributes, "content_type")["values"] = ["signed_data"]


def other_certificate(_: Any, attributes: list[Any]) -> None:
    value = attribute(attributes, "signing_certificate_v2")["values"][0]
    value["certs"][0]["cert_hash"] = hashlib.sha256(b"another").digest()


def unannounced(content: Any, _: list[Any]) -> None:
    content["digest_algorithms"] = [{"algorithm": "sha512"}]


def nothing(_content: Any, _attributes: list[Any]) -> None:
    return None


FORGED = {
    "no message-digest": without("message_digest"), "no content-type": without("content_type"),
    "no signing-certificate": without("signing_certificate_v2"), "two message-digests": twice("message_digest"),
    "two signing-certificates": twice("signing_certificate_v2"), "another content-type": other_type,
    "another signing-certificate": other_certificate, "digest not announced": unannounced,
}  # fmt: skip


def test_a_signature_made_again_passes(pki: Pki, pdf: bytes) -> None:
    """So that the cases below fail for what they change."""
    document = resigned(sign(pki, pdf, level="B-B").data, pki.signer.key, nothing)
    assert passes(judged(document, pki, evidence=fresh(pki)))


@pytest.mark.parametrize("flaw", FORGED)
def test_signed_attributes_are_complete_and_fit(pki: Pki, pdf: bytes, flaw: str) -> None:
    document = resigned(sign(pki, pdf, level="B-B").data, pki.signer.key, FORGED[flaw])
    assert not passes(judged(document, pki, evidence=fresh(pki)))


@pytest.mark.parametrize("value", ["3006020100020100", "3006020101020100", "3006020100020101", "", "3000"])
def test_a_signature_value_of_zeros_does_not_verify(pki: Pki, pdf: bytes, value: str) -> None:
    change = lambda _content, _attributes: lambda _octets: bytes.fromhex(value)  # noqa: E731
    document = resigned(sign(pki, pdf, level="B-B").data, pki.signer.key, change)
    assert outcome(judged(document, pki, evidence=fresh(pki))) == ("TOTAL-FAILED", "SIG_CRYPTO_FAILURE")


@pytest.mark.parametrize("digest", ["sha1", "md5"])
def test_a_weak_digest_in_the_signature_algorithm_counts(pki: Pki, pdf: bytes, digest: str) -> None:
    """RSASSA-PSS states its digest in the parameters (RFC 4056 3), beside the SignerInfo's."""
    key = rsa.generate_private_key(65537, 2048)
    signer = make_identity("Сул", pki.authority, key=key)
    done = sign(pki, pdf, level="B-B", key=key, chain=(signer.der, pki.authority.der, pki.root.der)).data

    def pss(content: Any, _: list[Any]) -> Any:
        parameters = {
            "hash_algorithm": {"algorithm": digest},
            "mask_gen_algorithm": {"algorithm": "mgf1", "parameters": {"algorithm": digest}}, "salt_length": 16,
        }  # fmt: skip
        content["signer_infos"][0]["signature_algorithm"] = {"algorithm": "rsassa_pss", "parameters": parameters}
        weak = {"sha1": hashes.SHA1, "md5": hashes.MD5}[digest]()
        return lambda octets: key.sign(octets, padding.PSS(padding.MGF1(weak), 16), weak)

    report = judged(resigned(done, key, pss), pki, evidence=about(pki, signer))
    assert not passes(report)
    assert "ALGORITHM_WEAK" in codes(only(report)) or only(report)["sub_indication"] == "SIG_CRYPTO_FAILURE"


def test_a_signature_is_good_for_its_own_document_only(pki: Pki) -> None:
    """The whole dictionary, copied into another document of the same layout."""
    one, other = (sign(pki, make_pdf(title=title), level="B-B").data for title in ("Гэрээ", "Өөр гэрээ"))
    first, second = (data.rindex(b"/Contents <") + 10 for data in (one, other))
    length = one.index(b">", first) - first
    copied = other[:second] + one[first : first + length] + other[second + length :]
    assert outcome(judged(copied, pki, evidence=fresh(pki))) == ("TOTAL-FAILED", "HASH_FAILURE")


# Certificates


@pytest.mark.parametrize("usage", ["CLIENT_AUTH", "SERVER_AUTH", "CODE_SIGNING", "OCSP_SIGNING", "TIME_STAMPING"])
def test_a_certificate_for_something_else_does_not_sign_documents(pki: Pki, pdf: bytes, usage: str) -> None:
    """RFC 5280 4.2.1.12: a service's certificate under the same root is no person's."""
    service = make_identity("Үйлчилгээ", pki.authority, usages=(getattr(ExtendedKeyUsageOID, usage),))
    done = sign(pki, pdf, level="B-B", key=service.key, chain=(service.der, pki.authority.der, pki.root.der))
    report = judged(done.data, pki, evidence=about(pki, service))
    assert outcome(report) == ("INDETERMINATE", "CHAIN_CONSTRAINTS_FAILURE")


def test_a_certificate_for_documents_signs_them(pki: Pki, pdf: bytes) -> None:
    signer = make_identity("Бат", pki.authority, usages=(x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36"),))
    done = sign(pki, pdf, level="B-B", key=signer.key, chain=(signer.der, pki.authority.der, pki.root.der))
    assert passes(judged(done.data, pki, evidence=about(pki, signer)))


def altered(identity: Identity, issuer: Identity, change: Callable[[Any], None]) -> Identity:
    """The certificate with something else inside, signed by its issuer again."""
    certificate = asn1_x509.Certificate.load(identity.der)
    change(certificate["tbs_certificate"])
    octets = certificate["tbs_certificate"].dump(force=True)
    assert isinstance(issuer.key, ec.EllipticCurvePrivateKey)
    certificate["signature_value"] = issuer.key.sign(octets, ec.ECDSA(hashes.SHA256()))
    return dataclasses.replace(identity, certificate=x509.load_der_x509_certificate(certificate.dump(force=True)))


def extension(tbs: Any, kind: str) -> Any:
    return next(one for one in tbs["extensions"] if one["extn_id"].native == kind)


def no_certificate_signing(tbs: Any) -> None:
    extension(tbs, "key_usage")["extn_value"] = asn1_x509.KeyUsage({"digital_signature", "crl_sign"})


def no_further_authority(tbs: Any) -> None:
    extension(tbs, "basic_constraints")["extn_value"] = {"ca": True, "path_len_constraint": 0}


def other_names_only(tbs: Any) -> None:
    permitted = asn1_x509.GeneralName("directory_name", asn1_x509.Name.build({"country_name": "XX"}))
    value = asn1_x509.NameConstraints({"permitted_subtrees": [{"base": permitted}]})
    tbs["extensions"].append({"extn_id": "name_constraints", "critical": True, "extn_value": value})


def unknown_and_critical(tbs: Any) -> None:
    value = asn1_core.ParsableOctetString(b"\x05\x00")
    tbs["extensions"].append({"extn_id": "1.3.6.1.4.1.99999.7", "critical": True, "extn_value": value})


@pytest.mark.parametrize(
    "change", [no_certificate_signing, no_further_authority, other_names_only, unknown_and_critical]
)
def test_an_authority_acts_within_its_certificate(pki: Pki, pdf: bytes, change: Callable[[Any], None]) -> None:
    """RFC 5280 6.1.4 (g), (k)-(o)."""
    upper = altered(make_identity("Дээд", pki.root, authority=True), pki.root, change)
    lower = make_identity("Доод", upper, authority=True)
    signer = make_identity("Бат", lower)
    chain = (signer.der, lower.der, upper.der, pki.root.der)
    answers = [make_ocsp(one.certificate, issuer, issuer, at=LATER)
               for one, issuer in ((signer, lower), (lower, upper), (upper, pki.root))]  # fmt: skip
    done = sign(pki, pdf, level="B-B", key=signer.key, chain=chain).data
    report = judged(done, pki, evidence=Source(Evidence(tuple(answers))))
    assert outcome(report) == ("INDETERMINATE", "CHAIN_CONSTRAINTS_FAILURE")


def test_short_keys_do_not_pass(pki: Pki, pdf: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signing.token_signer._check_key", lambda *_: None)  # our own signing refuses
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505
    signer = make_identity("Богино түлхүүр", pki.authority, key=key)
    done = sign(pki, pdf, level="B-B", key=key, chain=(signer.der, pki.authority.der, pki.root.der))
    assert not passes(judged(done.data, pki, evidence=about(pki, signer)))


# Time-stamps and evidence


def with_token(pki: Pki, pdf: bytes, make: Callable[[bytes], bytes]) -> bytes:
    """A B-T signature whose time-stamp ``make`` makes of the signature value's digest, without any check."""
    done = sign(pki, pdf, level="B-T").data

    def change(octets: bytes) -> bytes:
        info = asn1_cms.ContentInfo.load(octets)
        signer = info["content"]["signer_infos"][0]
        token = asn1_cms.ContentInfo.load(make(hashlib.sha256(signer["signature"].native).digest()))
        signer["unsigned_attrs"] = [{"type": "signature_time_stamp_token", "values": [token]}]
        return bytes(info.dump())

    return with_cms(done, change)


def test_a_token_put_in_afterwards_passes(pki: Pki, pdf: bytes) -> None:
    report = judged(with_token(pki, pdf, pki.time_stamp()), pki, evidence=fresh(pki))
    assert (outcome(report), only(report)["level"]) == (("TOTAL-PASSED", None), "B-T")


def stamped_by(pki: Pki, pdf: bytes, authority: Identity, at: Any = NOW) -> dict[str, Any]:
    document = with_token(pki, pdf, lambda digest: make_token(authority, (pki.authority.der,), at, digest))
    answers = [pki.ocsp(one, at=LATER) for one in (pki.signer, authority)]
    return only(judged(document, pki, evidence=Source(Evidence(tuple(answers), (pki.crl(at=LATER),)))))


def not_critical(tbs: Any) -> None:
    extension(tbs, "extended_key_usage")["critical"] = False


def two_purposes(tbs: Any) -> None:
    extension(tbs, "extended_key_usage")["extn_value"] = ["time_stamping", "client_auth"]


@pytest.mark.parametrize("change", [not_critical, two_purposes])
def test_only_a_time_stamping_certificate_proves_a_time(pki: Pki, pdf: bytes, change: Callable[[Any], None]) -> None:
    signature = stamped_by(pki, pdf, altered(pki.time_stamping, pki.authority, change))
    assert (signature["best_signature_time"], signature["level"]) == (None, "B-B")


def test_a_time_before_the_authority_had_its_certificate_is_not_proven(pki: Pki, pdf: bytes) -> None:
    signature = stamped_by(pki, pdf, pki.time_stamping, NOW - 60 * 24 * HOUR)
    assert signature["best_signature_time"] is None


def test_a_token_for_another_signature_does_not_pass(pki: Pki, pdf: bytes) -> None:
    document = with_token(pki, pdf, lambda _: pki.time_stamp()(bytes(32)))
    assert outcome(judged(document, pki, evidence=fresh(pki))) == ("TOTAL-FAILED", "FORMAT_FAILURE")


def test_a_token_from_the_future_proves_no_time(pki: Pki, pdf: bytes) -> None:
    document = with_token(pki, pdf, pki.time_stamp(LATER + 24 * HOUR))
    assert only(judged(document, pki, evidence=fresh(pki)))["best_signature_time"] is None


@pytest.mark.parametrize("weak", ["sha1", "md5"])
def test_a_token_over_a_weak_digest_proves_no_time(pki: Pki, pdf: bytes, weak: str) -> None:
    """The imprint's algorithm is judged like any other (EN 319 102-1 5.2.8): who finds collisions moves the stamp."""
    document = weakly_stamped(pki, pdf, weak)
    assert only(judged(document, pki, evidence=fresh(pki)))["best_signature_time"] is None


def weakly_stamped(pki: Pki, pdf: bytes, digest: str) -> bytes:
    done = sign(pki, pdf, level="B-T").data

    def change(octets: bytes) -> bytes:
        info = asn1_cms.ContentInfo.load(octets)
        signer = info["content"]["signer_infos"][0]
        token = asn1_cms.ContentInfo.load(pki.time_stamp()(bytes(32)))
        content = token["content"]
        stated = content["encap_content_info"]["content"].parsed
        stated["message_imprint"] = {
            "hash_algorithm": {"algorithm": digest},
            "hashed_message": hashlib.new(digest, signer["signature"].native).digest(),
        }
        octets = stated.dump(force=True)
        content["encap_content_info"]["content"] = asn1_cms.ParsableOctetString(octets)
        stamp = content["signer_infos"][0]
        attributes = list(stamp["signed_attrs"])
        attribute(attributes, "message_digest")["values"] = [hashlib.sha256(octets).digest()]
        stamp["signed_attrs"] = asn1_cms.CMSAttributes(sorted(attributes, key=lambda one: bytes(one.dump())))
        to_sign = stamp["signed_attrs"].untag().dump(force=True)
        stamp["signature"] = pki.time_stamping.key.sign(to_sign, ec.ECDSA(hashes.SHA256()))  # type: ignore[call-arg, arg-type]
        signer["unsigned_attrs"] = [{"type": "signature_time_stamp_token", "values": [token]}]
        return bytes(info.dump())

    return with_cms(done, change)


def test_weakly_stamped_is_else_in_order(pki: Pki, pdf: bytes) -> None:
    signature = only(judged(weakly_stamped(pki, pdf, "sha256"), pki, evidence=fresh(pki)))
    assert signature["best_signature_time"] is not None


def test_a_revoked_responder_says_nothing(pki: Pki, pdf: bytes) -> None:
    responder = make_identity("Хүчингүй", pki.authority, usages=(ExtendedKeyUsageOID.OCSP_SIGNING,))
    answer = make_ocsp(pki.signer.certificate, pki.authority, responder, at=LATER)
    done = sign(pki, pdf, level="B-B").data
    for revoked_at in (NOW - HOUR, None):
        about_responder = pki.ocsp(responder, at=LATER, revoked_at=revoked_at)
        report = judged(done, pki, evidence=Source(Evidence((answer, about_responder), (pki.crl(at=LATER),))))
        assert passes(report) is (revoked_at is None)


def test_a_list_of_a_namesake_says_nothing(pki: Pki, pdf: bytes) -> None:
    namesake = make_identity("Туршилтын олгогч", authority=True)
    done = sign(pki, pdf, level="B-B").data
    for issuer in (namesake, pki.authority):
        evidence = Evidence((), (make_crl(issuer, at=LATER), pki.crl(at=LATER)))
        assert passes(judged(done, pki, evidence=Source(evidence))) is (issuer is pki.authority)
