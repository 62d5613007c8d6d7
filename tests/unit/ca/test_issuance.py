"""Issuance: every profile before foreign tools, the request gives a key only, and an intent is used once."""

from __future__ import annotations

import dataclasses
import math
import subprocess
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from pyhanko.sign.ades.qualified_asn1 import QcStatements
from sqlalchemy import update

from ca import errors, serial_number
from ca.issuance import MAX_BATCH, SHARD, Signer
from ca.linting import Linter
from ca.register import State
from ca.tables import ProfileVersionRow
from core.audit import export
from policies import algorithms, names, oids
from policies.profiles import load_profile

ORGANISATION = {"O": "Хаан Банк", "organizationIdentifier": "NTRMN-1234567", "CN": "Хаан Банк"}
CLIENT_URI = ("URI", "https://id.example.mn/clients/bank-1")


def organisation(make_csr, profile: str, key=None, **changes):
    return {
        "profile": profile,
        "csr": make_csr(key or ec.generate_private_key(ec.SECP384R1())),
        "subject": ORGANISATION,
        "holder": "bank-1",
        "evidence": "visit:2",
        "alternative_names": [CLIENT_URI] if profile == "tls-client" else [],
        **changes,
    }


def certify(room, arguments):
    return room.parts.issuance.certify(room.parts.registration.apply(**arguments), actor="test")


@pytest.fixture(params=["P-256", "P-384", "RSA-3072"])
def key(request):
    if request.param == "RSA-3072":
        return rsa.generate_private_key(65537, 3072)
    return ec.generate_private_key(ec.SECP256R1() if request.param == "P-256" else ec.SECP384R1())


def test_a_citizens_certificate_is_accepted_by_linter_and_openssl(room, linter: Linter, citizen, key) -> None:
    issued = certify(room, citizen(key))
    findings = linter.certificate_findings(issued.der, load_profile("citizen-signature"))
    assert {f.code for f in findings if f.severity not in ("INFO", "DEBUG")} <= {"etsi.internal_domain_name"}
    result = room.openssl_verify(issued.der, "-crl_check_all")
    assert result.returncode == 0, result.stderr


def test_with_a_public_host_every_enrolled_profile_is_free_of_findings(public_room, citizen, make_csr) -> None:
    applications = [citizen(), *(organisation(make_csr, profile) for profile in ("organisation-seal", "tls-client"))]
    strict = Linter(on_loopback=False)
    for application in applications:
        issued = certify(public_room, application)
        findings = strict.check_certificate(issued.der, load_profile(issued.profile), issued.issued_at.date())
        assert {finding.severity for finding in findings} <= {"INFO", "NOTICE"}


def test_a_loopback_host_is_waived_for_development_only(room, citizen) -> None:
    issued = certify(room, citizen())
    with pytest.raises(errors.LintRefused) as caught:
        Linter().check_certificate(issued.der, load_profile(issued.profile), issued.issued_at.date())
    assert caught.value.facts["findings"] == ["etsi.internal_domain_name"]


@pytest.mark.parametrize("profile", ["organisation-seal", "tls-client"])
def test_an_organisations_certificate_is_accepted_by_linter_and_openssl(
    room, linter: Linter, make_csr, profile: str
) -> None:
    issued = certify(room, organisation(make_csr, profile))
    findings = linter.certificate_findings(issued.der, load_profile(profile))
    assert {f.code for f in findings if f.severity not in ("INFO", "DEBUG")} <= {"etsi.internal_domain_name"}
    result = room.openssl_verify(issued.der, "-crl_check_all")
    assert result.returncode == 0, result.stderr


