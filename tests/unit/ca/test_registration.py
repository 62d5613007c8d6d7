"""Registration: every refusal has its own code, and what passes is what the profile takes."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca import errors
from ca.register import Reason
from ca.registration import MAX_ALTERNATIVE_NAMES, Application, Registration, fitted_alternative_names
from policies import names
from policies.profiles import load_profile
from policies.weak_keys import WeakKeys, fingerprint

SERVER = {"O": "Хаан Банк"}


def server(make_csr, *alternative_names, key=None, **changes):
    return {
        "profile": "tls-server",
        "csr": make_csr(key or ec.generate_private_key(ec.SECP256R1())),
        "subject": SERVER,
        "holder": "bank-1",
        "evidence": "acme:order-1",
        "alternative_names": alternative_names or (("DNS", "www.example.mn"),),
        **changes,
    }


def reason(room, arguments) -> str:
    with pytest.raises(errors.SubjectRefused) as caught:
        room.parts.registration.apply(**arguments)
    return str(caught.value.facts["reason"])


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (("DNS", "WWW.example.mn"), "name.dns"),
        (("DNS", "localhost"), "name.dns"),
        (("DNS", "www.example.mn."), "name.dns"),
        (("DNS", "-a.mn"), "name.dns"),
        (("DNS", "a_b.mn"), "name.dns"),
        (("DNS", "ab--c.mn"), "name.dns"),
        (("DNS", "xn--\u0430.mn"), "name.dns"),
        (("DNS", "a.1"), "name.dns"),
        (("DNS", "192.0.2.1"), "name.dns"),
        (("DNS", f"{'a' * 64}.mn"), "name.dns"),
        (("DNS", ".".join(["a" * 60] * 5)), "name.dns"),
        (("DNS", "a*.example.mn"), "name.dns"),
        (("IP", "192.0.2.256"), "name.ip"),
        (("IP", "192.0.2.1/32"), "name.ip"),
        (("IP", "2001:DB8::1"), "name.ip"),
        (("IP", "2001:db8:0::1"), "name.ip"),
        (("IP", "fe80::1%eth0"), "name.ip"),
        (("IP", "::"), "name.ip"),
        (("IP", "224.0.0.1"), "name.ip"),
        (("URI", "https://www.example.mn"), "name.alternative"),
        (("email", "a@example.mn"), "name.alternative"),
    ],
)
def test_a_name_that_no_server_can_have_is_refused(room, make_csr, name, code: str) -> None:
    assert reason(room, server(make_csr, name)) == code


@pytest.mark.parametrize(
    ("uri", "good"),
    [
        ("https://id.example.mn/clients/bank-1", True),
        ("urn:example:bank", False),
        ("//id.example.mn", False),
        ("https://", False),
        ("https://id.example.mn/a b", False),
        ("https://id.example.mn/\u04e8", False),
        ("https://id.example.mn/" + "a" * 2048, False),
    ],
)
def test_a_uri_is_absolute_and_has_a_host(uri: str, good: bool) -> None:
    if good:
        assert names.check_alternative_name("URI", uri) == uri
        return
    with pytest.raises(names.NameRefused) as caught:
        names.check_alternative_name("URI", uri)
    assert caught.value.code == "name.uri"


def test_a_server_is_named_once_and_not_a_hundred_times(room, make_csr) -> None:
    name = ("DNS", "www.example.mn")
    assert reason(room, server(make_csr, name, name)) == "name.alternative"
    many = [("DNS", f"host-{number}.example.mn") for number in range(MAX_ALTERNATIVE_NAMES + 1)]
    assert reason(room, server(make_csr, *many)) == "name.alternative"
    assert len(fitted_alternative_names(load_profile("tls-server"), many[:-1])) == MAX_ALTERNATIVE_NAMES


def test_a_server_has_a_name_and_its_common_name_is_one_of_them(room, make_csr) -> None:
    nameless = {**server(make_csr), "alternative_names": ()}
    assert reason(room, nameless) == "name.missing"
    foreign = server(make_csr, subject={**SERVER, "CN": "other.example.mn"})
    assert reason(room, foreign) == "name.common_name"
    applied = room.parts.registration.apply(**server(make_csr, subject={**SERVER, "CN": "www.example.mn"}))
    assert ("CN", "www.example.mn") in applied.subject


@pytest.mark.parametrize("changes", [{"evidence": " "}, {"holder": ""}])
def test_an_application_names_its_holder_and_its_evidence(room, make_csr, changes) -> None:
    with pytest.raises(errors.EvidenceMissing):
        room.parts.registration.apply(**server(make_csr, **changes))


@pytest.mark.parametrize(
    "profile", ["root", "issuing-ca", "issuing-ca-tls", "cross-certificate", "ocsp-responder", "tsa"]
)
def test_nobody_outside_applies_for_a_certificate_of_the_service(room, make_csr, profile: str) -> None:
    with pytest.raises(errors.ProfileNotOpen):
        room.parts.registration.apply(**server(make_csr, profile=profile))
    with pytest.raises(errors.ProfileNotFound):
        room.parts.registration.apply(**server(make_csr, profile=f"{profile}@1"))


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (ed25519.Ed25519PrivateKey.generate(), "key.type"),
        (ec.generate_private_key(ec.SECP256K1()), "key.curve"),
        (ec.generate_private_key(ec.SECP521R1()), "key.not_in_profile"),
        (rsa.generate_private_key(65537, 1024), "key.rsa_size"),  # noqa: S505 - refused
        (rsa.generate_private_key(3, 2048), "key.rsa_exponent"),
    ],
)
def test_a_key_that_is_not_good_enough_is_refused_with_its_reason(room, key, code: str) -> None:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    csr = builder.sign(key, algorithm).public_bytes(Encoding.DER)
    with pytest.raises(errors.KeyNotAccepted) as caught:
        room.parts.registration.apply(**server(lambda _key: csr))
    assert caught.value.facts["reason"] == code


def near_prime(source: random.Random, bits: int) -> int:
    """A random odd number without factors below 752, which is all that the first checks ask of a factor."""
    while True:
        number = source.getrandbits(bits) | 1 | 3 << (bits - 2)
        if all(number % factor for factor in range(3, 752, 2)):
            return number


def next_to(number: int) -> int:
    return next(n for n in range(number + 2, number + 100_000, 2) if all(n % factor for factor in range(3, 752, 2)))


SOURCE = random.Random(5)
FACTOR = near_prime(SOURCE, 1024)
PRIMORIAL = math.prod(n for n in range(2, 702) if all(n % d for d in range(2, math.isqrt(n) + 1)))


def roca(source: random.Random) -> int:
    """A number of the form of CVE-2017-15361, whether it is prime or not."""
    bits = 1024 - PRIMORIAL.bit_length()
    while True:
        number = source.getrandbits(bits) * PRIMORIAL + pow(65537, source.getrandbits(200), PRIMORIAL)
        if number >> 1022 == 3 and all(number % factor for factor in range(3, 752, 2)):
            return number


@pytest.mark.parametrize(
    ("modulus", "code"),
    [
        (751 * ((1 << 2048) // 751 - 2 | 1), "key.rsa_small_factor"),
        (FACTOR * next_to(FACTOR), "key.rsa_fermat"),
        (roca(SOURCE) * roca(SOURCE), "key.rsa_roca"),
    ],
    ids=["small factor", "Fermat", "ROCA"],
)
def test_a_modulus_that_can_be_factored_is_refused_with_its_reason(room, modulus: int, code: str) -> None:
    with pytest.raises(errors.KeyNotAccepted) as caught:
        room.parts.registration._with_good_key(offered(rsa.RSAPublicNumbers(65537, modulus).public_key()))
    assert caught.value.facts["reason"] == code


def offered(key: rsa.RSAPublicKey) -> Application:
    """An application whose proof of possession was checked: a weak key's private half is not at hand here."""
    return Application(
        profile=load_profile("tls-server"),
        public_key=key,
        spki=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        subject=(("C", "MN"), ("O", "Хаан Банк")),
        alternative_names=(("DNS", "www.example.mn"),),
        holder="bank-1",
        evidence="visit:1",
    )


