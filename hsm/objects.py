"""Finding, reading and making objects inside one running operation on the token."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any

import pkcs11
from asn1crypto.algos import DigestAlgorithm, DigestInfo
from asn1crypto.x509 import Name
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import utils
from pkcs11 import MGF, Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11.util.ec import encode_named_curve_parameters

from hsm.errors import HsmMisused, KeyDamaged, KeyNotFound
from hsm.keys import PublicKey, Scheme, SignTask, public_key_of
from hsm.templates import (
    CURVES,
    RSA_BITS,
    SECRET_BITS,
    SECRET_CAPABILITIES,
    SECRET_KEY_TYPES,
    STAYS_IN_TOKEN,
    KeyAlgorithm,
    KeyPurpose,
    subject_of,
)

UNFINISHED = "unfinished-"


@dataclass(frozen=True)
class KeyAttributes:
    """Whether a key is, and always was, locked in its token."""

    sensitive: bool
    always_sensitive: bool
    extractable: bool
    never_extractable: bool
    local: bool

    @property
    def locked_in(self) -> bool:
        """True when the key was made in this token and never could leave it."""
        return (
            self.sensitive and self.always_sensitive and self.never_extractable and self.local and not self.extractable
        )


@dataclass(frozen=True)
class KeyInformation:
    """A key as listings show it. ``key_id`` is CKA_ID in hexadecimal, ``purpose`` None for a foreign key."""

    label: str
    purpose: KeyPurpose | None
    algorithm: KeyAlgorithm | None
    key_id: str
    attributes: KeyAttributes


def key_identifier(public_key: PublicKey) -> bytes:
    """CKA_ID of a key pair: labels can repeat, the public key cannot. First 20 octets of SHA-256 over the SPKI."""
    return hashlib.sha256(spki(public_key)).digest()[:20]


def spki(public_key: PublicKey) -> bytes:
    """The SubjectPublicKeyInfo in DER (RFC 5280 4.1.2.7)."""
    return public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def find(session: pkcs11.Session, wanted: dict[Attribute, Any]) -> list[Any]:
    """All objects with these attributes.

    The binding cannot end a search it could not begin, and complains of that where nobody can catch it. So a dead
    session is noticed first, by asking it for something harmless.
    """
    prove_alive(session)
    return list(session.get_objects(wanted))


def prove_alive(session: pkcs11.Session) -> None:
    """Raises the binding's error when the session, the login or the module has gone."""
    session.generate_random(64)


def private_objects(session: pkcs11.Session, **named: str) -> list[Any]:
    """Private and secret keys that the token keeps, of one ``label`` or all."""
    wanted: dict[Attribute, Any] = {Attribute.TOKEN: True}
    if "label" in named:
        wanted[Attribute.LABEL] = named["label"]
    kinds = (ObjectClass.PRIVATE_KEY, ObjectClass.SECRET_KEY)
    return [key for kind in kinds for key in find(session, {**wanted, Attribute.CLASS: kind})]


def one_object(session: pkcs11.Session, kind: ObjectClass, label: str) -> Any:
    """The only object of this class and label. Raises KeyNotFound, or KeyDamaged when there are several."""
    found = find(session, {Attribute.CLASS: kind, Attribute.LABEL: label, Attribute.TOKEN: True})
    if not found:
        raise KeyNotFound(f"the token holds no key {label!r}")
    if len(found) > 1:
        raise KeyDamaged(f"the token holds {len(found)} keys {label!r}")
    return found[0]


def key_pair(session: pkcs11.Session, label: str) -> tuple[PublicKey, pkcs11.PrivateKey]:
    """Both halves of a key pair, found by label and joined by CKA_ID. Raises KeyNotFound or KeyDamaged."""
    private = one_object(session, ObjectClass.PRIVATE_KEY, label)
    key_id = private[Attribute.ID]
    public_key = _public_half(session, label, key_id)
    if key_identifier(public_key) != key_id:
        raise KeyDamaged(f"the identifier of key {label!r} is not that of its public key")
    return public_key, private


def known_object(session: pkcs11.Session, kind: ObjectClass, key_id: bytes) -> Any:
    """The key of this class and CKA_ID, which was there before. The binding's NoSuchKey then tells of an outage."""
    found = find(session, {Attribute.CLASS: kind, Attribute.ID: key_id, Attribute.TOKEN: True})
    if len(found) != 1:
        raise pkcs11.NoSuchKey(f"{len(found)} keys where one was")
    return found[0]


def make_pair(session: pkcs11.Session, label: str, purpose: KeyPurpose, algorithm: KeyAlgorithm) -> None:
    """Make a key pair that stays in the token.

    The private key gets its name last, so that a crash half-way leaves a key nobody can ask for.
    """
    unfinished = UNFINISHED + os.urandom(8).hex()
    subject = {Attribute.SUBJECT: subject_of(label, purpose)}
    made = generated_pair(session, algorithm, store=True, label=unfinished, private={**STAYS_IN_TOKEN, **subject})
    for half in made:
        half[Attribute.ID] = key_identifier(public_key_of(made[0]))
        half[Attribute.LABEL] = label