def test_gnutls_reads_what_we_wrote(room, citizen) -> None:
    issued = certify(room, citizen())
    shown = subprocess.run(
        ["certtool", "--certificate-info", "--infile", str(room.pem("leaf", issued.der))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "Өлзийхүү" in shown
    assert "Non repudiation" in shown


def test_qc_statements_are_read_by_a_foreign_decoder(room, citizen) -> None:
    issued = certify(room, citizen())
    extension = issued.certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(oids.QC_STATEMENTS))
    assert not extension.critical
    assert isinstance(extension.value, x509.UnrecognizedExtension)
    statements = QcStatements.load(extension.value.value)
    read = {statement["statement_id"].dotted: statement["statement_info"].native for statement in statements}
    assert list(read) == [
        oids.QC_COMPLIANCE,
        oids.QC_PDS,
        oids.QC_TYPE,
        oids.QC_CC_LEGISLATION,
        oids.PKIX_QC_SYNTAX_V2,
    ]
    assert read[oids.QC_CC_LEGISLATION] == ["MN"]
    assert read[oids.QC_TYPE] == ["qct_esign"]
    assert oids.QC_SSCD not in read


def test_a_certificate_holds_what_its_profile_says(room, citizen) -> None:
    issued = certify(room, citizen())
    extensions = issued.certificate.extensions
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.content_commitment and not usage.value.digital_signature
    purposes = [p.dotted_string for p in extensions.get_extension_for_class(x509.ExtendedKeyUsage).value]
    assert purposes == [oids.DOCUMENT_SIGNING]
    authority = room.parts.hierarchy.authority("citizen-sign-g1")
    key_identifier = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert key_identifier == authority.subject_key_identifier
    point = extensions.get_extension_for_class(x509.CRLDistributionPoints).value[0]
    assert point.full_name[0].value == f"http://127.0.0.1:8080/crl/citizen-sign-g1/{SHARD}.crl"
    access = extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    assert sorted(a.access_location.value for a in access) == [
        "http://127.0.0.1:8080/aia/citizen-sign-g1.cer",
        "http://127.0.0.1:8080/ocsp",
    ]
    policies = extensions.get_extension_for_class(x509.CertificatePolicies).value
    assert [p.policy_identifier.dotted_string for p in policies] == [oids.QCP_N, room.parts.settings.policy_oid]
    lasting = issued.not_after - issued.not_before + timedelta(seconds=1)
    assert lasting == timedelta(days=1095)


def test_a_request_gives_its_key_and_nothing_else(room, make_csr, citizen) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    greedy = make_csr(
        key,
        x509.BasicConstraints(ca=True, path_length=None),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.SERVER_AUTH]),
        x509.SubjectAlternativeName([x509.DNSName("bank.example")]),
        subject="Somebody Else",
    )
    plain, issued = certify(room, citizen(key)), certify(room, citizen(csr=greedy))

    def shape(der: bytes) -> list[tuple[str, bool, bytes]]:
        extensions = asn1_x509.Certificate.load(der)["tbs_certificate"]["extensions"]
        return [(e["extn_id"].dotted, e["critical"].native, e["extn_value"].contents) for e in extensions]

    assert shape(issued.der) == shape(plain.der)
    assert issued.subject_text == plain.subject_text
    assert "Somebody" not in issued.subject_text


def test_a_name_of_64_cyrillic_letters_is_certified_and_one_of_65_refused(room, citizen) -> None:
    subject = {"GN": "Ө" * 64, "SN": "Ү" * 64, "CN": "Ё" * 64, "serialNumber": "PNOMN-000000000025"}
    issued = certify(room, citizen(subject=subject))
    assert dict(names.read_name(names.subject_of(issued.der)))["CN"] == "Ё" * 64
    assert room.openssl_verify(issued.der, "-crl_check_all").returncode == 0
    for label in ("GN", "SN", "CN"):
        with pytest.raises(errors.SubjectRefused) as caught:
            certify(room, citizen(subject={**subject, label: "Ө" * 65}))
        assert caught.value.facts["reason"] == "name.length"


def test_three_foreign_parsers_read_a_long_cyrillic_name(room, citizen) -> None:
    subject = {"GN": "Өлзийхүү", "CN": "Ө" * 64, "serialNumber": "PNOMN-000000000025"}
    leaf = room.pem("long", certify(room, citizen(subject=subject)).der)
    openssl = subprocess.run(
        ["openssl", "x509", "-in", str(leaf), "-noout", "-subject", "-nameopt", "utf8"],
        capture_output=True,
        text=True,
        check=True,
    )
    certtool = subprocess.run(
        ["certtool", "--certificate-info", "--infile", str(leaf)], capture_output=True, text=True, check=True
    )
    assert "Ө" * 64 in openssl.stdout
    assert "Ө" * 64 in certtool.stdout
    with pytest.warns(UserWarning, match="length must be"):  # why subject_text exists
        parsed = x509.load_pem_x509_certificate(leaf.read_bytes()).subject
    assert parsed.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value == "Ө" * 64


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"serialNumber": "ЪА85041512"}, "name.printable"),
        ({"serialNumber": "PNOMN-ЪА85041512"}, "name.printable"),
        ({"serialNumber": "PNOMN-1234"}, "name.form"),
        ({"CN": "Өлзийхүү ЪА85041512"}, "name.register_number"),
        ({"CN": " Өлзийхүү"}, "name.empty"),
        ({"CN": "Өлзий\u202eхүү"}, "name.control_character"),
        ({"O": "Нэмэлт"}, "name.attribute"),
        ({"C": "MNG"}, "name.length"),
    ],
)
def test_a_subject_that_does_not_fit_is_refused(room, citizen, changes, reason: str) -> None:
    with pytest.raises(errors.SubjectRefused) as caught:
        room.parts.registration.apply(**citizen(subject={**citizen()["subject"], **changes}))
    assert caught.value.facts["reason"] == reason
    assert "85041512" not in caught.value.detail


