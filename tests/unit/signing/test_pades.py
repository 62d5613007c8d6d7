"""Signatures as they leave: form, level, append-only, and what other software says of them (S1, S2, S5, S21)."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from asn1crypto import cms as asn1_cms
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from signing import token_signer
from signing.document_errors import ReservedSpaceTooSmall, SignatureSelfCheckFailed, TimeStampUnusable
from signing.pades import Evidence, Placement, PreparedSignature, SignerFacts, finish, prepare
from signing.revision_checksum import Checksum, check
from signing.validation import TrustAnchors, validate

from .conftest import NOW, Pki, make_identity, make_pdf, sign


def contents(document: bytes) -> bytes:
    """The CMS of the last signature, without padding."""
    *_, (_, before, after, _) = (
        tuple(map(int, found.groups())) for found in re.finditer(rb"/ByteRange \[(\d+) (\d+) (\d+) (\d+)\]", document)
    )
    octets = bytes.fromhex(document[before + 1 : after - 1].decode())
    return bytes(asn1_cms.ContentInfo.load(octets).dump())


def prepared(pki: Pki, data: bytes, **kwargs: Any) -> PreparedSignature:
    return prepare(
        data, signer=SignerFacts("Бат"), chain=pki.chain, placement=None, language="mn", signing_time=NOW, **kwargs
    )


def test_the_form_is_that_of_pades(pki: Pki, signed: bytes) -> None:
    """EN 319 142-1 6.3, read by another parser."""
    with pikepdf.open(BytesIO(signed)) as document:
        signature = document.Root.AcroForm.Fields[0].V
        assert signature.SubFilter == pikepdf.Name("/ETSI.CAdES.detached")
        assert signature.Filter == pikepdf.Name("/Adobe.PPKLite")
        assert str(signature.M) == "D:20261121040506Z"
        assert "/Cert" not in signature
        assert int(document.Root.AcroForm.SigFlags) == 3
        assert {"/Certs", "/OCSPs", "/CRLs"} <= set(document.Root.DSS.keys())
    info = asn1_cms.ContentInfo.load(contents(signed))
    (signer,) = info["content"]["signer_infos"]
    assert [entry["type"].native for entry in signer["signed_attrs"]] == [
        "content_type", "message_digest", "signing_certificate_v2",
    ]  # fmt: skip
    assert [entry["type"].native for entry in signer["unsigned_attrs"]] == ["signature_time_stamp_token"]
    assert info["content"]["encap_content_info"]["content"].native is None
    # What is digested is encoded as a general encoder would; encoding the whole tree anew takes that one a minute.
    attributes = signer["signed_attrs"].untag()
    assert attributes.dump() == attributes.dump(force=True)


def test_the_byte_range_covers_all_but_the_contents(signed: bytes) -> None:
    first, before, after, rest = map(int, re.search(rb"/ByteRange \[(\d+) (\d+) (\d+) (\d+)\]", signed).groups())  # type: ignore[union-attr]
    assert first == 0
    assert (signed[before : before + 1], signed[after - 1 : after]) == (b"<", b">")
    assert signed[: after + rest].endswith(b"%%EOF\n")


@pytest.mark.parametrize("level", ["B-B", "B-T", "B-LT"])
def test_the_level_asked_for_is_reached_and_the_input_is_kept(pki: Pki, pdf: bytes, level: str) -> None:
    done = sign(pki, pdf, level=level)
    assert done.level == level
    assert done.data.startswith(pdf)
    report = validate(
        done.data, trust=TrustAnchors((pki.root.der,)), at=NOW, evidence=None if level == "B-LT" else _Source(pki)
    ).simple()
    assert [(entry["indication"], entry["level"]) for entry in report["signatures"]] == [("TOTAL-PASSED", level)]


class _Source:
    def __init__(self, pki: Pki) -> None:
        self._pki = pki

    def evidence(self, certificate: bytes, issuer: bytes) -> Evidence:
        found: Evidence = self._pki.evidence()
        return found


def test_long_term_is_never_claimed_without_evidence_for_every_certificate(pki: Pki, pdf: bytes) -> None:
    """Trap P3: the stock signer writes "B-LT" without any OCSP response or list, silently."""
    full = pki.evidence()
    for missing in (
        Evidence(certificates=pki.chain),
        dataclasses.replace(full, crls=()),
        dataclasses.replace(full, ocsp=full.ocsp[:1]),
        dataclasses.replace(full, ocsp=full.ocsp[1:]),
        dataclasses.replace(full, ocsp=(pki.ocsp(revoked_at=NOW), full.ocsp[1])),
        dataclasses.replace(full, ocsp=(pki.ocsp(at=NOW.replace(year=2025)), full.ocsp[1])),
        dataclasses.replace(full, ocsp=(full.ocsp[0][:-1] + b"\x00", full.ocsp[1])),
    ):
        done = sign(pki, pdf, evidence=missing)
        assert done.level == "B-T"
        assert b"/DSS" not in done.data


def test_a_responder_without_nocheck_needs_evidence_of_its_own(pki: Pki, pdf: bytes) -> None:
    from cryptography.x509.oid import ExtendedKeyUsageOID

    checked = make_identity("Шалгагддаг", pki.authority, usages=(ExtendedKeyUsageOID.OCSP_SIGNING,))
    other = dataclasses.replace(pki, responder=checked)
    assert sign(pki, pdf, evidence=other.evidence()).level == "B-T"
    whole = other.evidence() + Evidence(ocsp=(pki.ocsp(checked),))
    assert sign(pki, pdf, evidence=whole).level == "B-LT"


def test_evidence_given_at_preparation_lies_inside_the_signed_revision(pki: Pki, pdf: bytes, tmp_path: Path) -> None:
    first = prepared(pki, pdf, evidence=pki.evidence())
    parked = PreparedSignature.from_bytes(first.to_bytes())
    assert parked == first
    done = finish(parked, key=pki.signer.key, chain=pki.chain, time_stamp=pki.time_stamp(), evidence=None)
    assert done.level == "B-LT"
    assert "Total document signed" in pdfsig(done.data, tmp_path)


def test_a_prepared_signature_can_be_parked(pki: Pki, pdf: bytes) -> None:
    first = prepared(pki, pdf)
    again = PreparedSignature.from_bytes(first.to_bytes())
    assert again == first
    assert first.sdr == hashlib.sha256(
        first.revision[: first.byte_range[1]] + first.revision[first.byte_range[2] :]
    ).hexdigest()  # fmt: skip
    with pytest.raises(ValueError):
        PreparedSignature.from_bytes(b"{}\n")


def test_only_what_was_prepared_is_signed(pki: Pki, pdf: bytes) -> None:
    first = prepared(pki, pdf)
    changed = dataclasses.replace(first, revision=first.revision.replace(b"Page 1", b"Page 9"))
    changed = dataclasses.replace(changed, revision=bytes([*changed.revision[:20], 0x41, *changed.revision[21:]]))
    with pytest.raises(SignatureSelfCheckFailed):
        finish(changed, key=pki.signer.key, chain=pki.chain, time_stamp=None, evidence=None, level="B-B")


def test_a_key_of_somebody_else_signs_nothing(pki: Pki, pdf: bytes) -> None:
    with pytest.raises(SignatureSelfCheckFailed):
        sign(pki, pdf, key=pki.root.key)


class CountingKey(ec.EllipticCurvePrivateKey):
    """A key in the shape of cryptography's that counts its use, as a token's key does."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.used = 0

    def sign(self, data: Any, signature_algorithm: Any) -> bytes:
        self.used += 1
        return self._key.sign(data, signature_algorithm)

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._key.curve

    @property
    def key_size(self) -> int:
        return self._key.key_size

    def exchange(self, algorithm: Any, peer_public_key: Any) -> bytes:
        raise NotImplementedError

    def private_numbers(self) -> Any:
        raise NotImplementedError

    def private_bytes(self, *args: Any) -> bytes:
        raise NotImplementedError

    def __copy__(self) -> CountingKey:
        return self

    def __deepcopy__(self, memo: Any) -> CountingKey:
        return self


