"""A property that is broken blocks: each lint of ours and the foreign linter are shown what they are there for."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from asn1crypto import core
from asn1crypto import x509 as asn1_x509

from ca import errors, to_be_signed
from ca.linting import Linter
from ca.to_be_signed import Contents, Pointers
from policies import der, lints, names, oids
from policies.lints.every import lint_certificate
from policies.profiles import BasicConstraints, CertificateProfile, load_profile, profile_names
from tests.support import octets

PROFILE = load_profile("citizen-signature")
build = to_be_signed.certificate_tbs


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


def replaced(**changes):
    """Octets by a profile that says something else."""
    return lambda profile, contents, pointers: build(dataclasses.replace(profile, **changes), contents, pointers)


def holding(**changes):
    """Octets with other contents."""
    return lambda profile, contents, pointers: build(profile, dataclasses.replace(contents, **changes), pointers)


def pointing(**changes):
    """Octets with other addresses."""
    return lambda profile, contents, pointers: build(profile, contents, dataclasses.replace(pointers, **changes))


def claiming(**changes):
    """Octets with other qualified statements."""

    def made(profile: CertificateProfile, contents: Contents, pointers: Pointers) -> bytes:
        return build(
            dataclasses.replace(profile, qualified=dataclasses.replace(profile.qualified, **changes)),
            contents,
            pointers,
        )

    return made


def altered(change: Callable[[asn1_x509.Certificate], None]):
    """Octets changed by another implementation."""

    def made(profile: CertificateProfile, contents: Contents, pointers: Pointers) -> bytes:
        certificate = asn1_x509.Certificate.load(octets.signed(build(profile, contents, pointers)))
        change(certificate)
        return bytes(certificate["tbs_certificate"].dump(force=True))

    return made


def twice(oid: str) -> Callable[[asn1_x509.Certificate], None]:
    def change(certificate: asn1_x509.Certificate) -> None:
        tbs = certificate["tbs_certificate"]
        tbs["extensions"] = [*tbs["extensions"], extension(certificate, oid)]

    return change


def critical(oid: str) -> Callable[[asn1_x509.Certificate], None]:
    def change(certificate: asn1_x509.Certificate) -> None:
        extension(certificate, oid)["critical"] = True

    return change


def qualifier(certificate: asn1_x509.Certificate) -> None:
    policy = {"policy_qualifier_id": "certification_practice_statement", "qualifier": core.IA5String("http://a.mn")}
    value = asn1_x509.CertificatePolicies(
        [{"policy_identifier": oids.NCP_PLUS, "policy_qualifiers": [policy]}, {"policy_identifier": "1.2.3"}]
    )
    with_value("2.5.29.32", value.dump())(certificate)


def attribute(label: str, tag: int, text: str):
    """Octets whose subject holds one attribute as our encoder would not write it."""

    def made(profile: CertificateProfile, contents: Contents, pointers: Pointers) -> bytes:
        rdns = []
        for each, value in octets.subject_of(profile):
            rule = names.ATTRIBUTES[each]
            usual = der.PRINTABLE_STRING if rule.printable else der.UTF8_STRING
            kind, shown = (tag, text) if each == label else (usual, value)
            pair = der.tlv(der.SEQUENCE, der.object_identifier(rule.oid), der.tlv(kind, shown.encode()))
            rdns.append(der.tlv(der.SET, pair))
        return build(profile, dataclasses.replace(contents, subject_name=der.tlv(der.SEQUENCE, *rdns)), pointers)

    return made


def two_points(certificate: asn1_x509.Certificate) -> None:
    point = extension(certificate, "2.5.29.31")["extn_value"].contents
    inner = der.element(point).content
    with_value("2.5.29.31", der.tlv(der.SEQUENCE, inner, inner))(certificate)


def reordered(certificate: asn1_x509.Certificate) -> None:
    value = extension(certificate, oids.QC_STATEMENTS)["extn_value"].contents
    first, second, *others = (each.encoded for each in der.element(value).children())
    with_value(oids.QC_STATEMENTS, der.tlv(der.SEQUENCE, second, first, *others))(certificate)


def dropped(certificate: asn1_x509.Certificate) -> None:
    value = extension(certificate, oids.QC_STATEMENTS)["extn_value"].contents
    statements = [each.encoded for each in der.element(value).children()]
    with_value(oids.QC_STATEMENTS, der.tlv(der.SEQUENCE, *statements[:-1]))(certificate)


def later(period: timedelta) -> datetime:
    return octets.MOMENT + period - timedelta(seconds=1)


SHORT = {"crl_distribution_point": True}
TWO_IN_ONE = der.tlv(
    der.SEQUENCE,
    der.tlv(
        der.SET,
        *(
            der.tlv(der.SEQUENCE, der.object_identifier(oid), der.tlv(der.UTF8_STRING, b"a"))
            for oid in (oids.COMMON_NAME, oids.GIVEN_NAME)
        ),
    ),
)
# A broken example for every finding of our lints: the profile, what is wrong, and the code that says so.
BROKEN = [
    ("citizen-signature", replaced(key_usage=frozenset({"digital_signature"})), "profile.key_usage"),
    ("citizen-authentication", replaced(extended_key_usage=("serverAuth",)), "profile.extended_key_usage"),
    ("tls-server", replaced(basic_constraints=BasicConstraints(True, None)), "profile.basic_constraints"),
    ("issuing-ca", replaced(basic_constraints=BasicConstraints(True, 1)), "profile.basic_constraints"),
    ("ocsp-responder", replaced(ocsp_no_check=False), "profile.extensions"),
    ("tsa", replaced(extended_key_usage_critical=False), "profile.criticality"),
    ("citizen-signature", altered(critical(oids.QC_STATEMENTS)), "profile.criticality"),
    ("tls-client", altered(twice("2.5.29.37")), "extension.duplicate"),
    ("citizen-authentication", replaced(policies=("NCP+", "NCP+")), "policies.duplicate"),
    ("citizen-authentication", replaced(policies=("QCP-n", "CP")), "policies"),
    ("citizen-signature", replaced(policies=("CP", "QCP-n")), "policies"),
    ("citizen-authentication", altered(qualifier), "policies.qualifier"),
    ("tls-client", altered(two_points), "cdp.one"),
    ("tls-client", replaced(ocsp_pointer=False), "aia.methods"),
    ("tls-client", pointing(ocsp="https://pki.example.mn/ocsp"), "location.scheme"),
    ("citizen-signature", replaced(qualified=None), "qc.absent"),
    ("citizen-signature", altered(with_value(oids.QC_STATEMENTS, WITH_SSCD)), "qc.sscd"),
    ("citizen-signature", altered(with_value(oids.QC_STATEMENTS, EMPTY_QC)), "qc.statements"),
    ("citizen-signature", altered(reordered), "qc.statements"),
    ("organisation-seal", altered(reordered), "qc.statements"),
    ("organisation-seal", altered(dropped), "qc.statements"),
    ("citizen-signature", claiming(type="eseal"), "qc.type"),
    ("organisation-seal", claiming(type="esign"), "qc.type"),
    ("citizen-signature", claiming(legislation=("RU",)), "qc.legislation"),
    ("organisation-seal", claiming(semantics="natural"), "qc.semantics"),
    ("organisation-seal", pointing(disclosure="http://pki.example.mn/pds/en.pdf"), "qc.pds_url"),
    ("citizen-signature", claiming(pds_languages=("mn",)), "qc.pds_language"),
    ("citizen-authentication", replaced(identifier_semantics=None), "semantics.absent"),
    ("citizen-authentication", replaced(identifier_semantics="legal"), "semantics"),
    ("citizen-signature-short", replaced(validity_assured_short_term=False), "short_term.extension"),
    ("citizen-signature-short", altered(with_value(oids.VALIDITY_ASSURED_SHORT_TERM, b"\x01\x01\xff")),
     "short_term.extension"),
    ("citizen-signature-short", replaced(**SHORT), "short_term.revocation"),
    ("tls-client", holding(serial=1 << 60), "serial.form"),
    ("tls-client", holding(serial=1 << 136), "serial.entropy"),
    ("citizen-signature", holding(not_after=later(timedelta(days=1096))), "validity.longest"),
    ("citizen-signature-short", holding(not_after=later(timedelta(days=1, minutes=1))), "validity.longest"),
    ("tls-server", holding(not_after=later(timedelta(days=200))), "validity.longest"),
    ("tls-client", holding(not_after=later(timedelta(days=1, hours=1))), "validity.whole_days"),
    ("citizen-signature-short", holding(not_after=later(timedelta(seconds=61))), "validity.whole_days"),
    ("tls-client", holding(subject_name=names.encode_name([("CN", "a"), ("C", "MN"), ("O", "b")])), "subject.order"),
    ("tls-client", holding(subject_name=names.encode_name([("C", "MN"), ("O", "b"), ("CN", "a")])), "subject.missing"),
    ("tls-client", attribute("CN", der.PRINTABLE_STRING, "Bank"), "subject.string_type"),
    ("tls-client", attribute("CN", der.UTF8_STRING, "\u0418\u0306"), "subject.normalisation"),
    ("tls-client", attribute("CN", der.UTF8_STRING, "\u04e8" * 65), "subject.length"),
    ("tls-client", attribute("CN", der.UTF8_STRING, ""), "subject.empty"),
    ("tls-client", attribute("CN", der.UTF8_STRING, "a\u202eb"), "subject.control_character"),
    ("tls-client", attribute("CN", der.UTF8_STRING, "..."), "subject.insignificant"),
    ("tls-client", attribute("C", der.PRINTABLE_STRING, "mn"), "subject.country"),
    ("tls-client", attribute("organizationIdentifier", der.PRINTABLE_STRING, "NTRMN_1234567"), "subject.printable"),
    ("tls-client", attribute("organizationIdentifier", der.PRINTABLE_STRING, "NTRMN-1"), "subject.form"),
    ("citizen-signature", attribute("CN", der.UTF8_STRING, "\u042a\u041085041512"), "subject.register_number"),
    ("tls-client", holding(subject_name=der.tlv(der.SEQUENCE, der.tlv(der.SET, der.tlv(der.SEQUENCE,
     der.object_identifier("2.5.4.7"), der.tlv(der.UTF8_STRING, b"UB"))))), "subject.attribute"),
    ("tls-client", holding(subject_name=TWO_IN_ONE), "certificate.form"),
    ("tls-client", holding(public_key=octets.key("P-521"), spki=octets.spki(octets.key("P-521"))),
     "key.not_in_profile"),
    ("tls-client", holding(spki=octets.spki(octets.key("P-384"))[:-3] + b"abc"), "key.unreadable"),
    ("tls-client", altered(with_value("2.5.29.14", der.tlv(der.OCTET_STRING, bytes(20)))), "key_identifier"),
    ("tls-client", holding(alternative_names=(("DNS", "a.mn"), ("IP", "10.0.0.1"), ("URI", "https://a.mn"))),
     "alternative_name.kind"),
    ("tls-server", holding(alternative_names=(("DNS", "www.example.mn"), ("DNS", "-a.mn"))), "alternative_name.dns"),
    ("tls-server", holding(alternative_names=(("DNS", "www.example.mn"), ("IP", "224.0.0.1"))), "alternative_name.ip"),
    ("tls-client", holding(alternative_names=(("URI", "//a.mn"),)), "alternative_name.uri"),
    ("tls-client", holding(alternative_names=(("URI", "https://a.mn"),) * 2), "alternative_name.duplicate"),
    ("tls-server", holding(alternative_names=()), "alternative_name.missing"),
    ("tls-server", holding(alternative_names=(("DNS", "other.example.mn"),)), "server_name.common_name"),
    ("tsa", replaced(private_key_usage_period=timedelta(days=366)), "usage_period"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "broken", "code"), BROKEN, ids=[f"{name}-{code}" for name, _, code in BROKEN])
def test_whatever_is_broken_is_refused_with_its_code(name: str, broken, code: str, linter: Linter) -> None:
    profile = load_profile(name)
    tbs = broken(profile, octets.good(profile), octets.POINTERS)
    with pytest.raises(errors.LintRefused) as caught:
        linter.check_to_be_signed(tbs, octets.key("P-384"), profile, octets.MOMENT.date())
    assert f"tamga.{code}" in caught.value.facts["findings"]


def test_every_finding_of_our_lints_has_a_broken_example() -> None:
    folder = Path(lints.__file__).parent
    known = {code for path in folder.glob("*.py") for code in re.findall(r'error\(\s*"([a-z_.]+)"', path.read_text())}
    # Of names and keys the code comes from the rule that refuses; policies that do not fit their statements and short
    # terms that are not short are mistakes of a profile's file, shown below.
    known -= {"policies.statements", "short_term.validity"}
    assert known <= {code for _, _, code in BROKEN}


def test_a_profile_whose_policies_and_statements_contradict_each_other_issues_nothing(linter: Linter) -> None:
    seal = load_profile("organisation-seal")
    for wrong in (
        dataclasses.replace(seal, policies=("QCP-n", "CP")),
        dataclasses.replace(seal, policies=("CP",)),
        dataclasses.replace(seal, qualified=None),
    ):
        with pytest.raises(errors.LintRefused) as caught:
            linter.check_to_be_signed(octets.tbs(wrong), octets.key("P-384"), wrong, octets.MOMENT.date())
        assert "tamga.policies.statements" in caught.value.facts["findings"]


def test_a_short_term_is_short(linter: Linter) -> None:
    wrong = dataclasses.replace(load_profile("citizen-signature-short"), longest_validity=timedelta(days=2))
    with pytest.raises(errors.LintRefused) as caught:
        linter.check_to_be_signed(octets.tbs(wrong), octets.key("P-384"), wrong, octets.MOMENT.date())
    assert "tamga.short_term.validity" in caught.value.facts["findings"]


STATEMENTS = (
    ("key_usage", lambda p: p.key_usage ^ {"key_agreement"}),
    ("extended_key_usage", lambda p: () if p.extended_key_usage else ("clientAuth",)),
    ("extended_key_usage_critical", lambda p: not p.extended_key_usage_critical),
    ("basic_constraints", lambda p: None if p.basic_constraints else BasicConstraints(True, None)),
    ("policies", lambda p: () if p.policies else ("anyPolicy",)),
    ("qualified", lambda p: None if p.qualified else load_profile("citizen-signature").qualified),
    ("identifier_semantics", lambda p: None if p.identifier_semantics else "natural"),
    ("ocsp_no_check", lambda p: not p.ocsp_no_check),
    ("private_key_usage_period", lambda p: None if p.private_key_usage_period else timedelta(days=1)),
    ("authority_key_identifier", lambda p: not p.authority_key_identifier),
    ("crl_distribution_point", lambda p: not p.crl_distribution_point),
    ("authority_information_access", lambda p: not p.authority_information_access),
    ("ocsp_pointer", lambda p: not p.ocsp_pointer),
    ("validity_assured_short_term", lambda p: not p.validity_assured_short_term),
)


@pytest.mark.parametrize("name", profile_names())
def test_every_statement_of_a_profile_is_held_against_what_is_signed(name: str) -> None:
    profile = load_profile(name)
    contents = octets.good(profile)
    good = octets.tbs(profile, contents)
    assert not list(lint_certificate(octets.signed(good), profile))
    for statement, other in STATEMENTS:
        changed = octets.tbs(dataclasses.replace(profile, **{statement: other(profile)}), contents)
        if changed != good:  # else the statement speaks of an extension that this profile has not
            assert list(lint_certificate(octets.signed(changed), profile)), statement


@pytest.mark.parametrize("name", profile_names())
def test_pkilint_finds_nothing_above_a_notice_on_any_profile(name: str) -> None:
    strict, profile = Linter(on_loopback=False), load_profile(name)
    for kind in sorted(profile.keys):
        der_of = octets.signed(octets.tbs(profile, octets.good(profile, public_key=octets.key(kind))))
        findings = strict.certificate_findings(der_of, profile)
        assert {finding.severity for finding in findings} <= {"INFO", "NOTICE", "DEBUG"}, findings


def test_what_is_broken_is_refused_before_an_intent_is_recorded(room, citizen, monkeypatch: pytest.MonkeyPatch) -> None:
    before = room.check_audit()
    for name, broken, code in BROKEN:
        if name != "citizen-signature":
            continue
        monkeypatch.setattr(to_be_signed, "certificate_tbs", broken)
        with pytest.raises(errors.LintRefused) as caught:
            room.parts.issuance.certify(room.parts.registration.apply(**citizen()), actor="test")
        assert f"tamga.{code}" in caught.value.facts["findings"]
    assert room.check_audit() == before