def test_a_missing_name_or_evidence_is_refused(room, citizen) -> None:
    with pytest.raises(errors.SubjectRefused):
        room.parts.registration.apply(**citizen(subject={"CN": "Өлзийхүү"}))
    with pytest.raises(errors.EvidenceMissing):
        room.parts.registration.apply(**citizen(evidence=" "))


@pytest.mark.parametrize("profile", ["root", "issuing-ca", "ocsp-responder", "tsa", "token-signing"])
def test_profiles_of_our_own_units_are_not_given_to_applicants(room, citizen, profile: str) -> None:
    with pytest.raises(errors.ProfileNotOpen):
        room.parts.registration.apply(**citizen(profile=profile))


def test_a_request_without_proof_of_possession_is_refused(room, make_csr, citizen) -> None:
    signed = bytearray(make_csr(ec.generate_private_key(ec.SECP256R1())))
    signed[-1] ^= 1
    with pytest.raises(errors.ProofOfPossessionFailed):
        room.parts.registration.apply(**citizen(csr=bytes(signed)))


@pytest.mark.parametrize("csr", [b"", b"\x30\x00", b"-----BEGIN NOTHING-----", b"\x30" * 20_000])
def test_what_is_no_request_is_refused(room, citizen, csr: bytes) -> None:
    with pytest.raises(errors.CsrMalformed):
        room.parts.registration.apply(**citizen(csr=csr))