def test_a_key_on_a_list_of_weak_keys_is_refused(room, make_csr) -> None:
    key = rsa.generate_private_key(65537, 2048)
    weak = WeakKeys([fingerprint(key.public_key().public_numbers().n)])
    registration = Registration(room.parts.settings, room.database, weak)
    with pytest.raises(errors.KeyNotAccepted) as caught:
        registration.apply(**server(make_csr, key=key))
    assert caught.value.facts["reason"] == "key.debian_weak"
    assert room.parts.registration.apply(**server(make_csr, key=key)).holder == "bank-1"


def test_a_key_revoked_as_compromised_is_refused_even_when_it_was_applied_for_before(room, make_csr) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    issued = room.parts.issuance.certify(room.parts.registration.apply(**server(make_csr, key=key)), actor="test")
    waiting = room.parts.registration.apply(**server(make_csr, key=key))
    room.parts.revocation.revoke(issued.id, reason=Reason.KEY_COMPROMISE, actor="test")
    for attempt in (
        lambda: room.parts.registration.apply(**server(make_csr, key=key)),
        lambda: room.parts.issuance.certify(waiting, actor="test"),
    ):
        with pytest.raises(errors.KeyNotAccepted) as caught:
            attempt()
        assert caught.value.facts["reason"] == "key.blocked"


def test_the_key_of_an_authority_is_certified_for_nobody(room) -> None:
    authority = room.parts.hierarchy.authority("tls-g1")
    application = dataclasses.replace(
        offered(rsa.generate_private_key(65537, 2048).public_key()),
        public_key=authority.public_key,
        spki=authority.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    )
    for attempt in (
        lambda: room.parts.registration._with_good_key(application),
        lambda: room.parts.issuance.certify(application, actor="test"),
    ):
        with pytest.raises(errors.KeyNotAccepted) as caught:
            attempt()
        assert caught.value.facts["reason"] == "key.authority"


def test_a_cross_certificate_repeats_an_authority_and_certifies_nothing_else(room) -> None:
    authority = room.parts.hierarchy.authority("tls-g1")
    good = Application(
        profile=load_profile("cross-certificate"),
        public_key=authority.public_key,
        spki=authority.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        subject=names.read_name(authority.name),
        alternative_names=(),
        holder="service:tls-g1",
        evidence="ceremony:cross",
        key_label="tls-g1",
    )
    issued = room.parts.issuance.certify(good, actor="test", issuer="root-g1")
    crossed = issued.certificate
    assert names.subject_of(issued.der) == authority.name
    identifiers = [
        each.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        for each in (crossed, authority.certificate)
    ]
    assert identifiers[0] == identifiers[1] and crossed.public_key() == authority.public_key
    foreign = ec.generate_private_key(ec.SECP384R1()).public_key()
    spki = foreign.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    renamed = tuple((label, "Another CA" if label == "CN" else text) for label, text in good.subject)
    for wrong in (
        dataclasses.replace(good, public_key=foreign, spki=spki),
        dataclasses.replace(good, subject=renamed),
    ):
        with pytest.raises(errors.KeyNotAccepted) as caught:
            room.parts.issuance.certify(wrong, actor="test", issuer="root-g1")
        assert caught.value.facts["reason"] == "key.not_authority"