def generated_pair(
    session: pkcs11.Session, algorithm: KeyAlgorithm, *, store: bool, label: str, private: dict[Attribute, Any]
) -> tuple[pkcs11.PublicKey, pkcs11.PrivateKey]:
    """A fresh key pair that signs and does nothing else, with these attributes of its private half."""
    options: dict[str, Any] = {
        "store": store,
        "label": label,
        "capabilities": MechanismFlag.SIGN | MechanismFlag.VERIFY,
        "private_template": private,
    }
    if algorithm in RSA_BITS:
        return session.generate_keypair(KeyType.RSA, RSA_BITS[algorithm], **options)
    if algorithm not in CURVES:
        raise HsmMisused(f"{algorithm} is no kind of key pair")
    curve = {Attribute.EC_PARAMS: encode_named_curve_parameters(CURVES[algorithm])}
    return session.create_domain_parameters(KeyType.EC, curve, local=True).generate_keypair(**options)


def make_secret(session: pkcs11.Session, label: str, purpose: KeyPurpose) -> None:
    """Make a 256-bit secret key that stays in the token."""
    if purpose not in SECRET_KEY_TYPES:
        raise HsmMisused(f"{purpose} needs a key pair, not a secret")
    session.generate_key(
        SECRET_KEY_TYPES[purpose],
        SECRET_BITS,
        id=os.urandom(20),
        label=label,
        store=True,
        capabilities=SECRET_CAPABILITIES[purpose],
        template=STAYS_IN_TOKEN,
    )


_PSS_PARAMETERS = {
    "sha256": (Mechanism.SHA256, MGF.SHA256),
    "sha384": (Mechanism.SHA384, MGF.SHA384),
    "sha512": (Mechanism.SHA512, MGF.SHA512),
}


def sign_with(handle: Any, task: SignTask) -> bytes:
    """The signature a private key's handle makes for ``task``, inside a running operation."""
    if task.scheme is Scheme.ECDSA:
        return _dss_encoded(handle.sign(task.digest, mechanism=Mechanism.ECDSA))
    if task.scheme is Scheme.RSA_PKCS1:
        return bytes(handle.sign(_digest_info(task), mechanism=Mechanism.RSA_PKCS))
    parameters = (*_PSS_PARAMETERS[task.hash_name], task.salt_octets)
    return bytes(handle.sign(task.digest, mechanism=Mechanism.RSA_PKCS_PSS, mechanism_param=parameters))


def _dss_encoded(raw: bytes) -> bytes:
    # Tokens return r and s at the curve's width, one after the other (PKCS#11 3.0 2.3.1).
    half = len(raw) // 2
    return utils.encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))


def _digest_info(task: SignTask) -> bytes:
    """RFC 8017 9.2 step 2."""
    identifier = DigestAlgorithm({"algorithm": task.hash_name})
    encoded: bytes = DigestInfo({"digest_algorithm": identifier, "digest": task.digest}).dump()
    return encoded


def information(key: Any) -> KeyInformation:
    """What the token says about one of its keys."""
    return KeyInformation(
        label=key[Attribute.LABEL],
        purpose=_purpose(key),
        algorithm=_algorithm(key),
        key_id=key[Attribute.ID].hex(),
        attributes=KeyAttributes(
            sensitive=key[Attribute.SENSITIVE],
            always_sensitive=key[Attribute.ALWAYS_SENSITIVE],
            extractable=key[Attribute.EXTRACTABLE],
            never_extractable=key[Attribute.NEVER_EXTRACTABLE],
            local=key[Attribute.LOCAL],
        ),
    )


def capabilities(key: Any) -> frozenset[Attribute]:
    """Those of a secret key's abilities that are switched on."""
    abilities = (Attribute.ENCRYPT, Attribute.DECRYPT, Attribute.SIGN, Attribute.WRAP, Attribute.UNWRAP)
    return frozenset(ability for ability in abilities if key[ability])


def _public_half(session: pkcs11.Session, label: str, key_id: bytes) -> PublicKey:
    found = find(session, {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.ID: key_id, Attribute.TOKEN: True})
    if len(found) != 1:
        raise KeyDamaged(f"the token holds {len(found)} public halves of key {label!r}")
    try:
        return public_key_of(found[0])
    except (ValueError, TypeError) as error:
        raise KeyDamaged(f"the public half of key {label!r} cannot be read") from error


def _purpose(key: Any) -> KeyPurpose | None:
    if key.object_class is ObjectClass.SECRET_KEY:
        return _secret_purpose(key)
    try:
        unit = Name.load(key[Attribute.SUBJECT]).native.get("organizational_unit_name")
        return KeyPurpose(unit)
    except (ValueError, pkcs11.AttributeTypeInvalid):
        return None  # made by another program


def _secret_purpose(key: Any) -> KeyPurpose | None:
    able = capabilities(key)
    exact = {
        frozenset({Attribute.WRAP, Attribute.UNWRAP}): KeyPurpose.WRAPPING,
        frozenset({Attribute.ENCRYPT, Attribute.DECRYPT}): KeyPurpose.ENCRYPTION,
        frozenset({Attribute.SIGN}): KeyPurpose.MAC,
    }
    return exact.get(able)


def _algorithm(key: Any) -> KeyAlgorithm | None:
    if key.key_type == KeyType.AES:
        return KeyAlgorithm.AES256
    if key.key_type == KeyType.GENERIC_SECRET:
        return KeyAlgorithm.HMAC_SHA256
    if key.key_type == KeyType.RSA:
        return _named(RSA_BITS, len(key[Attribute.MODULUS]) * 8)
    if key.key_type != KeyType.EC:
        return None
    parameters = bytes(key[Attribute.EC_PARAMS])
    return _named({name: encode_named_curve_parameters(curve) for name, curve in CURVES.items()}, parameters)


def _named(algorithms: dict[KeyAlgorithm, Any], value: object) -> KeyAlgorithm | None:
    return next((name for name, known in algorithms.items() if known == value), None)
