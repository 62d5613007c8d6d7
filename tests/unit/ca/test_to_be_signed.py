"""Certificates' octets: what is joined here is what the certificate library builds, for every profile."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address

import pytest
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import AuthorityInformationAccessOID as Access

from ca import to_be_signed
from ca.qc_statements import identifier_semantics, qc_statements
from policies import names, oids
from policies.profiles import KEY_USAGES, CertificateProfile, load_profile, profile_names
from tests.support import octets

KINDS = {
    "URI": x509.UniformResourceIdentifier,
    "DNS": x509.DNSName,
    "IP": lambda text: x509.IPAddress(ip_address(text)),
}


def library_name(attributes) -> x509.Name:
    rules = names.ATTRIBUTES
    return x509.Name(
        [
            x509.NameAttribute(
                x509.ObjectIdentifier(rules[label].oid),
                value,
                _ASN1Type.PrintableString if rules[label].printable else _ASN1Type.UTF8String,
            )
            for label, value in attributes
        ]
    )


def library_extensions(profile: CertificateProfile, contents: to_be_signed.Contents):
    """The profile's extensions, each by the library's own type."""
    pointers = octets.POINTERS
    if profile.basic_constraints:
        yield x509.BasicConstraints(profile.basic_constraints.ca, profile.basic_constraints.path_length), True
    yield x509.KeyUsage(**{usage: usage in profile.key_usage for usage in KEY_USAGES}), True
    yield x509.AuthorityKeyIdentifier(contents.authority_key_identifier, None, None), False
    yield x509.SubjectKeyIdentifier.from_public_key(contents.public_key), False
    if profile.extended_key_usage:
        purposes = [x509.ObjectIdentifier(oids.EXTENDED_KEY_USAGES[name]) for name in profile.extended_key_usage]
        yield x509.ExtendedKeyUsage(purposes), profile.extended_key_usage_critical
    if profile.policies:
        known = [oids.CERTIFICATE_POLICIES_BY_NAME.get(name, pointers.policy_oid) for name in profile.policies]
        yield x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier(o), None) for o in known]), False
    if profile.ocsp_no_check:
        yield x509.OCSPNoCheck(), False
    if profile.private_key_usage_period:
        begin = contents.not_before
        yield x509.PrivateKeyUsagePeriod(begin, begin + profile.private_key_usage_period), False
    if contents.alternative_names:
        yield x509.SubjectAlternativeName([KINDS[kind](text) for kind, text in contents.alternative_names]), False
    if profile.crl_distribution_point:
        uri = x509.UniformResourceIdentifier(pointers.crl)
        yield x509.CRLDistributionPoints([x509.DistributionPoint([uri], None, None, None)]), False
    if profile.authority_information_access:
        places = [(Access.CA_ISSUERS, pointers.issuer_certificate)]
        places += [(Access.OCSP, pointers.ocsp)] if profile.ocsp_pointer else []
        described = [x509.AccessDescription(how, x509.UniformResourceIdentifier(where)) for how, where in places]
        yield x509.AuthorityInformationAccess(described), False
    if profile.qualified:
        value = qc_statements(profile.qualified, pointers.disclosure)
        yield x509.UnrecognizedExtension(x509.ObjectIdentifier(oids.QC_STATEMENTS), value), False
    if profile.identifier_semantics:
        value = identifier_semantics(profile.identifier_semantics)
        yield x509.UnrecognizedExtension(x509.ObjectIdentifier(oids.QC_STATEMENTS), value), False
    if profile.validity_assured_short_term:
        oid = x509.ObjectIdentifier(oids.VALIDITY_ASSURED_SHORT_TERM)
        yield x509.UnrecognizedExtension(oid, b"\x05\x00"), False


def by_the_library(profile: CertificateProfile, contents: to_be_signed.Contents) -> bytes:
    key = to_be_signed.throw_away_key(contents.issuer_key)
    builder = x509.CertificateBuilder(
        issuer_name=library_name(octets.ISSUER),
        subject_name=library_name(octets.subject_of(profile)),
        public_key=contents.public_key,
        serial_number=contents.serial,
        not_valid_before=contents.not_before,
        not_valid_after=contents.not_after,
    )
    for extension, critical in library_extensions(profile, contents):
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, to_be_signed.digest_for(key)).tbs_certificate_bytes


@pytest.mark.parametrize("name", profile_names())
def test_the_library_builds_the_same_octets_for_every_profile(name: str) -> None:
    profile = load_profile(name)
    for kind in sorted(profile.keys):
        contents = octets.good(profile, public_key=octets.key(kind))
        assert octets.tbs(profile, contents) == by_the_library(profile, contents)


def test_a_certificate_that_ends_after_2049_is_built_the_same() -> None:
    profile = load_profile("root")
    begin = octets.MOMENT.replace(year=2040)
    contents = octets.good(profile, not_before=begin, not_after=begin + timedelta(days=7305) - timedelta(seconds=1))
    assert octets.tbs(profile, contents) == by_the_library(profile, contents)


def test_certificates_of_one_issuer_differ_only_in_what_is_their_own() -> None:
    profile = load_profile("tls-client")
    first, second = octets.good(profile), octets.good(profile)
    one, other = octets.tbs(profile, first), octets.tbs(profile, second)
    assert one != other and one == octets.tbs(profile, first)
    assert octets.tbs(profile, replace(second, serial=first.serial)) == one


def test_nothing_remembered_for_one_profile_or_issuer_is_used_for_another() -> None:
    profile = load_profile("tls-client")
    contents = octets.good(profile)
    plain = octets.tbs(profile, contents)
    greedy = replace(profile, key_usage=profile.key_usage | {"key_cert_sign"})
    assert octets.tbs(greedy, contents) != plain
    elsewhere = replace(octets.POINTERS, ocsp="http://pki.example.mn/other", policy_oid="1.3.6.1.4.1.32473.1.2")
    assert b"/other" in octets.tbs(profile, contents, elsewhere)
    assert octets.tbs(profile, replace(contents, authority_key_identifier=bytes(20))).count(bytes(20)) == 1
    assert octets.tbs(profile, contents) == plain


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521", "RSA-3072"])
def test_the_envelope_is_read_back_and_verifies(kind: str) -> None:
    profile = load_profile("tls-client")
    issuer = octets.key(kind)
    tbs = octets.tbs(profile, octets.good(profile, issuer_key=issuer))
    key = to_be_signed.throw_away_key(issuer)
    der = to_be_signed.assemble(tbs, issuer, to_be_signed.sign(key, tbs))
    assert to_be_signed.tbs_of(der) == tbs
    assert to_be_signed.verify(key.public_key(), tbs, to_be_signed.signature_of(der))
    assert not to_be_signed.verify(issuer, tbs, to_be_signed.signature_of(der))
    read = x509.load_der_x509_certificate(der)
    assert read.tbs_certificate_bytes == tbs
    assert isinstance(read.signature_hash_algorithm, hashes.SHA256 | hashes.SHA384 | hashes.SHA512)
    assert asn1_x509.Certificate.load(der, strict=True).dump(force=True) == der
