"""A document that is not as it was signed, or was signed by somebody we do not vouch for, is never TOTAL-PASSED."""

from __future__ import annotations

import datetime
import io
import random
import re

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.pdf import byte_range, contract, with_byte_changed, with_page_added
from tests.support.world import World

SAMPLES = 60
KEY_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


def verdicts(world: World, document: bytes) -> list[str]:
    """The indications that the service gives; a document it cannot read at all has none."""
    answer = world.validate(document)
    assert answer.status in (200, 400, 415, 422), f"{answer.status} {answer.text[:300]}"
    return [each["indication"] for each in answer.json().get("signatures", [])]


def positions(document: bytes) -> dict[str, int]:
    """Where to change a byte: in each part that means something, and by lot."""
    _, before, after, _ = byte_range(document)
    start = document.index(b"/ByteRange")
    named = {
        "header": 5,
        "first object": document.index(b" obj") + 5,
        "signature dictionary": start + 1,
        "a number of the byte range": start + 13,
        "the opening bracket of the signature": before,
        "the signature's first octet": before + 1,
        "the signature's middle": before + (document.index(b"0000000000", before) - before) // 2,
        "the padding's middle": (document.index(b"0" * 64, before) + after) // 2,
        "the closing bracket of the signature": after - 1,
        "just behind the signature": after + 1,
        "the last octets": len(document) - 3,
    }
    lot = random.Random(20261121)
    drawn = {f"by lot {n}": lot.randrange(len(document)) for n in range(SAMPLES - len(named))}
    return named | drawn


def test_a_document_changed_in_any_byte_never_passes(world: World) -> None:
    document = world.signed
    assert verdicts(world, document) == ["TOTAL-PASSED"]
    passed = []
    for what, position in positions(document).items():
        changed = with_byte_changed(document, position)
        if "TOTAL-PASSED" in verdicts(world, changed):
            passed.append(f"{what} at {position}: {document[position - 20 : position + 20]!r}")
    assert not passed, "\n".join(passed)


@pytest.mark.parametrize(
    "appended", [b"\n", b"%", b"0", b"\x00", b"%%EOF\n", b"\n1 0 obj\n<<>>\nendobj\n"], ids=lambda value: repr(value)
)
def test_a_document_with_bytes_appended_never_passes(world: World, appended: bytes) -> None:
    assert "TOTAL-PASSED" not in verdicts(world, world.signed + appended)


def test_a_document_with_bytes_before_it_never_passes(world: World) -> None:
    assert "TOTAL-PASSED" not in verdicts(world, b"\n" + world.signed)


def test_a_document_with_a_page_added_never_passes(world: World) -> None:
    assert "TOTAL-PASSED" not in verdicts(world, with_page_added(world.signed))


def test_a_signature_moved_to_another_document_never_passes(world: World) -> None:
    # The same length, other words: every offset stays right.
    document = world.signed
    other = contract(note="x")
    assert verdicts(world, other) == []
    swapped = re.sub(rb"/Title \(.", b"/Title (Z", document, count=1)
    if swapped != document:
        assert "TOTAL-PASSED" not in verdicts(world, swapped)


def signed_by_stranger(document: bytes) -> bytes:
    """The document signed by pyHanko under an authority that says it is ours."""
    import asyncio

    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
    from pyhanko.sign import fields, signers
    from pyhanko_certvalidator.registry import SimpleCertificateStore

    now = datetime.datetime.now(datetime.UTC)

    def certificate(
        subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, by: ec.EllipticCurvePrivateKey, *, authority: bool
    ) -> x509.Certificate:
        def name(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

        usage = dict.fromkeys(KEY_USAGES, False)
        usage |= {"key_cert_sign": True, "crl_sign": True} if authority else {"content_commitment": True}
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
            .sign(by, hashes.SHA256())
        )

    from asn1crypto import keys as asn1_keys
    from asn1crypto import x509 as asn1_x509

    authority_key, signer_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = certificate("Tamga Root CA G1", authority_key, "Tamga Root CA G1", authority_key, authority=True)
    leaf = certificate("Болд Загвар", signer_key, "Tamga Root CA G1", authority_key, authority=False)
    store = SimpleCertificateStore.from_certs([asn1_x509.Certificate.load(root.public_bytes(Encoding.DER))])
    private = signer_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    signer = signers.SimpleSigner(
        signing_cert=asn1_x509.Certificate.load(leaf.public_bytes(Encoding.DER)),
        signing_key=asn1_keys.PrivateKeyInfo.load(private),
        cert_registry=store,
    )
    metadata = signers.PdfSignatureMetadata(
        field_name="Stranger", subfilter=fields.SigSeedSubFilter.PADES, md_algorithm="sha256"
    )
    written = asyncio.run(
        signers.PdfSigner(metadata, signer).async_sign_pdf(IncrementalPdfFileWriter(io.BytesIO(document)))
    )
    return bytes(written.getvalue())


def test_a_signature_under_a_foreign_authority_never_passes(world: World) -> None:
    found = verdicts(world, signed_by_stranger(world.document))
    assert found == ["INDETERMINATE"]


def test_a_foreign_signature_beside_ours_does_not_borrow_its_verdict(world: World) -> None:
    found = verdicts(world, signed_by_stranger(world.signed))
    assert len(found) == 2
    assert found.count("TOTAL-PASSED") <= 1


def test_the_command_says_the_same_with_its_exit_status(world: World) -> None:
    folder = world.folder
    documents = {
        "passed": (world.signed, 0),
        "changed": (with_byte_changed(world.signed, 1000), 1),
        "stranger": (signed_by_stranger(world.document), 2),
        "unreadable": (b"not a document", 3),
    }
    for name, (document, status) in documents.items():
        path = folder / f"{name}.pdf"
        path.write_bytes(document)
        ran = world.instance.command("verify", path, "--json")
        assert ran.status == status, f"{name}: {ran.output}"