def test_one_signature_costs_one_key_operation(pki: Pki, pdf: bytes) -> None:
    assert isinstance(pki.signer.key, ec.EllipticCurvePrivateKey)
    key = CountingKey(pki.signer.key)
    sign(pki, pdf, key=key)
    assert key.used == 1


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)], ids=["P-384", "RSA-2048"]
)
def test_other_keys_sign_too(
    pki: Pki, pdf: bytes, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, tmp_path: Path
) -> None:
    signer = make_identity("Өөр түлхүүр", pki.authority, key=key)
    done = sign(pki, pdf, level="B-T", key=key, chain=(signer.der, pki.authority.der, pki.root.der))
    assert "Signature is Valid" in pdfsig(done.data, tmp_path)


def test_a_token_for_something_else_is_refused(pki: Pki, pdf: bytes) -> None:
    """Trap P8: the stock client looks at status and nonce only."""

    def wrong(digest: bytes) -> bytes:
        return pki.time_stamp()(hashlib.sha256(digest).digest())

    for source in (wrong, lambda _: b"", lambda digest: pki.time_stamp()(digest)[:-1] + b"\x00"):
        with pytest.raises(TimeStampUnusable):
            finish(prepared(pki, pdf), key=pki.signer.key, chain=pki.chain, time_stamp=source, evidence=None)


