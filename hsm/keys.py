"""Token keys in the shape of cryptography's private keys.

The builders of cryptography, pyHanko and joserfc take any subclass of its abstract key classes and hand it the whole
message. The message is hashed here, the hash is signed in the token, and every signature is verified with the public
key before it is given away.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Never, Protocol, TypeAlias

import pkcs11
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.utils import Buffer
from pkcs11.util.ec import encode_ec_public_key

from core.logs import get_logger
from hsm.errors import HsmMisused, KeyStaysInToken, SignatureMismatch

PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
HashChoice: TypeAlias = hashes.HashAlgorithm | utils.Prehashed

log = get_logger("hsm.keys")


HASHES: dict[str, hashes.HashAlgorithm] = {
    algorithm.name: algorithm for algorithm in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512())
}


class Scheme(StrEnum):
    """How a digest becomes a signature."""

    ECDSA = "ecdsa"
    RSA_PKCS1 = "rsa-pkcs1"
    """RFC 8017 8.2."""
    RSA_PSS = "rsa-pss"
    """RFC 8017 8.1, with MGF1 over the same hash."""


@dataclass(frozen=True)
class SignTask:
    """One signature a token is asked for."""

    scheme: Scheme
    hash_name: str
    """As hashlib names it, such as ``sha256``."""
    digest: bytes
    salt_octets: int = 0
    """For RSA_PSS only."""

    def __post_init__(self) -> None:
        size = HASHES[self.hash_name].digest_size if self.hash_name in HASHES else None
        if len(self.digest) != size:
            raise ValueError(f"a {self.hash_name} digest has {size} octets")
        if self.salt_octets < 0:
            raise ValueError("a salt has no fewer than 0 octets")


class Custody(Protocol):
    """Whoever lets a private key be used where it is."""

    def sign(self, task: SignTask) -> bytes:
        """The signature, ECDSA in DER (RFC 3279 2.2.3); not yet verified."""
        ...

    def quarantined(self) -> bool:
        """Told when a signature of this key failed its check. True when custody itself refuses the key from now on,
        so that whoever releases it there need not restart the processes that met the failure."""
        ...


class _TokenKey:
    """What EC and RSA keys in a token have in common."""

    def __init__(self, label: str, verifying: PublicKey, custody: Custody) -> None:
        self._label = label
        self._verifying = verifying
        self._custody = custody
        self._quarantined = False

    @property
    def label(self) -> str:
        """The key's name in the token."""
        return self._label

    def private_numbers(self) -> Never:
        """Always raises KeyStaysInToken."""
        raise KeyStaysInToken("a token key has no private numbers outside its token")

    def private_bytes(
        self,
        encoding: serialization.Encoding,
        format: serialization.PrivateFormat,  # noqa: A002 - cryptography's own parameter
        encryption_algorithm: serialization.KeySerializationEncryption,
    ) -> Never:
        """Always raises KeyStaysInToken."""
        raise KeyStaysInToken("a token key cannot be serialised")

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self

    def __reduce__(self) -> Never:
        raise KeyStaysInToken("a token key cannot be pickled")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._label!r}>"

    def sign_task(self, task: SignTask) -> bytes:
        """The signature ``task`` asks for, verified; otherwise nothing leaves and the key is not used again.

        Raises SignatureMismatch.
        """
        signature = self.unverified(task)
        try:
            verify_task(self._verifying, task, signature)
        except InvalidSignature:
            self._quarantined = True
            log.error("hsm_signature_mismatch", label=self._label)
            self._quarantined = not self._custody.quarantined()
            raise SignatureMismatch(f"the token's signature for {self._label!r} does not verify") from None
        return signature

    def unverified(self, task: SignTask) -> bytes:
        """The signature as the token gave it: only for who sees to it that it is verified before it is released."""
        if self._quarantined:
            raise SignatureMismatch(f"the key {self._label!r} is in quarantine: a signature of it failed its check")
        check_scheme(self._verifying, task)
        return self._custody.sign(task)


class TokenEllipticCurveKey(_TokenKey, ec.EllipticCurvePrivateKey):
    """An EC private key in the token; signs ECDSA over SHA-2."""

    def __init__(self, label: str, public_key: ec.EllipticCurvePublicKey, custody: Custody) -> None:
        super().__init__(label, public_key, custody)
        self._public_key = public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        """The curve of both halves."""
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        """Bits of the curve."""
        return self._public_key.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The other half, a key of cryptography."""
        return self._public_key

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """A DER ECDSA signature of ``data``, or of the digest ``data`` under ``ECDSA(Prehashed(…))``."""
        if not isinstance(signature_algorithm, ec.ECDSA):
            raise UnsupportedAlgorithm("a token's EC key signs ECDSA only")
        if signature_algorithm.deterministic_signing:
            raise UnsupportedAlgorithm("deterministic ECDSA is not offered by tokens")
        digest, algorithm = digest_of(bytes(data), signature_algorithm.algorithm)
        _hash_named(algorithm.name)
        return self.sign_task(SignTask(Scheme.ECDSA, algorithm.name, digest))

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> Never:
        """Always raises KeyStaysInToken: signing keys agree on nothing."""
        raise KeyStaysInToken("a token's signing key makes no key agreement")


class TokenRsaKey(_TokenKey, rsa.RSAPrivateKey):
    """An RSA private key in the token; signs PKCS #1 v1.5 and PSS."""

    def __init__(self, label: str, public_key: rsa.RSAPublicKey, custody: Custody) -> None:
        super().__init__(label, public_key, custody)
        self._public_key = public_key

    @property
    def key_size(self) -> int:
        """Bits of the modulus."""
        return self._public_key.key_size

    def public_key(self) -> rsa.RSAPublicKey:
        """The other half, a key of cryptography."""
        return self._public_key

    def sign(
        self,
        data: bytes,
        padding: padding.AsymmetricPadding,
        algorithm: utils.Prehashed | hashes.HashAlgorithm | utils.NoDigestInfo,
    ) -> bytes:
        """An RSA signature of ``data`` (RFC 8017 8.1.1 or 8.2.1), or of the digest ``data`` under ``Prehashed``."""
        if isinstance(algorithm, utils.NoDigestInfo):
            raise UnsupportedAlgorithm("signatures without a DigestInfo are not made")
        digest, hash_algorithm = digest_of(bytes(data), algorithm)
        return self.sign_task(_rsa_task(digest, hash_algorithm, padding, self.key_size))

    def decrypt(self, ciphertext: bytes, padding: padding.AsymmetricPadding) -> Never:
        """Always raises KeyStaysInToken: signing keys decrypt nothing."""
        raise KeyStaysInToken("a token's signing key does not decrypt")