@pytest.mark.parametrize(
    ("weak", "reason"),
    [
        (ed25519.Ed25519PrivateKey.generate(), "key.type"),
        (ec.generate_private_key(ec.SECP256K1()), "key.curve"),
        (ec.generate_private_key(ec.SECP521R1()), "key.not_in_profile"),
        (rsa.generate_private_key(65537, 2048), "key.not_in_profile"),
        (rsa.generate_private_key(3, 3072), "key.rsa_exponent"),
    ],
)
def test_a_weak_key_is_refused_with_its_reason(room, citizen, weak, reason: str) -> None:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    digest = None if isinstance(weak, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    csr = builder.sign(weak, digest).public_bytes(Encoding.DER)
    with pytest.raises(errors.KeyNotAccepted) as caught:
        room.parts.registration.apply(**citizen(csr=csr))
    assert caught.value.facts["reason"] == reason


def test_the_key_of_an_authority_is_refused(room, keystore, make_csr, citizen) -> None:
    with pytest.raises(errors.KeyNotAccepted) as caught:
        room.parts.registration.apply(**citizen(csr=make_csr(keystore.key("seal-g1"))))
    assert caught.value.facts["reason"] == "key.authority"


def test_serial_numbers_are_18_octets_positive_and_not_repeated() -> None:
    drawn = [serial_number.draw(127) for _ in range(20_000)]
    assert len(set(drawn)) == len(drawn)
    assert {number.bit_length() for number in drawn} == {143}
    ones = sum(bin(number & (1 << 136) - 1).count("1") for number in drawn)
    assert abs(ones / (136 * len(drawn)) - 0.5) < 0.005
    assert serial_number.parse(serial_number.text(drawn[0])) == drawn[0]
    assert serial_number.octets(1 << 150) is None


def test_a_repeated_serial_number_is_refused_before_anything_is_signed(room, citizen, monkeypatch) -> None:
    first = certify(room, citizen())
    monkeypatch.setattr(room.parts.issuance, "_draw_serial", lambda _instance: first.serial)
    before = room.check_audit()
    with pytest.raises(errors.SerialTaken):
        certify(room, citizen())
    assert room.check_audit() == before


def test_an_intent_is_used_once(room, citizen) -> None:
    intent = room.parts.issuance.prepare(room.parts.registration.apply(**citizen()), actor="test")
    issued = room.parts.issuance.issue(intent, actor="test")
    with pytest.raises(errors.IntentSpent):
        room.parts.issuance.issue(intent, actor="test")
    assert room.parts.register.get(intent.id) == issued
    assert room.events()[-2:] == ["ca:intent:recorded", "ca:certificate:issued"]


def test_an_altered_intent_or_another_issuer_is_refused(room, citizen) -> None:
    issuance = room.parts.issuance
    intent = issuance.prepare(room.parts.registration.apply(**citizen()), actor="test")
    other = dataclasses.replace(intent.signer, slug="seal-g1", key_label="seal-g1")
    for altered in (
        dataclasses.replace(intent, tbs=intent.tbs.replace(b"MN", b"MX")),
        dataclasses.replace(intent, issuer="seal-g1"),
        dataclasses.replace(intent, signer=other),
    ):
        with pytest.raises(errors.IntentAltered):
            issuance.issue(altered, actor="test")
    with pytest.raises(errors.IntentSpent):
        issuance.issue(dataclasses.replace(intent, id="nobody"), actor="test")
    issuance.issue(intent, actor="test")


def test_a_signature_that_does_not_verify_is_not_released(room, citizen) -> None:
    intent = room.parts.issuance.prepare(room.parts.registration.apply(**citizen()), actor="test")
    wrong_key = dataclasses.replace(intent.signer, key_label="seal-g1")
    with pytest.raises(errors.SignatureRefused):
        room.parts.issuance.issue(dataclasses.replace(intent, signer=wrong_key), actor="test")
    with pytest.raises(errors.CertificateNotFound):
        room.parts.register.get(intent.id)


def test_nothing_outlives_its_issuer_or_its_profile(room, citizen) -> None:
    room.clock.advance(timedelta(days=8 * 365))
    with pytest.raises(errors.ValidityRefused):
        certify(room, citizen())


def test_a_changed_profile_must_take_a_new_version(room, citizen) -> None:
    certify(room, citizen())
    application = room.parts.registration.apply(**citizen())
    changed = dataclasses.replace(application, profile=dataclasses.replace(application.profile, digest="0" * 64))
    with pytest.raises(errors.ProfileChanged):
        room.parts.issuance.prepare(changed, actor="test")
    room.parts.issuance.check_profiles()
    with room.database.transaction() as session:
        session.execute(update(ProfileVersionRow).where(ProfileVersionRow.name == "tsa").values(digest="0" * 64))
    with pytest.raises(errors.ProfileChanged):
        room.parts.issuance.check_profiles()
    newer = dataclasses.replace(changed.profile, version=2)
    room.parts.issuance.prepare(dataclasses.replace(changed, profile=newer), actor="test")


def test_a_revoked_authority_signs_nothing_more(room, citizen) -> None:
    authority = room.parts.hierarchy.authority("citizen-sign-g1")
    room.parts.revocation.revoke(authority.certificate_id, actor="test")
    with pytest.raises(errors.AuthorityNotInForce):
        certify(room, citizen())


def test_the_register_finds_by_holder_profile_state_and_octets(room, citizen, make_csr) -> None:
    mine = certify(room, citizen())
    certify(room, organisation(make_csr, "organisation-seal"))
    register = room.parts.register
    assert register.certificates(holder=mine.holder) == (mine,)
    assert register.certificates(profile="citizen-signature", state=State.REVOKED) == ()
    assert register.by_der(mine.der) == mine
    assert register.by_serial(mine.serial) == mine
    assert register.by_serial(mine.serial, "citizen-sign-g1") == mine
    with pytest.raises(errors.CertificateNotFound):
        register.by_serial(mine.serial, "seal-g1")
    with pytest.raises(errors.CertificateNotFound):
        register.by_der(mine.der[:-1])
    status = register.status("citizen-sign-g1", mine.serial)
    assert status is not None and status.state is State.GOOD and status.since == mine.issued_at
    assert register.status("seal-g1", mine.serial) is None
    assert register.status("citizen-sign-g1", 1 << 158) is None


def test_audit_entries_hold_no_personal_number_and_the_profile_digest(room, citizen) -> None:
    certify(room, citizen())
    with room.database.reading() as session:
        entry = list(export(session))[-1]
    assert entry["facts"]["profile_digest"] == load_profile("citizen-signature").digest
    assert "000000000017" not in str(entry)
    assert room.check_audit() > 0


def test_the_public_key_is_the_applicants(room, citizen) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    issued = certify(room, citizen(key))
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert issued.certificate.public_key().public_bytes(*spki) == key.public_key().public_bytes(*spki)


def test_every_bit_of_serial_numbers_are_random_and_each_number_is_drawn_once() -> None:
    count = 250_000
    drawn = [serial_number.octets(serial_number.draw(7)) for _ in range(count)]
    assert len(set(drawn)) == count
    together = b"".join(octet for octet in drawn if octet is not None)
    assert len(together) == count * serial_number.SERIAL_OCTETS  # always 18 octets, so below 2^159 and positive
    assert set(together[:: serial_number.SERIAL_OCTETS]) == {7}
    for position in range(1, serial_number.SERIAL_OCTETS):
        values = Counter(together[position :: serial_number.SERIAL_OCTETS])
        # Six standard deviations: one column in ten thousand million errs.
        assert max(abs(values[value] - count / 256) for value in range(256)) < 6 * math.sqrt(count / 256)
        for bit in range(8):
            ones = sum(times for value, times in values.items() if value >> bit & 1)
            assert abs(ones - count / 2) < 6 * math.sqrt(count / 4)


@pytest.mark.parametrize("instance", [0, 128, -1])
def test_an_installation_that_is_no_number_of_ours_draws_nothing(instance: int) -> None:
    with pytest.raises(ValueError, match="instance"):
        serial_number.draw(instance)


def test_a_batch_is_issued_in_its_order_with_one_entry_for_each_step(room, citizen, make_csr) -> None:
    applications = [
        room.parts.registration.apply(**arguments)
        for arguments in (
            citizen(),
            organisation(make_csr, "tls-client"),
            citizen(),
            organisation(make_csr, "tls-client"),
        )
    ]
    entered = []
    before = room.check_audit()
    issued = room.parts.issuance.certify_many(
        applications, actor="test", entering=lambda _session, certificate: entered.append(certificate)
    )
    assert [each.certificate.public_key() for each in issued] == [each.public_key for each in applications]
    assert [each.issuer for each in issued] == ["citizen-sign-g1", "service-g1"] * 2
    assert entered == list(issued)
    assert all(room.parts.register.get(each.id) == each for each in issued)
    assert all(room.openssl_verify(each.der).returncode == 0 for each in issued)
    events = room.events()[before:]
    assert events.count("ca:intent:recorded") == events.count("ca:certificate:issued") == 4
    assert room.check_audit() == before + len(events)


def test_one_refused_application_keeps_its_whole_batch_from_being_recorded(room, citizen) -> None:
    good = room.parts.registration.apply(**citizen())
    too_long = dataclasses.replace(good, subject=(*good.subject[:-1], ("serialNumber", "PNOMN-12")))
    before = room.check_audit()
    with pytest.raises(errors.LintRefused):
        room.parts.issuance.certify_many([good, too_long], actor="test")
    assert room.check_audit() == before
    for count in (0, MAX_BATCH + 1):
        with pytest.raises(errors.BatchRefused):
            room.parts.issuance.certify_many([good] * count, actor="test")


def test_what_joins_the_entering_is_undone_with_it(room, citizen) -> None:
    def failing(_session, _certificate) -> None:
        raise RuntimeError("no room for the row that belongs to it")

    with pytest.raises(RuntimeError, match="no room"):
        room.parts.issuance.certify(room.parts.registration.apply(**citizen()), actor="test", entering=failing)
    assert not room.parts.register.certificates(profile="citizen-signature")
    assert room.parts.recovery.settle(min_age=timedelta(0)).withdrawn == 1


def test_a_shorter_validity_may_be_asked_for_and_a_longer_one_is_refused(room, citizen) -> None:
    application = room.parts.registration.apply(**citizen())

    def certified(validity):
        return room.parts.issuance.certify(application, actor="test", validity=validity)

    short = certified(timedelta(days=30))
    assert short.not_after - short.not_before + timedelta(seconds=1) == timedelta(days=30)
    for wrong in (timedelta(days=1096), timedelta(0), timedelta(days=-1), timedelta(days=1, hours=1)):
        with pytest.raises(errors.ValidityRefused):
            certified(wrong)


def test_a_certificate_for_one_signature_lives_a_quarter_of_an_hour(room, citizen) -> None:
    application = room.parts.registration.apply(**citizen(profile="citizen-signature-short"))
    issued = room.parts.issuance.certify(application, actor="test")
    assert issued.not_after - issued.not_before + timedelta(seconds=1) == timedelta(minutes=15)
    assert room.clock.moment < issued.not_after
    extensions = issued.certificate.extensions
    oid = x509.ObjectIdentifier(oids.VALIDITY_ASSURED_SHORT_TERM)
    assert extensions.get_extension_for_oid(oid).value.value == b"\x05\x00"
    with pytest.raises(x509.ExtensionNotFound):
        extensions.get_extension_for_class(x509.CRLDistributionPoints)
    longer = room.parts.issuance.certify(application, actor="test", validity=timedelta(hours=24))
    assert longer.not_after - longer.not_before == timedelta(hours=24) - timedelta(seconds=1)
    with pytest.raises(errors.ValidityRefused):
        room.parts.issuance.certify(application, actor="test", validity=timedelta(hours=24, minutes=1))


def test_a_server_gets_fewer_days_from_the_day_on_that_the_rules_say(room, make_csr) -> None:
    def lasting() -> int:
        application = room.parts.registration.apply(
            profile="tls-server",
            csr=make_csr(ec.generate_private_key(ec.SECP256R1())),
            subject={"O": "Хаан Банк"},
            alternative_names=[("DNS", "www.example.mn"), ("IP", "203.0.113.7")],
            holder="bank-1",
            evidence="acme:order-1",
        )
        issued = room.parts.issuance.certify(application, actor="test")
        assert room.openssl_verify(issued.der, "-verify_hostname", "www.example.mn").returncode == 0
        return (issued.not_after - issued.not_before + timedelta(seconds=1)).days

    assert lasting() == 199
    # An hour before midnight the new limit counts already: notBefore may stand an hour back.
    room.clock.moment = datetime(2027, 3, 14, 22, 59, tzinfo=UTC)
    assert lasting() == 199
    room.clock.moment = datetime(2027, 3, 14, 23, 10, tzinfo=UTC)
    assert lasting() == 99
    room.clock.moment = datetime(2029, 3, 15, 12, tzinfo=UTC)
    assert lasting() == 46


def test_five_years_are_given_only_to_keys_that_are_strong_until_their_end(room, citizen, monkeypatch) -> None:
    application = room.parts.registration.apply(**citizen(profile="citizen-signature-5y"))
    issued = room.parts.issuance.certify(application, actor="test")
    assert issued.not_after.year == 2031
    ends = {**algorithms.KEY_ALGORITHMS, "P-256": date(2030, 12, 31)}
    monkeypatch.setattr(algorithms, "KEY_ALGORITHMS", ends)
    with pytest.raises(errors.ValidityRefused, match="not strong enough"):
        room.parts.issuance.certify(application, actor="test")
    three_years = room.parts.registration.apply(**citizen())
    assert room.parts.issuance.certify(three_years, actor="test").not_after.year == 2029


def test_an_authority_outside_its_own_time_signs_nothing(room, citizen) -> None:
    application = room.parts.registration.apply(**citizen())
    authority = room.parts.hierarchy.authority("citizen-sign-g1")
    signer = Signer.of(authority)
    before = room.check_audit()
    room.clock.moment = authority.certificate.not_valid_before_utc - timedelta(seconds=1)
    with pytest.raises(errors.AuthorityNotYetValid):
        room.parts.issuance.prepare_under(signer, application, actor="test")
    room.clock.moment = authority.certificate.not_valid_after_utc + timedelta(seconds=1)
    with pytest.raises(errors.AuthorityExpired):
        room.parts.issuance.prepare_under(signer, application, actor="test")
    for issuer in (None, "citizen-sign-g1"):
        with pytest.raises(errors.AuthorityExpired):
            room.parts.issuance.certify(application, actor="test", issuer=issuer)
    assert room.check_audit() == before


def test_a_version_that_was_used_is_kept(room, citizen) -> None:
    application = room.parts.registration.apply(**citizen())
    older = dataclasses.replace(application.profile, version=99)
    room.parts.issuance.prepare(dataclasses.replace(application, profile=older), actor="test")
    with pytest.raises(errors.ProfileChanged, match="99"):
        room.parts.issuance.check_profiles()


def test_the_audit_log_says_how_a_certificate_was_linted(room, citizen, make_csr, monkeypatch) -> None:
    certify(room, citizen())
    assert room.facts("ca:intent:recorded")["linted"] == "full"
    monkeypatch.setattr(room.parts.linter, "_draw", lambda _one_in: 1)
    for _ in range(2):
        certify(room, organisation(make_csr, "tls-client", subject={**ORGANISATION, "CN": "Банк"}))
    assert room.facts("ca:intent:recorded")["linted"] == "shape"