def test_too_little_room_says_how_much_is_needed(pki: Pki, pdf: bytes) -> None:
    """Trap P6: the space is counted in octets here, in hexadecimal digits there."""
    first = dataclasses.replace(prepared(pki, pdf), reserved=100)
    with pytest.raises(ReservedSpaceTooSmall) as raised:
        finish(first, key=pki.signer.key, chain=pki.chain, time_stamp=None, evidence=None, level="B-B")
    assert raised.value.facts["needed"] > 1000  # type: ignore[operator]


def test_ten_signers_leave_each_other_valid(pki: Pki) -> None:
    data = make_pdf()
    for number in range(10):
        placement = Placement(page=1, x=20 + 30 * number, y=10 + 65 * number) if number % 3 else None
        done = sign(
            pki, data, placement=placement, level=("B-B", "B-T", "B-LT")[number % 3], name=f"Гарын үсэг {number}"
        )
        assert done.data.startswith(data)
        data = done.data
    report = validate(data, trust=TrustAnchors((pki.root.der,)), at=NOW, evidence=_Source(pki)).simple()
    assert report["document_status"] == "TOTAL-PASSED"
    assert [entry["indication"] for entry in report["signatures"]] == ["TOTAL-PASSED"] * 10


def test_metadata_and_version_stay_as_the_author_made_them(signed: bytes, pdf: bytes) -> None:
    with pikepdf.open(BytesIO(pdf)) as before, pikepdf.open(BytesIO(signed)) as after:
        assert dict(before.docinfo) == dict(after.docinfo)
        assert before.pdf_version == after.pdf_version


def test_the_checksum_of_the_appended_revision_sees_every_octet(pki: Pki, signed: bytes) -> None:
    tail = signed[signed.index(b"%%EOF", signed.index(b"/ByteRange")) + 6 :]
    assert check(tail) is Checksum.HOLDS
    identifier = tail.index(b"/ID")
    for position in [*range(0, len(tail), 97), *range(identifier + 5, identifier + 110)]:
        changed = tail[:position] + bytes([tail[position] ^ 1]) + tail[position + 1 :]
        if identifier + 5 < position < len(tail) - 90 and b"<" not in changed[position : position + 1]:
            assert check(changed) is not Checksum.HOLDS


# Other software


def pdfsig(data: bytes, folder: Path) -> str:
    file = folder / "signed.pdf"
    file.write_bytes(data)
    return subprocess.run(["pdfsig", "-nocert", str(file)], capture_output=True, text=True, check=True).stdout