PrivateKey: TypeAlias = TokenEllipticCurveKey | TokenRsaKey


def token_key(label: str, public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, custody: Custody) -> PrivateKey:
    """The private key of ``public_key`` whose handle ``custody`` holds."""
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return TokenEllipticCurveKey(label, public_key, custody)
    return TokenRsaKey(label, public_key, custody)


def sign_prehashed(key: PrivateKey, digest: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
    """A signature over a digest made elsewhere: ECDSA, or RSA PKCS #1 v1.5. ``digest`` must have the hash's length."""
    prehashed = utils.Prehashed(algorithm)
    if isinstance(key, TokenEllipticCurveKey):
        return key.sign(digest, ec.ECDSA(prehashed))
    return key.sign(digest, padding.PKCS1v15(), prehashed)


def digest_of(data: bytes, choice: HashChoice) -> tuple[bytes, hashes.HashAlgorithm]:
    """The digest to sign and its algorithm; ValueError when a prehashed ``data`` has another length."""
    if isinstance(choice, utils.Prehashed):
        algorithm = choice._algorithm
        if len(data) != algorithm.digest_size:
            raise ValueError(f"a {algorithm.name} digest has {algorithm.digest_size} octets")
        return data, algorithm
    digest = hashes.Hash(choice)
    digest.update(data)
    return digest.finalize(), copy.copy(choice)


def most_salt(key_size: int, hash_name: str) -> int:
    """Octets of salt a PSS signature has room for: emLen - hLen - 2 (RFC 8017 9.1.1)."""
    return (key_size + 6) // 8 - HASHES[hash_name].digest_size - 2


def check_scheme(public_key: PublicKey, task: SignTask) -> None:
    """Raises HsmMisused for what this key cannot do: some tokens answer that as if they were broken."""
    if (task.scheme is Scheme.ECDSA) is not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise HsmMisused(f"this kind of key does not sign {task.scheme}")
    if isinstance(public_key, rsa.RSAPublicKey) and task.salt_octets > most_salt(public_key.key_size, task.hash_name):
        raise HsmMisused("the salt is longer than the key has room for")


def verify_task(public_key: PublicKey, task: SignTask, signature: bytes) -> None:
    """Raises InvalidSignature unless ``signature`` is what ``task`` asked for."""
    algorithm = utils.Prehashed(_hash_named(task.hash_name))
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        public_key.verify(signature, task.digest, ec.ECDSA(algorithm))
    elif task.scheme is Scheme.RSA_PSS:
        scheme = padding.PSS(padding.MGF1(_hash_named(task.hash_name)), task.salt_octets)
        public_key.verify(signature, task.digest, scheme, algorithm)
    else:
        public_key.verify(signature, task.digest, padding.PKCS1v15(), algorithm)


def _hash_named(name: str) -> hashes.HashAlgorithm:
    if name not in HASHES:
        raise UnsupportedAlgorithm(f"signatures over {name} are not made")
    return HASHES[name]


def _rsa_task(
    digest: bytes, algorithm: hashes.HashAlgorithm, scheme: padding.AsymmetricPadding, key_size: int
) -> SignTask:
    _hash_named(algorithm.name)
    if isinstance(scheme, padding.PKCS1v15):
        return SignTask(Scheme.RSA_PKCS1, algorithm.name, digest)
    if not isinstance(scheme, padding.PSS):
        raise UnsupportedAlgorithm(f"RSA signatures with {scheme.name} are not made")
    if scheme.mgf._algorithm.name != algorithm.name:
        raise UnsupportedAlgorithm("PSS with two different hashes is not made")
    return SignTask(Scheme.RSA_PSS, algorithm.name, digest, _salt_length(scheme, algorithm, key_size))


def _salt_length(scheme: padding.PSS, algorithm: hashes.HashAlgorithm, key_size: int) -> int:
    chosen = scheme._salt_length
    if isinstance(chosen, int):
        return chosen
    if chosen is padding.PSS.DIGEST_LENGTH:
        return algorithm.digest_size
    if chosen is padding.PSS.MAX_LENGTH:
        return most_salt(key_size, algorithm.name)
    raise ValueError("a signer must say the salt's length")


def public_key_of(handle: pkcs11.PublicKey) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """The key of cryptography that a token's public key object describes; ValueError when it is no point or modulus."""
    if handle.key_type == pkcs11.KeyType.RSA:
        exponent, modulus = handle[pkcs11.Attribute.PUBLIC_EXPONENT], handle[pkcs11.Attribute.MODULUS]
        return rsa.RSAPublicNumbers(int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big")).public_key()
    key = serialization.load_der_public_key(encode_ec_public_key(handle))
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TypeError("the token holds a kind of key that is not used here")
    return key
