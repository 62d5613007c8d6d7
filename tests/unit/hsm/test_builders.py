"""What cryptography's builders make with token keys, read by OpenSSL."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hsm.keystore import Keystore

NOW = datetime.now(UTC).replace(microsecond=0)
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


def named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def certificate(
    keystore: Keystore, common_name: str, public_key: PublicKey, *, issuer: str = "root", authority: bool = False
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(common_name))
        .issuer_name(named(issuer))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )
    if common_name == "responder":
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), critical=False)
    return builder.sign(keystore.key(issuer), hashes.SHA384())


@pytest.fixture(scope="module")
def root(keystore: Keystore) -> x509.Certificate:
    return certificate(keystore, "root", keystore.key("root").public_key(), authority=True)


def pem(path: Path, made: x509.Certificate | x509.CertificateRevocationList | x509.CertificateSigningRequest) -> str:
    path.write_bytes(made.public_bytes(Encoding.PEM))
    return str(path)


def openssl(*arguments: str) -> str:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_openssl_accepts_certificates_and_crl_of_a_token_key(
    keystore: Keystore, root: x509.Certificate, tmp_path: Path
) -> None:
    leaf = certificate(keystore, "rsa", keystore.key("rsa").public_key())
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(root.subject)
        .last_update(NOW - timedelta(hours=1))
        .next_update(NOW + timedelta(days=1))
        .add_extension(x509.CRLNumber(1), critical=False)
        .sign(keystore.key("root"), hashes.SHA384())
    )
    files = pem(tmp_path / "root.pem", root), pem(tmp_path / "crl.pem", crl), pem(tmp_path / "leaf.pem", leaf)
    assert "OK" in openssl("verify", "-CAfile", files[0], "-CRLfile", files[1], "-crl_check", files[2])


@pytest.mark.parametrize("label", ["responder", "root", "rsa"])
def test_openssl_accepts_a_certificate_request_of_a_token_key(keystore: Keystore, label: str, tmp_path: Path) -> None:
    builder = x509.CertificateSigningRequestBuilder().subject_name(named(label))
    request = builder.sign(keystore.key(label), hashes.SHA256())
    assert request.is_signature_valid
    assert "verify OK" in openssl("req", "-in", pem(tmp_path / "request.pem", request), "-noout", "-verify")


def test_openssl_accepts_an_ocsp_response_of_a_token_key(
    keystore: Keystore, root: x509.Certificate, tmp_path: Path
) -> None:
    leaf = certificate(keystore, "leaf", ec.generate_private_key(ec.SECP256R1()).public_key())
    responder = certificate(keystore, "responder", keystore.key("responder").public_key())
    response = (
        ocsp.OCSPResponseBuilder()
        .add_response(leaf, root, hashes.SHA256(), ocsp.OCSPCertStatus.GOOD, NOW, NOW + timedelta(hours=1), None, None)
        .responder_id(ocsp.OCSPResponderEncoding.HASH, responder)
        .certificates([responder])
        .sign(keystore.key("responder"), hashes.SHA256())
    )
    answer = tmp_path / "response.der"
    answer.write_bytes(response.public_bytes(Encoding.DER))
    files = pem(tmp_path / "root.pem", root), pem(tmp_path / "leaf.pem", leaf)
    said = openssl(
        "ocsp", "-respin", str(answer), "-CAfile", files[0], "-issuer", files[0], "-sha256", "-cert", files[1],
    )  # fmt: skip
    assert "Response verify OK" in said
    assert "leaf.pem: good" in said


def test_the_identifier_of_a_key_is_the_hash_of_its_public_key(keystore: Keystore, tmp_path: Path) -> None:
    spki = keystore.key("root").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(spki)
    openssl("pkey", "-pubin", "-in", str(tmp_path / "key.pem"), "-outform", "DER", "-out", str(tmp_path / "key.der"))
    digest = openssl("dgst", "-sha256", "-r", str(tmp_path / "key.der")).split()[0]
    listed = keystore.keys()
    (found,) = (key for key in listed if key.label == "root")
    assert found.key_id == digest[:40]
