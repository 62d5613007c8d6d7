"""The CMS of a PAdES signature, put together as DER so that one signature costs one key operation and little else.

EN 319 142-1 6.3, EN 319 122-1 5, RFC 5652. The key is anything in the shape of cryptography's private keys, so a key
that lives in a token signs the same way as one in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from signing.document_errors import SignatureSelfCheckFailed

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_SEQUENCE, _SET, _INTEGER, _OCTET_STRING = b"\x30", b"\x31", b"\x02", b"\x04"
_ID_DATA = bytes.fromhex("06092a864886f70d010701")
_ID_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_ID_CONTENT_TYPE = bytes.fromhex("06092a864886f70d010903")
_ID_MESSAGE_DIGEST = bytes.fromhex("06092a864886f70d010904")
_ID_SIGNING_CERTIFICATE_V2 = bytes.fromhex("060b2a864886f70d010910022f")  # RFC 5035
_ID_SIGNATURE_TIME_STAMP = bytes.fromhex("060b2a864886f70d010910020e")  # RFC 3161 Appendix A
_SHA256 = bytes.fromhex("300b0609608648016503040201")  # RFC 5754 2: parameters absent
_SHA256_WITH_RSA = bytes.fromhex("300d06092a864886f70d01010b0500")  # RFC 4055 5
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")  # RFC 5758 3.2
MIN_RSA_BITS = 2048


@dataclass(frozen=True)
class CmsSignature:
    """A signed CMS, kept in parts so that a time-stamp can still be added. Everything is DER."""

    signed_attributes: bytes  # as SET OF, the form that is signed (RFC 5652 5.4)
    signature: bytes
    algorithm: bytes  # AlgorithmIdentifier of the signature
    certificates: tuple[bytes, ...]  # the signer's first
    time_stamp: bytes | None = None

    def with_time_stamp(self, token: bytes) -> CmsSignature:
        """The same signature with a signature-time-stamp (EN 319 122-1 5.3)."""
        return replace(self, time_stamp=token)

    def der(self) -> bytes:
        """The ContentInfo."""
        unsigned = b""
        if self.time_stamp is not None:
            unsigned = _tlv(b"\xa1", _attribute(_ID_SIGNATURE_TIME_STAMP, self.time_stamp))
        signer_info = _sequence(
            b"\x02\x01\x01",  # version 1: the signer is named by issuer and serial number
            _issuer_and_serial_number(x509.load_der_x509_certificate(self.certificates[0])),
            _SHA256,
            b"\xa0" + self.signed_attributes[1:],
            self.algorithm,
            _tlv(_OCTET_STRING, self.signature),
            unsigned,
        )
        signed_data = _sequence(
            b"\x02\x01\x01",
            _set_of([_SHA256]),
            _sequence(_ID_DATA),  # detached: the content is the byte range
            _tlv(b"\xa0", b"".join(sorted(set(self.certificates)))),  # X.690 11.6
            _set_of([signer_info]),
        )
        return _sequence(_ID_SIGNED_DATA, _tlv(b"\xa0", signed_data))


def sign(digest: bytes, *, key: SigningKey, chain: tuple[bytes, ...]) -> CmsSignature:
    """Sign a document digest (SHA-256, 32 octets). ``chain`` is DER, the signer's certificate first.

    Exactly one key operation. The signature is verified under the certificate before it is returned; raises
    SignatureSelfCheckFailed when key and certificate do not belong together.
    """
    certificate = x509.load_der_x509_certificate(chain[0])
    _check_key(key, certificate)
    attributes = signed_attributes(digest, certificate)
    signature = _sign_octets(key, attributes)
    _verify(certificate, signature, attributes)
    algorithm = _SHA256_WITH_RSA if isinstance(key, rsa.RSAPrivateKey) else _ECDSA_WITH_SHA256
    return CmsSignature(attributes, signature, algorithm, chain)


def signed_attributes(digest: bytes, certificate: x509.Certificate) -> bytes:
    """content-type, message-digest and signing-certificate-v2 as a DER SET OF; no signing-time (EN 319 142-1 6.3)."""
    if len(digest) != hashlib.sha256().digest_size:
        raise ValueError("the digest is not 32 octets long")
    return _set_of(
        [
            _attribute(_ID_CONTENT_TYPE, _ID_DATA),
            _attribute(_ID_MESSAGE_DIGEST, _tlv(_OCTET_STRING, digest)),
            _attribute(_ID_SIGNING_CERTIFICATE_V2, _signing_certificate_v2(certificate)),
        ]
    )


def estimated_size(chain: Iterable[bytes], *, time_stamp_allowance: int) -> int:
    """An upper bound in octets for the CMS with this chain and a token of at most the given size."""
    fixed = 1024 + 512  # attributes, names and headers; an RSA-4096 signature
    names = max((len(certificate) for certificate in chain), default=0)
    return sum(len(certificate) for certificate in chain) + 2 * names + fixed + time_stamp_allowance


def _sign_octets(key: SigningKey, octets: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(octets, padding.PKCS1v15(), SHA256())
    return key.sign(octets, ec.ECDSA(SHA256()))


def _verify(certificate: x509.Certificate, signature: bytes, octets: bytes) -> None:
    public = certificate.public_key()
    try:
        if isinstance(public, rsa.RSAPublicKey):
            public.verify(signature, octets, padding.PKCS1v15(), SHA256())
        elif isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature, octets, ec.ECDSA(SHA256()))
        else:
            raise SignatureSelfCheckFailed("the certificate's key is of a kind that is not signed with")
    except InvalidSignature as error:
        raise SignatureSelfCheckFailed("the signature does not verify under the certificate") from error


def _check_key(key: SigningKey, certificate: x509.Certificate) -> None:
    """Before the key is used: it is the certificate's key and strong enough (S21)."""
    ours, theirs = (
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for public in (key.public_key(), certificate.public_key())
    )
    if ours != theirs:
        raise SignatureSelfCheckFailed("the key is not the one the certificate names")
    if key.key_size < (MIN_RSA_BITS if isinstance(key, rsa.RSAPrivateKey) else 256):
        raise SignatureSelfCheckFailed("the key is too short to sign with")


def _signing_certificate_v2(certificate: x509.Certificate) -> bytes:
    """SigningCertificateV2 with one ESSCertIDv2; SHA-256 is the default and so is left out (RFC 5035 4, X.690 11.5)."""
    issuer = _tlv(b"\xa4", certificate.issuer.public_bytes())  # GeneralName, directoryName
    serial = _sequence(_sequence(issuer), _integer(certificate.serial_number))
    identifier = _sequence(_tlv(_OCTET_STRING, hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()), serial)
    return _sequence(_sequence(identifier))


def _issuer_and_serial_number(certificate: x509.Certificate) -> bytes:
    return _sequence(certificate.issuer.public_bytes(), _integer(certificate.serial_number))


def _attribute(identifier: bytes, value: bytes) -> bytes:
    return _sequence(identifier, _set_of([value]))


def _set_of(values: Iterable[bytes]) -> bytes:
    return _tlv(_SET, b"".join(sorted(values)))  # X.690 11.6


def _sequence(*parts: bytes) -> bytes:
    return _tlv(_SEQUENCE, b"".join(parts))


def _integer(number: int) -> bytes:
    return _tlv(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


def _tlv(tag: bytes, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return tag + bytes([length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return tag + bytes([0x80 | len(octets)]) + octets + content
