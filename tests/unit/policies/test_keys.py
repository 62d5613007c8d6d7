"""Public keys: one weak key for each reason, each refused with its own code."""

from __future__ import annotations

import math
import random

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from policies import keys
from policies.keys import KeyRefused

SPKI = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
STRONG = rsa.generate_private_key(65537, 2048)
P, Q = STRONG.private_numbers().p, STRONG.private_numbers().q


def is_prime(n: int) -> bool:
    return all(pow(base, n - 1, n) == 1 for base in (2, 3, 5, 7, 11))


def neighbour(prime: int) -> int:
    """A number just above ``prime`` without small factors, which is all that Fermat's method asks for."""
    number = prime + 2
    while any(number % n == 0 for n in range(3, 752, 2)):
        number += 2
    return number


def roca_prime(random_source: random.Random) -> int:
    """A prime as Infineon's library chose them: k·M + (65537^a mod M), M a primorial (CVE-2017-15361)."""
    primorial = math.prod(n for n in range(2, 702) if all(n % d for d in range(2, math.isqrt(n) + 1)))
    while True:
        factor = random_source.getrandbits(1024 - primorial.bit_length() - 1) | 1 << (1023 - primorial.bit_length())
        candidate = factor * primorial + pow(65537, random_source.getrandbits(200), primorial)
        if candidate.bit_length() == 1024 and is_prime(candidate):
            return candidate


def refused(modulus: int, exponent: int = 65537) -> str:
    with pytest.raises(KeyRefused) as caught:
        keys.check_rsa(modulus, exponent)
    return caught.value.code


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_nist_curves_are_good(curve: ec.EllipticCurve) -> None:
    kind = keys.check_public_key(ec.generate_private_key(curve).public_key())
    assert kind == f"P-{curve.key_size}"


def test_a_strong_rsa_key_is_good_and_a_profile_names_the_least_size() -> None:
    assert keys.check_public_key(STRONG.public_key()) == "RSA-2048"
    larger = rsa.generate_private_key(65537, 3072).public_key()
    assert keys.check_public_key(larger, {"P-256", "RSA-2048"}) == "RSA-3072"
    with pytest.raises(KeyRefused, match="the profile takes"):
        keys.check_public_key(STRONG.public_key(), {"P-256", "RSA-3072"})


@pytest.mark.parametrize("bits", [1024, 2040, 8200])
def test_an_rsa_key_of_another_size_is_refused(bits: int) -> None:
    assert refused((1 << bits) - 1) == "key.rsa_size"


def test_a_size_that_is_no_whole_octets_is_refused() -> None:
    assert refused((1 << 2050) - 1) == "key.rsa_size"


@pytest.mark.parametrize("exponent", [1, 3, 17, 65535, 65536, 65538])
def test_a_small_or_even_exponent_is_refused(exponent: int) -> None:
    assert refused(STRONG.public_key().public_numbers().n, exponent) == "key.rsa_exponent"


@pytest.mark.parametrize("factor", [2, 3, 241, 751])
def test_a_small_factor_is_refused(factor: int) -> None:
    assert refused(factor * ((1 << 2048) // factor - 1)) == "key.rsa_small_factor"


def test_factors_that_lie_close_together_are_refused() -> None:
    assert refused(P * neighbour(P)) == "key.rsa_fermat"
    assert refused(P * P) == "key.rsa_fermat"
    assert not keys.factors_by_fermat(P * Q)


def test_a_key_with_the_roca_fingerprint_is_refused() -> None:
    source = random.Random(20171016)
    modulus = roca_prime(source) * roca_prime(source)
    assert keys.has_roca_fingerprint(modulus)
    assert refused(modulus) == "key.rsa_roca"
    assert not keys.has_roca_fingerprint(P * Q)


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (ed25519.Ed25519PrivateKey.generate().public_key(), "key.type"),
        (x25519.X25519PrivateKey.generate().public_key(), "key.type"),
        (ec.generate_private_key(ec.SECP256K1()).public_key(), "key.curve"),
        (ec.generate_private_key(ec.BrainpoolP256R1()).public_key(), "key.curve"),
    ],
)
def test_another_kind_of_key_or_curve_is_refused(key, code: str) -> None:
    with pytest.raises(KeyRefused) as caught:
        keys.check_public_key(key)
    assert caught.value.code == code


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_a_point_off_the_curve_is_refused(curve: ec.EllipticCurve) -> None:
    numbers = ec.generate_private_key(curve).public_key().public_numbers()
    keys.check_point(curve.name, numbers.x, numbers.y)
    for x, y in ((numbers.x, numbers.y ^ 1), (numbers.y, numbers.x), (0, 0), (-1, numbers.y)):
        with pytest.raises(KeyRefused) as caught:
            keys.check_point(curve.name, x, y)
        assert caught.value.code == "key.ec_point"


def test_a_malformed_key_or_a_point_off_its_curve_is_unreadable() -> None:
    spki = bytearray(ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(*SPKI))
    spki[-1] ^= 1
    for octets in (b"", bytes(spki), spki[:-3]):
        with pytest.raises(KeyRefused) as caught:
            keys.load_public_key(bytes(octets))
        assert caught.value.code == "key.unreadable"