def test_poppler_finds_the_signature_valid(pki: Pki, pdf: bytes, signed: bytes, tmp_path: Path) -> None:
    assert "Signature is Valid" in pdfsig(signed, tmp_path)
    whole = pdfsig(sign(pki, pdf, level="B-T").data, tmp_path)
    assert "Signature is Valid" in whole
    assert "Total document signed" in whole
    assert "ETSI.CAdES.detached" in whole


@pytest.mark.parametrize("data", [make_pdf(), make_pdf(3)], ids=["1 page", "3 pages"])
def test_qpdf_finds_no_fault(pki: Pki, data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "signed.pdf"
    file.write_bytes(sign(pki, data).data)
    checked = subprocess.run(["qpdf", "--check", str(file)], capture_output=True, text=True, check=True)
    assert "No syntax or stream encoding errors found" in checked.stdout


def test_a_document_with_cross_reference_streams_stays_one(pki: Pki, tmp_path: Path) -> None:
    output = BytesIO()
    with pikepdf.open(BytesIO(make_pdf())) as document:
        document.save(output, object_stream_mode=pikepdf.ObjectStreamMode.generate)
    done = sign(pki, output.getvalue())
    assert b"\nxref" not in done.data
    assert validate(done.data, trust=TrustAnchors((pki.root.der,)), at=NOW).document_status == "TOTAL-PASSED"
    file = tmp_path / "signed.pdf"
    file.write_bytes(done.data)
    subprocess.run(["qpdf", "--check", str(file)], capture_output=True, check=True)


def test_an_encrypted_document_is_signed_and_validated(pki: Pki) -> None:
    output = BytesIO()
    with pikepdf.open(BytesIO(make_pdf())) as document:
        document.save(output, encryption=pikepdf.Encryption(owner="o", user=""))
    done = sign(pki, output.getvalue())
    assert validate(done.data, trust=TrustAnchors((pki.root.der,)), at=NOW).document_status == "TOTAL-PASSED"


def test_openssl_verifies_the_cms_as_cades(pki: Pki, pdf: bytes, tmp_path: Path) -> None:
    done = sign(pki, pdf, level="B-B")
    _, before, after, _ = map(int, re.search(rb"/ByteRange \[(\d+) (\d+) (\d+) (\d+)\]", done.data).groups())  # type: ignore[union-attr]
    (tmp_path / "cms.der").write_bytes(contents(done.data))
    (tmp_path / "content").write_bytes(done.data[:before] + done.data[after:])
    (tmp_path / "root.pem").write_bytes(pki.root.certificate.public_bytes(Encoding.PEM))
    subprocess.run(
        ["openssl", "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", "cms.der", "-content", "content",
         "-CAfile", "root.pem", "-purpose", "any", "-out", "/dev/null", "-attime", str(int(NOW.timestamp()))],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip


def test_our_der_equals_what_a_general_encoder_writes(pki: Pki) -> None:
    """The hand-joined CMS against asn1crypto's, field by field."""
    digest = hashlib.sha256(b"document").digest()
    ours = token_signer.sign(digest, key=pki.signer.key, chain=pki.chain)
    info = asn1_cms.ContentInfo.load(ours.der(), strict=True)
    (signer,) = info["content"]["signer_infos"]
    essential = signer["signed_attrs"][2]["values"][0]["certs"][0]
    leaf = x509.load_der_x509_certificate(pki.chain[0])
    assert info.dump(force=True) == ours.der()
    assert signer["signed_attrs"][1]["values"][0].native == digest
    assert essential["hash_algorithm"]["algorithm"].native == "sha256"
    assert essential["cert_hash"].native == hashlib.sha256(pki.chain[0]).digest()
    assert essential["issuer_serial"]["serial_number"].native == leaf.serial_number
    assert signer["signed_attrs"].untag().dump() == ours.signed_attributes
    assert len(info["content"]["certificates"]) == 3
