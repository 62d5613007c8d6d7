"""The DER of a CRL: octet for octet what the library's builder makes, a million times cheaper to keep."""

from __future__ import annotations

import random
import secrets
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ca import to_be_signed
from ca.register import Reason
from ca.revocation_list import LINTED_ENTRIES, Entries, Entry, Header, assembled, entries_of

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP384R1())
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test CA")])
EXTENSIONS = (
    (x509.AuthorityKeyIdentifier(b"k" * 20, None, None), False),
    (x509.CRLNumber(1_795_266_300_000_791_000), False),
    (
        x509.IssuingDistributionPoint(
            full_name=[x509.UniformResourceIdentifier("http://pki.example.mn/crl/citizen-sign-g1/0.crl")],
            relative_name=None,
            only_contains_user_certs=True,
            only_contains_ca_certs=False,
            only_some_reasons=None,
            indirect_crl=False,
            only_contains_attribute_certs=False,
        ),
        True,
    ),
)


def header(next_update: datetime = NOW + timedelta(days=7)) -> Header:
    algorithm = to_be_signed.signature_algorithm(KEY.public_key())
    return Header(NAME.public_bytes(), algorithm, NOW, next_update, EXTENSIONS)


def some(count: int) -> list[Entry]:
    reasons = [None, *Reason]
    serials = sorted({int.from_bytes(b"\x01" + secrets.token_bytes(17), "big") for _ in range(count)})
    return [Entry(serial, NOW - timedelta(seconds=n), reasons[n % 7]) for n, serial in enumerate(serials)]


def by_library(entries: list[Entry], next_update: datetime = NOW + timedelta(days=7)) -> bytes:
    builder = x509.CertificateRevocationListBuilder(revoked_certificates=[revoked(entry) for entry in entries])
    builder = builder.issuer_name(NAME).last_update(NOW).next_update(next_update)
    for extension, critical in EXTENSIONS:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(KEY, hashes.SHA384()).tbs_certlist_bytes


def revoked(entry: Entry) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(entry.serial).revocation_date(entry.revoked_at)
    if entry.reason is not None:
        builder = builder.add_extension(x509.CRLReason(x509.ReasonFlags(entry.reason.wire_name)), critical=False)
    return builder.build()


@pytest.mark.parametrize("count", [0, 1, 2, 7, 300])
def test_a_list_is_octet_for_octet_what_the_library_builds(count: int) -> None:
    entries = some(count)
    assert Entries(entries).to_be_signed(header()) == by_library(entries)


def test_small_and_large_serial_numbers_and_times_after_2049_are_encoded_as_der_wants() -> None:
    later = datetime(2050, 1, 1, tzinfo=UTC)
    serials = (1, 127, 128, 255, 256, 2**143, 2**159 - 1)
    entries = [Entry(serial, NOW if serial < 200 else later, None) for serial in serials]
    assert Entries(entries).to_be_signed(header(later)) == by_library(entries, later)


def test_what_was_written_is_read_again() -> None:
    entries = some(50)
    made = Entries(entries)
    der = assembled(made.to_be_signed(header()), b"\x30\x00", b"signature")
    assert list(entries_of(der)) == entries
    assert list(made.serials()) == [entry.serial for entry in entries]
    assert len(made) == 50
    assert list(entries_of(assembled(Entries().to_be_signed(header()), b"\x30\x00", b""))) == []


def test_a_list_of_the_librarys_is_read_too() -> None:
    entries = some(20)
    random.shuffle(entries)
    assert list(entries_of(assembled(by_library(entries), b"\x30\x00", b""))) == entries


@pytest.mark.parametrize("serials", [[5, 5], [7, 6], [0], [-1]])
def test_a_serial_number_stands_once_and_they_rise(serials: list[int]) -> None:
    with pytest.raises(ValueError):
        Entries([Entry(serial, NOW, None) for serial in serials])


def test_a_long_list_is_linted_in_part_under_the_same_header_and_extensions() -> None:
    entries = some(LINTED_ENTRIES + 500)
    made = Entries(entries)
    sample = list(entries_of(assembled(made.sample(header()), b"\x30\x00", b"")))
    assert len(sample) == LINTED_ENTRIES
    assert (sample[0], sample[-1]) == (entries[0], entries[-1]) and set(sample) < set(entries)
    assert sample == sorted(sample, key=lambda entry: entry.serial)
    whole = made.to_be_signed(header())
    start, end = whole.index(NAME.public_bytes()), whole.index(EXTENSIONS[0][0].public_bytes())
    assert whole[start : start + 48] in made.sample(header()) and made.sample(header()).endswith(whole[end:])
    short = Entries(entries[:LINTED_ENTRIES])
    assert short.sample(header()) == short.to_be_signed(header())


def test_openssl_and_the_library_read_a_long_list(tmp_path: Path) -> None:
    entries = some(20_000)
    tbs = Entries(entries).to_be_signed(header())
    signature = to_be_signed.sign(KEY, tbs)
    der = assembled(tbs, header().signature_algorithm, signature)
    parsed = x509.load_der_x509_crl(der)
    assert parsed.is_signature_valid(KEY.public_key()) and len(parsed) == len(entries)
    assert parsed.get_revoked_certificate_by_serial_number(entries[777].serial) is not None
    (tmp_path / "long.crl").write_bytes(parsed.public_bytes(Encoding.DER))
    command = ["openssl", "crl", "-inform", "DER", "-in", str(tmp_path / "long.crl"), "-noout", "-text"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.count("Serial Number:") == len(entries)


SPOILT = [lambda der: der[:-40], lambda der: b"\x31" + der[1:], lambda _: b"", lambda _: b"\x30"]


@pytest.mark.parametrize("spoil", SPOILT)
def test_what_is_no_list_of_ours_is_refused(spoil) -> None:
    der = assembled(Entries(some(5)).to_be_signed(header()), b"\x30\x00", b"")
    with pytest.raises(ValueError):
        list(entries_of(spoil(der)))
