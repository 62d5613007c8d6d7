"""How fast time-stamp tokens are made and checked, beside the bare signature and beside what others do."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from core.clock import utc_now
from hsm.keystore import KeyAlgorithm, KeyPurpose
from signing.time_stamp_authority import TimeStampAuthority
from signing.timestamping import TimeStampClient, build_request
from tests.bench.bench_ocsp import token
from tests.bench.harness import Bench, Contest
from tests.support.time_stamping import build_time_stamping_pki

DIGEST = hashlib.sha256(b"a signature value").digest()
ECDSA = ec.ECDSA(hashes.SHA256())


@contextmanager
def in_token() -> Iterator[Contest]:
    """From request to response with a token key; the floor is the token's signature over as many bytes."""
    pki = build_time_stamping_pki(utc_now())
    with token() as keystore:
        key = keystore.generate("tsa-1", KeyPurpose.TIME_STAMPING, KeyAlgorithm.P256)
        unit, data = pki.unit(key), os.urandom(250)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        authority = TimeStampAuthority(lambda: unit, clock=utc_now)
        request = build_request(DIGEST, "sha256", 2**127 + 5)
        yield Contest(ours=lambda: authority.respond(request), peer=lambda: key.sign(data, ECDSA))


@contextmanager
def in_software() -> Iterator[Contest]:
    """The same with a software key: what is left is our own work around one signature."""
    unit = build_time_stamping_pki(utc_now()).unit()
    authority = TimeStampAuthority(lambda: unit, clock=utc_now)
    request, data = build_request(DIGEST, "sha256", 2**127 + 5), os.urandom(250)
    yield Contest(ours=lambda: authority.respond(request), peer=lambda: unit.key.sign(data, ECDSA))  # type: ignore[call-arg]


@contextmanager
def against_pyhanko() -> Iterator[Contest]:
    """Asking and believing: our client with every check, beside pyHanko's in-process stamper, which checks nothing."""
    from asn1crypto import keys
    from asn1crypto import x509 as asn1_x509
    from pyhanko.sign.timestamps import DummyTimeStamper
    from pyhanko_certvalidator.registry import SimpleCertificateStore

    pki = build_time_stamping_pki(utc_now())
    unit = pki.unit()
    authority = TimeStampAuthority(lambda: unit, clock=utc_now)
    client = TimeStampClient(authority, anchors=lambda: [pki.anchor], clock=utc_now)
    rsa_key = _rsa_key()
    stamper = DummyTimeStamper(
        tsa_cert=asn1_x509.Certificate.load(pki.certify(rsa_key).public_bytes(Encoding.DER)),
        tsa_key=keys.PrivateKeyInfo.load(rsa_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())),
        certs_to_embed=SimpleCertificateStore(),
    )

    def theirs() -> object:
        _, request = stamper.request_cms(DIGEST, "sha256")
        return stamper.request_tsa_response(request).dump()

    yield Contest(ours=lambda: client.stamp(DIGEST), peer=theirs)


def _rsa_key():  # type: ignore[no-untyped-def]
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(65537, 2048)


@contextmanager
def against_openssl() -> Iterator[Contest]:
    """From request to response beside ``openssl ts -reply``, one process a token as its users run it."""
    pki = build_time_stamping_pki(utc_now())
    unit = pki.unit()
    assert isinstance(unit.key, ec.EllipticCurvePrivateKey)
    authority = TimeStampAuthority(lambda: unit, clock=utc_now)
    request = build_request(DIGEST, "sha256", 2**127 + 5)
    with tempfile.TemporaryDirectory(prefix="tamga-bench-") as name:
        folder = Path(name)
        command = _openssl_reply(folder, unit.certificate, unit.key, request)
        yield Contest(
            ours=lambda: authority.respond(request),
            peer=lambda: subprocess.run(command, check=True, capture_output=True),
        )


def _openssl_reply(folder: Path, certificate: bytes, key: ec.EllipticCurvePrivateKey, request: bytes) -> list[str]:
    (folder / "tsa.der").write_bytes(certificate)
    (folder / "tsa.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "query.tsq").write_bytes(request)
    (folder / "serial").write_text("01\n")
    pem = ["openssl", "x509", "-inform", "DER", "-in", f"{folder}/tsa.der", "-out", f"{folder}/tsa.pem"]
    subprocess.run(pem, check=True)
    (folder / "tsa.cnf").write_text(
        "[tsa]\ndefault_tsa = one\n[one]\n"
        f"serial = {folder}/serial\nsigner_cert = {folder}/tsa.pem\nsigner_key = {folder}/tsa.key\n"
        "signer_digest = sha256\ndefault_policy = 0.4.0.2023.1.1\ndigests = sha256\naccuracy = secs:1\n"
        "ess_cert_id_alg = sha256\n"
    )
    files = ["-config", f"{folder}/tsa.cnf", "-queryfile", f"{folder}/query.tsq", "-out", f"{folder}/reply.tsr"]
    return ["openssl", "ts", "-reply", *files]


BENCHES = (
    Bench("tsa-token", in_token, "SoftHSM P-256 signature", "tokens/s", "floor: the signature alone"),
    Bench("tsa-software", in_software, "P-256 signature in software", "tokens/s", "floor: the signature alone"),
    Bench("tsa-client", against_pyhanko, "pyHanko DummyTimeStamper, RSA-2048", "tokens/s", "ours checks every token"),
    Bench("tsa-openssl", against_openssl, "openssl ts -reply", "tokens/s", "the peer starts a process per token"),
)
