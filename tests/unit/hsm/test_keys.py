from __future__ import annotations

import copy
import hashlib
import pickle
from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from joserfc import jwt
from joserfc.jwk import ECKey

from hsm.errors import HsmMisused, KeyStaysInToken, SignatureMismatch
from hsm.jwk import token_jwk
from hsm.keys import SignTask, TokenEllipticCurveKey, TokenRsaKey, sign_prehashed
from hsm.keystore import Keystore

ECDSA_256 = ec.ECDSA(hashes.SHA256())


def ec_key(keystore: Keystore, label: str) -> TokenEllipticCurveKey:
    key = keystore.key(label)
    assert isinstance(key, TokenEllipticCurveKey)
    return key


def rsa_key(keystore: Keystore) -> TokenRsaKey:
    key = keystore.key("rsa")
    assert isinstance(key, TokenRsaKey)
    return key


def test_token_keys_are_cryptographys_keys(keystore: Keystore) -> None:
    assert isinstance(keystore.key("root"), ec.EllipticCurvePrivateKey)
    assert isinstance(keystore.key("rsa"), rsa.RSAPrivateKey)
    assert ec_key(keystore, "root").curve.name == "secp384r1"
    assert ec_key(keystore, "root").key_size == 384
    assert rsa_key(keystore).key_size == 3072


@pytest.mark.parametrize("algorithm", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()], ids=lambda a: a.name)
@pytest.mark.parametrize("label", ["root", "responder"])
def test_an_ecdsa_signature_verifies_outside(keystore: Keystore, label: str, algorithm: hashes.HashAlgorithm) -> None:
    key = ec_key(keystore, label)
    signature = key.sign(b"message", ec.ECDSA(algorithm))
    key.public_key().verify(signature, b"message", ec.ECDSA(algorithm))


@pytest.mark.parametrize("algorithm", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()], ids=lambda a: a.name)
@pytest.mark.parametrize(
    "salt",
    [None, 32, padding.PSS.DIGEST_LENGTH, padding.PSS.MAX_LENGTH],
    ids=["PKCS1v15", "32", "digest", "max"],
)
def test_an_rsa_signature_verifies_outside(keystore: Keystore, algorithm: hashes.HashAlgorithm, salt: Any) -> None:
    key = rsa_key(keystore)
    scheme = padding.PKCS1v15() if salt is None else padding.PSS(padding.MGF1(algorithm), salt)
    signature = key.sign(b"message", scheme, algorithm)
    key.public_key().verify(signature, b"message", scheme, algorithm)


def test_a_digest_made_elsewhere_is_signed_as_it_is(keystore: Keystore) -> None:
    digest = hashlib.sha256(b"message").digest()
    key = ec_key(keystore, "responder")
    key.public_key().verify(sign_prehashed(key, digest, hashes.SHA256()), b"message", ECDSA_256)
    also = rsa_key(keystore)
    signature = sign_prehashed(also, digest, hashes.SHA256())
    also.public_key().verify(signature, b"message", padding.PKCS1v15(), hashes.SHA256())


def test_a_digest_of_another_length_is_refused(keystore: Keystore) -> None:
    with pytest.raises(ValueError, match="32 octets"):
        ec_key(keystore, "responder").sign(b"short", ec.ECDSA(utils.Prehashed(hashes.SHA256())))


def test_what_a_token_cannot_do_is_said(keystore: Keystore) -> None:
    with pytest.raises(UnsupportedAlgorithm):
        ec_key(keystore, "responder").sign(b"", ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    with pytest.raises(UnsupportedAlgorithm):
        rsa_key(keystore).sign(b"", padding.PKCS1v15(), hashes.SHA1())  # noqa: S303
    with pytest.raises(UnsupportedAlgorithm):
        rsa_key(keystore).sign(b"", padding.PSS(padding.MGF1(hashes.SHA384()), 32), hashes.SHA256())
    with pytest.raises(ValueError, match="salt"):
        rsa_key(keystore).sign(b"", padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO), hashes.SHA256())


def test_a_key_gives_away_nothing_private(keystore: Keystore) -> None:
    for key in (ec_key(keystore, "root"), rsa_key(keystore)):
        with pytest.raises(KeyStaysInToken):
            key.private_numbers()
        with pytest.raises(KeyStaysInToken):
            key.private_bytes(
                serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        with pytest.raises(KeyStaysInToken):
            pickle.dumps(key)
        assert copy.copy(key) is key
        assert copy.deepcopy(key) is key
    assert repr(keystore.key("root")) == "<TokenEllipticCurveKey 'root'>"


class FlippedBit:
    """A token that returns a damaged signature."""

    def __init__(self, key: TokenEllipticCurveKey) -> None:
        self._custody = key._custody
        self.calls = self.told = 0

    def sign(self, task: SignTask) -> bytes:
        self.calls += 1
        signature = self._custody.sign(task)
        return signature[:-1] + bytes([signature[-1] ^ 1])

    def quarantined(self) -> bool:
        self.told += 1
        return False


def test_a_wrong_signature_never_leaves_and_ends_the_keys_use(keystore: Keystore) -> None:
    sound = ec_key(keystore, "responder")
    custody = FlippedBit(sound)
    key = TokenEllipticCurveKey("responder", sound.public_key(), custody)
    for _ in range(2):
        with pytest.raises(SignatureMismatch):
            key.sign(b"message", ECDSA_256)
    assert (custody.calls, custody.told) == (1, 1)


def test_a_signature_under_another_public_key_never_leaves(keystore: Keystore) -> None:
    swapped = TokenEllipticCurveKey(
        "responder", ec.generate_private_key(ec.SECP256R1()).public_key(), ec_key(keystore, "responder")._custody
    )
    with pytest.raises(SignatureMismatch):
        swapped.sign(b"message", ECDSA_256)


@pytest.mark.parametrize(("label", "alg", "curve"), [("responder", "ES256", "P-256"), ("root", "ES384", "P-384")])
def test_a_jwt_is_signed_in_the_token(keystore: Keystore, label: str, alg: str, curve: str) -> None:
    key = token_jwk(keystore.key(label), kid="one", alg=alg)
    token = jwt.encode({"alg": alg, "kid": "one"}, {"sub": "x"}, key, algorithms=[alg])
    published = key.as_dict(private=False)
    assert published.items() >= {"kty": "EC", "crv": curve, "kid": "one", "alg": alg, "use": "sig"}.items()
    assert "d" not in published
    assert jwt.decode(token, ECKey.import_key(published), algorithms=[alg]).claims == {"sub": "x"}


def test_a_jwk_has_its_curves_algorithm_only(keystore: Keystore) -> None:
    for label, alg in (("responder", "ES384"), ("root", "ES256"), ("rsa", "RS256")):
        with pytest.raises(HsmMisused):
            token_jwk(keystore.key(label), kid="one", alg=alg)
