"""A property that is broken blocks: each lint of ours and the foreign linter are shown what they are there for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta

import pytest
from asn1crypto import core
from asn1crypto import x509 as asn1_x509

from ca import errors, to_be_signed
from policies import oids
from policies.lints.every import lint_certificate
from policies.profiles import CertificateProfile, load_profile

PROFILE = load_profile("citizen-signature")


@pytest.fixture
def good(room, citizen) -> asn1_x509.Certificate:
    issued = room.parts.issuance.certify(room.parts.registration.apply(**citizen()), actor="test")
    assert list(lint_certificate(issued.der, PROFILE)) == []
    return asn1_x509.Certificate.load(issued.der)


def extension(certificate: asn1_x509.Certificate, oid: str) -> asn1_x509.Extension:
    return next(e for e in certificate["tbs_certificate"]["extensions"] if e["extn_id"].dotted == oid)


def with_value(oid: str, der: bytes) -> Callable[[asn1_x509.Certificate], None]:
    def change(certificate: asn1_x509.Certificate) -> None:
        extension(certificate, oid)["extn_value"] = core.ParsableOctetString(der)

    return change


def without(oid: str) -> Callable[[asn1_x509.Certificate], None]:
    def change(certificate: asn1_x509.Certificate) -> None:
        tbs = certificate["tbs_certificate"]
        tbs["extensions"] = [e for e in tbs["extensions"] if e["extn_id"].dotted != oid]

    return change


def longer(certificate: asn1_x509.Certificate) -> None:
    validity = certificate["tbs_certificate"]["validity"]
    later = validity["not_after"].native + timedelta(days=1, hours=1)
    validity["not_after"] = asn1_x509.Time(name="utc_time", value=core.UTCTime(later))


def serial(number: int) -> Callable[[asn1_x509.Certificate], None]:
    def change(certificate: asn1_x509.Certificate) -> None:
        certificate["tbs_certificate"]["serial_number"] = number

    return change


def subject(*attributes: tuple[str, str, str]) -> Callable[[asn1_x509.Certificate], None]:
    """Attributes as type, kind of string, text."""

    def change(certificate: asn1_x509.Certificate) -> None:
        kinds = {"utf8_string": core.UTF8String, "printable_string": core.PrintableString}
        rdns = [
            asn1_x509.RelativeDistinguishedName(
                [
                    asn1_x509.NameTypeAndValue(
                        {"type": oid, "value": asn1_x509.DirectoryString(name=kind, value=kinds[kind](text))}
                    )
                ]
            )
            for oid, kind, text in attributes
        ]
        certificate["tbs_certificate"]["subject"] = asn1_x509.Name(name="", value=asn1_x509.RDNSequence(rdns))

    return change


C = (oids.COUNTRY_NAME, "printable_string", "MN")
GN = (oids.GIVEN_NAME, "utf8_string", "Өлзийхүү")
CN = (oids.COMMON_NAME, "utf8_string", "Ж.Өлзийхүү")
ID = (oids.SERIAL_NUMBER, "printable_string", "PNOMN-000000000017")
EMPTY_QC = bytes.fromhex("300a3008060604008e460101")
WITH_SSCD = bytes.fromhex("3014") + bytes.fromhex("3008060604008e460101") + bytes.fromhex("3008060604008e460104")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (with_value("2.5.29.15", bytes.fromhex("03020780")), "tamga.profile.key_usage"),
        (with_value("2.5.29.37", bytes.fromhex("300a06082b06010505070303")), "tamga.profile.extended_key_usage"),
        (without("2.5.29.31"), "tamga.profile.extensions"),
        (without("2.5.29.35"), "tamga.profile.extensions"),
        (without(oids.QC_STATEMENTS), "tamga.qc.absent"),
        (with_value(oids.QC_STATEMENTS, EMPTY_QC), "tamga.qc.statements"),
        (with_value(oids.QC_STATEMENTS, WITH_SSCD), "tamga.qc.sscd"),
        (longer, "tamga.validity.longest"),
        (longer, "tamga.validity.whole_days"),
        (serial(1 << 60), "tamga.serial.form"),
        (serial(1 << 136), "tamga.serial.entropy"),
        (subject(C, CN, GN, ID), "tamga.subject.order"),
        (subject(C, GN, CN), "tamga.subject.missing"),
        (subject(C, GN, (CN[0], CN[1], "ЪА85041512"), ID), "tamga.subject.register_number"),
        (subject(C, GN, (CN[0], CN[1], "Ө" * 65), ID), "tamga.subject.length"),
        (subject(C, GN, CN, (ID[0], "utf8_string", ID[2])), "tamga.subject.string_type"),
        (subject(C, GN, CN, (ID[0], ID[1], "PNOMN-12")), "tamga.subject.form"),
    ],
)
def test_a_broken_property_is_found(good, change: Callable[[asn1_x509.Certificate], None], code: str) -> None:
    change(good)
    assert code in {finding.code for finding in lint_certificate(good.dump(force=True), PROFILE)}


def test_an_address_that_is_not_plain_http_is_found(good) -> None:
    der = good.dump().replace(b"http://127.0.0.1:8080/ocsp", b"ftp://127.00.0.1:8080/ocsp")
    assert "tamga.location.scheme" in {finding.code for finding in lint_certificate(der, PROFILE)}


def test_what_a_linter_calls_an_error_is_never_signed(room, citizen, monkeypatch: pytest.MonkeyPatch) -> None:
    original = to_be_signed.certificate_tbs

    def broken(profile: CertificateProfile, contents: to_be_signed.Contents, pointers: to_be_signed.Pointers) -> bytes:
        greedy = dataclasses.replace(profile, key_usage=profile.key_usage | {"key_cert_sign"})
        return original(greedy, contents, pointers)

    monkeypatch.setattr(to_be_signed, "certificate_tbs", broken)
    before = room.check_audit()
    with pytest.raises(errors.LintRefused) as caught:
        room.parts.issuance.certify(room.parts.registration.apply(**citizen()), actor="test")
    assert "tamga.profile.key_usage" in caught.value.facts["findings"]
    assert room.check_audit() == before


def test_a_waiver_ends_on_its_day(room, citizen, linter) -> None:
    issued = room.parts.issuance.certify(room.parts.registration.apply(**citizen()), actor="test")
    until = PROFILE.waivers[0].until
    linter.check_certificate(issued.der, PROFILE, until)
    with pytest.raises(errors.LintRefused):
        linter.check_certificate(issued.der, PROFILE, until + timedelta(days=1))
