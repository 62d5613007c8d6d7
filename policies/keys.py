"""Which public keys are good enough to be certified; each reason for refusing has its own code."""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

SubjectPublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

MIN_RSA_BITS = 2048  # BR 6.1.5
MAX_RSA_BITS = 8192  # ours: larger keys only cost time
MIN_RSA_EXPONENT = 65537  # BR 6.1.6
SMALL_FACTOR_LIMIT = 752  # NIST SP 800-89 5.3.3, asked for by BR 6.1.6
FERMAT_ROUNDS = 100  # BR 6.1.1.3
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


class KeyRefused(ValueError):
    """A public key is not good enough; ``code`` names the reason."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def load_public_key(spki: bytes) -> SubjectPublicKey:
    """Read a SubjectPublicKeyInfo. Raises KeyRefused: ``key.unreadable`` (also a point off its curve), ``key.type``."""
    try:
        key = load_der_public_key(spki)
    except Exception as error:  # the parser has many words for one refusal
        raise KeyRefused("key.unreadable", "the public key is malformed or its point is not on its curve") from error
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise KeyRefused("key.type", "only elliptic-curve and RSA keys are certified")
    return key


def algorithm_name(key: object) -> str:
    """The key's kind as profiles name it: ``P-256``, ``RSA-3072``. Raises KeyRefused."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in _CURVES:
            raise KeyRefused("key.curve", "the curve must be P-256, P-384 or P-521")
        return _CURVES[key.curve.name]
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA-{key.key_size}"
    raise KeyRefused("key.type", "only elliptic-curve and RSA keys are certified")


def check_public_key(key: object, allowed: Collection[str] | None = None) -> str:
    """The key's kind, if it is good. ``allowed`` holds kinds; ``RSA-3072`` there takes 3072 bits and more.

    Raises KeyRefused with its code: ``key.type``, ``key.curve``, ``key.rsa_size``, ``key.rsa_exponent``,
    ``key.rsa_small_factor``, ``key.rsa_fermat``, ``key.rsa_roca``, ``key.not_in_profile``.
    """
    kind = algorithm_name(key)
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        check_rsa(numbers.n, numbers.e)
    else:
        # The point was validated when the key was read: on the curve, not infinity; the cofactor is 1.
        assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101 - algorithm_name allowed nothing else
        check_point(key.curve.name, key.public_numbers().x, key.public_numbers().y)
    if allowed is not None and not _is_allowed(kind, allowed):
        raise KeyRefused("key.not_in_profile", f"the profile takes {', '.join(sorted(allowed))}, not {kind}")
    return kind


def check_rsa(modulus: int, exponent: int) -> None:
    """Refuse a weak RSA key (BR 6.1.1.3, 6.1.5, 6.1.6). Raises KeyRefused."""
    bits = modulus.bit_length()
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS or bits % 8:
        raise KeyRefused("key.rsa_size", f"an RSA modulus has {MIN_RSA_BITS} to {MAX_RSA_BITS} bits in whole octets")
    if exponent < MIN_RSA_EXPONENT or exponent % 2 == 0:
        raise KeyRefused("key.rsa_exponent", f"the RSA exponent is odd and at least {MIN_RSA_EXPONENT}")
    if math.gcd(modulus, _small_primes_product()) != 1:
        raise KeyRefused("key.rsa_small_factor", f"the modulus has a factor below {SMALL_FACTOR_LIMIT}")
    if has_roca_fingerprint(modulus):
        raise KeyRefused("key.rsa_roca", "the key carries the fingerprint of CVE-2017-15361")
    if factors_by_fermat(modulus):
        raise KeyRefused("key.rsa_fermat", "the factors of the modulus lie too close together")


# FIPS 186-5 / SEC 2: y² = x³ - 3x + b mod p.
_CURVE_EQUATIONS = {
    "secp256r1": (
        2**256 - 2**224 + 2**192 + 2**96 - 1,
        0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    ),
    "secp384r1": (
        2**384 - 2**128 - 2**96 + 2**32 - 1,
        0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
    ),
    "secp521r1": (
        2**521 - 1,
        0x0051953EB9618E1C9A1F929A21A0B68540EEA2DA725B99B315F3B8B489918EF109E156193951EC7E937B1652C0BD3BB1BF073573DF883D2C34F1EF451FD46B503F00,
    ),
}


def check_point(curve: str, x: int, y: int) -> None:
    """Full public-key validation of SP 800-56A 5.6.2.3.3 for curves of cofactor 1. Raises ``key.ec_point``."""
    prime, b = _CURVE_EQUATIONS[curve]
    on_curve = 0 <= x < prime and 0 <= y < prime and (y * y - x * x * x + 3 * x - b) % prime == 0
    if not on_curve:
        raise KeyRefused("key.ec_point", "the point is not on the curve")


def factors_by_fermat(modulus: int, rounds: int = FERMAT_ROUNDS) -> bool:
    """Whether Fermat's method finds two factors within so many rounds."""
    a = math.isqrt(modulus - 1) + 1
    for _ in range(rounds):
        difference = a * a - modulus
        if math.isqrt(difference) ** 2 == difference:
            return True
        a += 1
    return False


def has_roca_fingerprint(modulus: int) -> bool:
    """Whether the modulus lies in the group of 65537 for every prime from 3 to 167 (Nemec et al., CCS 2017)."""
    return all(modulus % prime in group for prime, group in _roca_groups())


def _is_allowed(kind: str, allowed: Collection[str]) -> bool:
    if kind in allowed:
        return True
    least = [int(name.removeprefix("RSA-")) for name in allowed if name.startswith("RSA-")]
    return kind.startswith("RSA-") and bool(least) and int(kind.removeprefix("RSA-")) >= min(least)


@cache
def _primes_below(limit: int) -> tuple[int, ...]:
    return tuple(n for n in range(2, limit) if all(n % d for d in range(2, math.isqrt(n) + 1)))


@cache
def _small_primes_product() -> int:
    return math.prod(_primes_below(SMALL_FACTOR_LIMIT))


@cache
def _roca_groups() -> tuple[tuple[int, frozenset[int]], ...]:
    return tuple(
        (prime, frozenset(pow(65537, power, prime) for power in range(prime - 1)))
        for prime in _primes_below(168)
        if prime > 2
    )
