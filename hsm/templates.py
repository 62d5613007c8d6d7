"""What each kind of key may do, as PKCS#11 attributes."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID
from pkcs11 import Attribute, KeyType, MechanismFlag, ObjectClass
from pkcs11.attributes import AttributeMapper


class KeyAlgorithm(StrEnum):
    """Kinds of keys the token makes. Names as in JOSE (RFC 7518 6.2.1.1) and NIST usage."""

    P256 = "P-256"
    P384 = "P-384"
    RSA3072 = "RSA-3072"
    RSA4096 = "RSA-4096"
    AES256 = "AES-256"
    HMAC_SHA256 = "HMAC-SHA-256"


class KeyPurpose(StrEnum):
    """What a key is for. A key has one purpose and no attribute beyond it."""

    CERTIFICATE_SIGNING = "certificate-signing"
    OCSP = "ocsp"
    TIME_STAMPING = "time-stamping"
    TOKEN_SIGNING = "token-signing"  # noqa: S105 - JWTs, no secret
    DOCUMENT_SIGNING = "document-signing"
    WRAPPING = "wrapping"
    MAC = "mac"
    ENCRYPTION = "encryption"


CURVES = {KeyAlgorithm.P256: "secp256r1", KeyAlgorithm.P384: "secp384r1"}
RSA_BITS = {KeyAlgorithm.RSA3072: 3072, KeyAlgorithm.RSA4096: 4096}

SECRET_KEY_TYPES = {
    KeyPurpose.WRAPPING: KeyType.AES,
    KeyPurpose.ENCRYPTION: KeyType.AES,
    KeyPurpose.MAC: KeyType.GENERIC_SECRET,
}
SECRET_CAPABILITIES = {
    # A wrapping key that could also decrypt would open the keys it wraps.
    KeyPurpose.WRAPPING: MechanismFlag.WRAP | MechanismFlag.UNWRAP,
    KeyPurpose.ENCRYPTION: MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
    KeyPurpose.MAC: MechanismFlag.SIGN | MechanismFlag.VERIFY,
}
SECRET_BITS = 256

STAYS_IN_TOKEN: dict[Attribute, Any] = {
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
}
# Only for the moment between making a key and wrapping it, as a session object.
WRAPPABLE: dict[Attribute, Any] = {**STAYS_IN_TOKEN, Attribute.EXTRACTABLE: True}


class TamgaAttributes(AttributeMapper):
    """The binding's templates, corrected for private keys that are unwrapped.

    ``unwrap_key`` takes the generic template, which says ``VERIFY`` and ``ENCRYPT`` of whatever it unwraps; a private
    key has neither, and tokens answer ``AttributeTypeInvalid``.
    """

    def generic_key_template(
        self,
        base_template: dict[Attribute, Any],
        *,
        capabilities: MechanismFlag | int,
        id_: bytes | None,
        label: str | None,
        store: bool,
    ) -> dict[Attribute, Any]:
        """As the binding's, unless the object is a private key."""
        named: dict[str, Any] = {"capabilities": capabilities, "id_": id_, "label": label, "store": store}
        if base_template.get(Attribute.CLASS) is ObjectClass.PRIVATE_KEY:
            return {**self.private_key_template(**named), **base_template}
        return super().generic_key_template(base_template, **named)


def subject_of(label: str, purpose: KeyPurpose) -> bytes:
    """CKA_SUBJECT of a key pair: where PKCS#11 lets an application write down what a private key is for."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, purpose.value),
            x509.NameAttribute(NameOID.COMMON_NAME, label),
        ]
    ).public_bytes()
