"""How fast documents are signed, beside stock pyHanko with its own signer: same document, key and form."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from asn1crypto import keys as asn1_keys
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import fields, signers
from pyhanko_certvalidator.registry import SimpleCertificateStore

from signing import token_signer
from signing.pades import SignerFacts, finish, prepare
from tests.bench.harness import Bench, Contest
from tests.unit.signing.conftest import NOW, Identity, Pki, make_identity, make_pdf, make_pki


def stock_signer(identity: Identity, pki: Pki) -> Any:
    """pyHanko's SimpleSigner over the same key."""
    private = identity.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    store = SimpleCertificateStore()
    store.register_multiple(asn1_x509.Certificate.load(entry) for entry in (pki.authority.der, pki.root.der))
    return signers.SimpleSigner(
        signing_cert=asn1_x509.Certificate.load(identity.der),
        signing_key=asn1_keys.PrivateKeyInfo.load(private),
        cert_registry=store,
    )


def against_stock(identity: Identity, pki: Pki) -> Contest:
    """A B-B signature without appearance over a small document."""
    document, chain = make_pdf(), (identity.der, pki.authority.der, pki.root.der)
    signer = stock_signer(identity, pki)
    meta = signers.PdfSignatureMetadata(
        field_name="Signature1", subfilter=fields.SigSeedSubFilter.PADES, md_algorithm="sha256", name="Bat"
    )

    def ours() -> None:
        prepared = prepare(
            document, signer=SignerFacts("Bat"), chain=chain, placement=None, language="mn", signing_time=NOW
        )
        finish(prepared, key=identity.key, chain=chain, time_stamp=None, evidence=None, level="B-B")

    return Contest(ours, lambda: signers.sign_pdf(IncrementalPdfFileWriter(BytesIO(document)), meta, signer))


@contextmanager
def p256() -> Iterator[Contest]:
    """With an elliptic-curve key."""
    pki = make_pki()
    yield against_stock(pki.signer, pki)


@contextmanager
def rsa_2048() -> Iterator[Contest]:
    """With an RSA key; the stock signer decodes and checks it for every signature."""
    pki = make_pki()
    identity = make_identity("RSA", pki.authority, key=rsa.generate_private_key(65537, 2048))
    yield against_stock(identity, pki)


@contextmanager
def cms_from_hash() -> Iterator[Contest]:
    """Only the CMS over a digest."""
    pki = make_pki()
    digest, signer = hashlib.sha256(b"document").digest(), stock_signer(pki.signer, pki)

    def ours() -> None:
        token_signer.sign(digest, key=pki.signer.key, chain=pki.chain).der()

    yield Contest(ours, lambda: asyncio.run(signer.async_sign(digest, "sha256", use_pades=True)).dump())


BENCHES = (
    Bench("sign-b-b-p256", p256, peer_name="pyHanko SimpleSigner", unit="documents/s"),
    Bench("sign-b-b-rsa-2048", rsa_2048, peer_name="pyHanko SimpleSigner", unit="documents/s"),
    Bench("cms-from-hash-p256", cms_from_hash, peer_name="pyHanko SimpleSigner", unit="signatures/s"),
)
