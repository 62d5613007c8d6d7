"""Token keys in the shape of cryptography's private keys.

The builders of cryptography, pyHanko and joserfc take any subclass of its abstract key classes and hand it the whole
message. The message is hashed here, the hash is signed in the token, and every signature is verified with the public
key before it is given away.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Never, Protocol, TypeAlias

import pkcs11
from asn1crypto.algos import DigestAlgorithm, DigestInfo
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.utils import Buffer
from pkcs11 import MGF, Mechanism
from pkcs11.util.ec import encode_ec_public_key

from core.logs import get_logger
from hsm.errors import KeyStaysInToken, SignatureMismatch

HashChoice: TypeAlias = hashes.HashAlgorithm | utils.Prehashed

log = get_logger("hsm.keys")


class Custody(Protocol):
    """Whoever holds the handle of a private key."""

    def use(self, operation: Callable[[Any], bytes]) -> bytes:
        """The result of ``operation`` on the handle, inside the token."""
        ...


class _TokenKey:
    """What EC and RSA keys in a token have in common."""

    def __init__(self, label: str, custody: Custody) -> None:
        self._label = label
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

    def _in_token(self, data: bytes, mechanism: Mechanism, parameters: Any = None) -> bytes:
        if self._quarantined:
            raise SignatureMismatch(f"the key {self._label!r} is in quarantine: a signature of it failed its check")
        return self._custody.use(lambda key: key.sign(data, mechanism=mechanism, mechanism_param=parameters))

    def _released(self, signature: bytes, verify: Callable[[bytes], None]) -> bytes:
        """``signature``, once ``verify`` accepts it; otherwise nothing leaves and the key is not used again."""
        try:
            verify(signature)
        except InvalidSignature:
            self._quarantined = True
            log.error("hsm_signature_mismatch", label=self._label)
            raise SignatureMismatch(f"the token's signature for {self._label!r} does not verify") from None
        return signature


class TokenEllipticCurveKey(_TokenKey, ec.EllipticCurvePrivateKey):
    """An EC private key in the token; signs ECDSA over any hash."""

    def __init__(self, label: str, public_key: ec.EllipticCurvePublicKey, custody: Custody) -> None:
        super().__init__(label, custody)
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
        # Tokens return r and s at the curve's width, one after the other (PKCS#11 3.0 2.3.1).
        raw = self._in_token(digest, Mechanism.ECDSA)
        half = len(raw) // 2
        signature = utils.encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))
        scheme = ec.ECDSA(utils.Prehashed(algorithm))
        return self._released(signature, lambda made: self._public_key.verify(made, digest, scheme))

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> Never:
        """Always raises KeyStaysInToken: signing keys agree on nothing."""
        raise KeyStaysInToken("a token's signing key makes no key agreement")


class TokenRsaKey(_TokenKey, rsa.RSAPrivateKey):
    """An RSA private key in the token; signs PKCS #1 v1.5 and PSS."""

    def __init__(self, label: str, public_key: rsa.RSAPublicKey, custody: Custody) -> None:
        super().__init__(label, custody)
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
        encoded, mechanism, parameters = _rsa_request(digest, hash_algorithm, padding, self.key_size)
        signature = self._in_token(encoded, mechanism, parameters)
        prehashed = utils.Prehashed(hash_algorithm)
        return self._released(signature, lambda made: self._public_key.verify(made, digest, padding, prehashed))

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


_PSS_MECHANISMS = {
    "sha256": (Mechanism.SHA256, MGF.SHA256),
    "sha384": (Mechanism.SHA384, MGF.SHA384),
    "sha512": (Mechanism.SHA512, MGF.SHA512),
}


def _rsa_request(
    digest: bytes, algorithm: hashes.HashAlgorithm, scheme: padding.AsymmetricPadding, key_size: int
) -> tuple[bytes, Mechanism, Any]:
    """What to sign, with which mechanism and parameters."""
    if algorithm.name not in _PSS_MECHANISMS:
        raise UnsupportedAlgorithm(f"RSA signatures over {algorithm.name} are not made")
    if isinstance(scheme, padding.PKCS1v15):
        return _digest_info(digest, algorithm), Mechanism.RSA_PKCS, None
    if isinstance(scheme, padding.PSS):
        salt = _salt_length(scheme, algorithm, key_size)
        return digest, Mechanism.RSA_PKCS_PSS, (*_pss_hashes(scheme, algorithm), salt)
    raise UnsupportedAlgorithm(f"RSA signatures with {scheme.name} are not made")


def _digest_info(digest: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
    """RFC 8017 9.2 step 2."""
    identifier = DigestAlgorithm({"algorithm": algorithm.name})
    encoded: bytes = DigestInfo({"digest_algorithm": identifier, "digest": digest}).dump()
    return encoded


def _pss_hashes(scheme: padding.PSS, algorithm: hashes.HashAlgorithm) -> tuple[Mechanism, MGF]:
    if scheme.mgf._algorithm.name != algorithm.name:
        raise UnsupportedAlgorithm("PSS with two different hashes is not made")
    return _PSS_MECHANISMS[algorithm.name]


def _salt_length(scheme: padding.PSS, algorithm: hashes.HashAlgorithm, key_size: int) -> int:
    chosen = scheme._salt_length
    if isinstance(chosen, int):
        return chosen
    if chosen is padding.PSS.DIGEST_LENGTH:
        return algorithm.digest_size
    if chosen is padding.PSS.MAX_LENGTH:
        # RFC 8017 9.1.1: emLen - hLen - 2 octets are left for the salt.
        return (key_size + 6) // 8 - algorithm.digest_size - 2
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
