"""CMS signed data, read strictly and verified (RFC 5652 5, EN 319 122-1, RFC 5035): values, no verdicts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from signing.validation import der
from signing.validation.der import Element, MalformedDer

MAX_CMS_OCTETS = 4 * 1024 * 1024
MAX_CERTIFICATES = 500

ID_DATA = "1.2.840.113549.1.7.1"
ID_SIGNED_DATA = "1.2.840.113549.1.7.2"
ID_TST_INFO = "1.2.840.113549.1.9.16.1.4"
ID_CONTENT_TYPE = "1.2.840.113549.1.9.3"
ID_MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
ID_SIGNING_CERTIFICATE = "1.2.840.113549.1.9.16.2.12"
ID_SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.47"
ID_SIGNATURE_TIME_STAMP = "1.2.840.113549.1.9.16.2.14"
ID_ALGORITHM_PROTECTION = "1.2.840.113549.1.9.52"

DIGESTS: dict[str, type[hashes.HashAlgorithm]] = {
    "1.3.14.3.2.26": hashes.SHA1,
    "2.16.840.1.101.3.4.2.4": hashes.SHA224,
    "2.16.840.1.101.3.4.2.1": hashes.SHA256,
    "2.16.840.1.101.3.4.2.2": hashes.SHA384,
    "2.16.840.1.101.3.4.2.3": hashes.SHA512,
    "2.16.840.1.101.3.4.2.8": hashes.SHA3_256,
    "2.16.840.1.101.3.4.2.9": hashes.SHA3_384,
    "2.16.840.1.101.3.4.2.10": hashes.SHA3_512,
    "1.2.840.113549.2.5": hashes.MD5,
}
_RSA = "1.2.840.113549.1.1.1"
_RSA_PSS = "1.2.840.113549.1.1.10"
_RSA_WITH = {
    "1.2.840.113549.1.1.4": "1.2.840.113549.2.5",
    "1.2.840.113549.1.1.5": "1.3.14.3.2.26",
    "1.2.840.113549.1.1.14": "2.16.840.1.101.3.4.2.4",
    "1.2.840.113549.1.1.11": "2.16.840.1.101.3.4.2.1",
    "1.2.840.113549.1.1.12": "2.16.840.1.101.3.4.2.2",
    "1.2.840.113549.1.1.13": "2.16.840.1.101.3.4.2.3",
}
_EC_PUBLIC_KEY = "1.2.840.10045.2.1"
_ECDSA_WITH = {
    "1.2.840.10045.4.1": "1.3.14.3.2.26",
    "1.2.840.10045.4.3.1": "2.16.840.1.101.3.4.2.4",
    "1.2.840.10045.4.3.2": "2.16.840.1.101.3.4.2.1",
    "1.2.840.10045.4.3.3": "2.16.840.1.101.3.4.2.2",
    "1.2.840.10045.4.3.4": "2.16.840.1.101.3.4.2.3",
}
_ED25519, _ED448 = "1.3.101.112", "1.3.101.113"


class CmsError(ValueError):
    """Something about the CMS breaks its rules; ``finding`` is the report's word for it."""

    def __init__(self, finding: str, detail: str) -> None:
        super().__init__(detail)
        self.finding = finding


class HashMismatch(Exception):
    """The digest in the signed attributes is not that of the content."""


class SignatureMismatch(Exception):
    """The signature value does not verify under the key."""


class AlgorithmUnknown(Exception):
    """The digest or signature algorithm is not one this software knows."""


@dataclass(frozen=True)
class Attribute:
    """An attribute: its type and the encodings of its values."""

    type: str
    values: tuple[Element, ...]


@dataclass(frozen=True)
class SignerInfo:
    """One signer's part (RFC 5652 5.3)."""

    version: int
    identifier: Element
    digest_algorithm: str
    signed_attributes_raw: bytes | None  # as SET OF, the form that is digested
    signed_attributes: tuple[Attribute, ...]
    signature_algorithm: Element
    signature: bytes
    unsigned_attributes: tuple[Attribute, ...]

    @property
    def signature_algorithm_oid(self) -> str:
        """The signature algorithm's object identifier."""
        return self.signature_algorithm.children()[0].oid()

    def signed(self, attribute_type: str) -> Element | None:
        """The single value of a signed attribute, or None. Raises CmsError when there are several."""
        found = [value for entry in self.signed_attributes if entry.type == attribute_type for value in entry.values]
        if len(found) > 1:
            raise CmsError("SIGNED_ATTRIBUTES", f"attribute {attribute_type} occurs more than once")
        return found[0] if found else None

    def unsigned(self, attribute_type: str) -> tuple[Element, ...]:
        """All values of an unsigned attribute."""
        return tuple(v for entry in self.unsigned_attributes if entry.type == attribute_type for v in entry.values)


@dataclass(frozen=True)
class SignedData:
    """CMS signed data with its one signer."""

    content_type: str
    content: bytes | None
    certificates: tuple[bytes, ...]
    crls: tuple[bytes, ...]
    signer: SignerInfo
    is_der: bool = True


def parse_signed_data(data: bytes) -> SignedData:
    """Read a ContentInfo that holds signed data with exactly one SignerInfo. Raises CmsError."""
    if len(data) > MAX_CMS_OCTETS:
        raise CmsError("PARSER_LIMIT", "the CMS is larger than 4 MiB")
    is_der = data[1:2] != b"\x80"
    try:
        return _signed_data(der.parse(data if is_der else der.from_ber(data)[0]), is_der=is_der)
    except (MalformedDer, IndexError, StopIteration) as error:
        raise CmsError("CMS", f"the CMS cannot be read: {error}") from error


def digest(algorithm: str, content: bytes) -> bytes:
    """Digest of ``content``. Raises AlgorithmUnknown."""
    hasher = hashes.Hash(hash_algorithm(algorithm))
    hasher.update(content)
    return hasher.finalize()


def hash_algorithm(oid: str) -> hashes.HashAlgorithm:
    """The hash of that object identifier. Raises AlgorithmUnknown."""
    try:
        return DIGESTS[oid]()
    except KeyError:
        raise AlgorithmUnknown(f"digest algorithm {oid}") from None


def verify_message_digest(data: SignedData, content_digest: bytes) -> None:
    """RFC 5652 5.6, first half: the signed message-digest is the content's. Raises HashMismatch, CmsError."""
    if data.signer.signed_attributes_raw is None:
        return  # the signature is over the content itself
    stated = data.signer.signed(ID_MESSAGE_DIGEST)
    if stated is None:
        raise CmsError("SIGNED_ATTRIBUTES", "message-digest is missing")
    if stated.tag != der.OCTET_STRING:
        raise CmsError("SIGNED_ATTRIBUTES", "message-digest is not an octet string")
    if stated.content != content_digest:
        raise HashMismatch("the content's digest differs from the signed one")


def verify_signature(data: SignedData, public_key: PublicKeyTypes, content_digest: bytes) -> None:
    """RFC 5652 5.6, second half. Raises SignatureMismatch, AlgorithmUnknown."""
    signer = data.signer
    octets, prehashed = signer.signed_attributes_raw, False
    if octets is None:
        octets, prehashed = content_digest, True
    algorithm = signer.signature_algorithm
    verify(public_key, signer.signature, octets, algorithm, signer.digest_algorithm, prehashed=prehashed)


def verify(
    public_key: PublicKeyTypes,
    signature: bytes,
    octets: bytes,
    algorithm: Element,
    digest_algorithm: str | None = None,
    *,
    prehashed: bool = False,
) -> None:
    """Verify a signature under an AlgorithmIdentifier. Raises SignatureMismatch, AlgorithmUnknown."""
    try:
        _verify(public_key, signature, octets, algorithm, digest_algorithm, prehashed)
    except InvalidSignature as error:
        raise SignatureMismatch("the signature does not verify under the key") from error
    except (UnsupportedAlgorithm, MalformedDer, ArithmeticError, IndexError) as error:
        raise AlgorithmUnknown(str(error)) from error
    except ValueError as error:
        raise SignatureMismatch(f"the signature cannot be verified: {error}") from error


def signature_digest(signer: SignerInfo) -> str:
    """The digest algorithm (object identifier) that the signature is made over."""
    oid = signer.signature_algorithm_oid
    if oid == _RSA_PSS:
        return _pss_parameters(signer.signature_algorithm)[0]
    return _RSA_WITH.get(oid) or _ECDSA_WITH.get(oid) or signer.digest_algorithm


def names_certificate(signer: SignerInfo, certificate: x509.Certificate) -> bool:
    """Whether the SignerIdentifier means this certificate."""
    if signer.identifier.tag == 0x80:
        return _subject_key_identifier(certificate) == signer.identifier.content
    issuer, serial = signer.identifier.expect(der.SEQUENCE).children()[:2]
    return serial.integer() == certificate.serial_number and issuer.raw == certificate.issuer.public_bytes()


def signing_certificate_matches(signer: SignerInfo, certificate: x509.Certificate) -> bool | None:
    """Whether signing-certificate(-v2) names the certificate (RFC 5035: digest, issuer-serial); None when absent."""
    value = signer.signed(ID_SIGNING_CERTIFICATE_V2)
    default = "2.16.840.1.101.3.4.2.1"
    if value is None:
        value, default = signer.signed(ID_SIGNING_CERTIFICATE), "1.3.14.3.2.26"
    if value is None:
        return None
    first = value.expect(der.SEQUENCE).children()[0].expect(der.SEQUENCE).children()[0]
    parts = list(first.expect(der.SEQUENCE).children())
    if parts[0].tag == der.SEQUENCE and value is not None and parts[0].children()[0].tag == der.OBJECT_IDENTIFIER:
        default = parts.pop(0).children()[0].oid()
    if parts[0].expect(der.OCTET_STRING).content != digest(default, certificate.public_bytes(Encoding.DER)):
        return False
    return len(parts) < 2 or _issuer_serial_matches(parts[1], certificate)


def _issuer_serial_matches(issuer_serial: Element, certificate: x509.Certificate) -> bool:
    names, serial = issuer_serial.expect(der.SEQUENCE).children()[:2]
    if serial.integer() != certificate.serial_number:
        return False
    directory = [name.content for name in names.children() if name.tag == 0xA4]
    return certificate.issuer.public_bytes() in directory


def _subject_key_identifier(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (x509.ExtensionNotFound, ValueError):
        return None


def _signed_data(content_info: Element, *, is_der: bool) -> SignedData:
    kind, wrapped = _exactly(content_info.expect(der.SEQUENCE).children(), 2)
    if kind.oid() != ID_SIGNED_DATA:
        raise CmsError("CMS", "the CMS is not signed data")
    parts = wrapped.expect(0xA0).children()[0].expect(der.SEQUENCE).members()
    version, digests, encapsulated = next(parts), next(parts), next(parts)
    certificates: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()
    signers: Element | None = None
    for part in parts:
        if part.tag == 0xA0:
            certificates = tuple(entry.expect(der.SEQUENCE).raw for entry in part.children())
        elif part.tag == 0xA1:
            crls = tuple(entry.expect(der.SEQUENCE).raw for entry in part.children())
        else:
            signers = part.expect(der.SET)
    if len(certificates) > MAX_CERTIFICATES:
        raise CmsError("PARSER_LIMIT", f"more than {MAX_CERTIFICATES} certificates")
    infos = signers.children() if signers is not None else ()
    if len(infos) != 1:
        raise CmsError("SIGNER_INFO_COUNT", f"the CMS has {len(infos)} SignerInfos, not one")
    content_type, content = _encapsulated(encapsulated)
    signer = _signer_info(infos[0], content_type)
    _check_framing(version.integer(), digests, content_type, signer)
    _check_lists(crls)
    return SignedData(content_type, content, certificates, crls, signer, is_der)


def _check_framing(version: int, digests: Element, content_type: str, signer: SignerInfo) -> None:
    """RFC 5652 5.1, 5.3: version numbers follow from the content, and the signer's digest algorithm is announced.

    No signature covers these octets, so that only this check sees a change to them.
    """
    by_key = signer.identifier.tag == 0x80
    if signer.version != (3 if by_key else 1):
        raise CmsError("CMS", "the SignerInfo's version does not fit its identifier")
    if version not in ((3, 4, 5) if by_key or content_type != ID_DATA else (1, 3, 4, 5)):
        raise CmsError("CMS", "the version does not fit the content")
    announced = [entry.expect(der.SEQUENCE).children() for entry in digests.expect(der.SET).children()]
    if signer.digest_algorithm not in [entry[0].oid() for entry in announced]:
        raise CmsError("CMS", "the digest algorithm is not announced")
    if any(len(entry) > 2 or (len(entry) == 2 and entry[1].raw != b"\x05\x00") for entry in announced):
        raise CmsError("CMS", "a digest algorithm has parameters")


def _check_lists(crls: tuple[bytes, ...]) -> None:
    for entry in crls:
        try:
            x509.load_der_x509_crl(entry)
        except ValueError as error:
            raise CmsError("CMS", "a revocation list in the CMS cannot be read") from error


def _encapsulated(element: Element) -> tuple[str, bytes | None]:
    parts = element.expect(der.SEQUENCE).children()
    content = parts[1].expect(0xA0).children()[0].expect(der.OCTET_STRING).content if len(parts) > 1 else None
    return parts[0].oid(), content


def _signer_info(element: Element, content_type: str) -> SignerInfo:
    parts = list(element.expect(der.SEQUENCE).children())
    version, identifier, digest_algorithm = parts[0].integer(), parts[1], _digest_oid(parts[2])
    rest = parts[3:]
    raw: bytes | None = None
    attributes: tuple[Attribute, ...] = ()
    if rest[0].tag == 0xA0:
        signed = rest.pop(0)
        raw = b"\x31" + signed.raw[1:]
        attributes = tuple(_attributes(signed))
        _check_signed_attributes(der.parse(raw), attributes, content_type)
    elif content_type != ID_DATA:  # RFC 5652 5.3
        raise CmsError("SIGNED_ATTRIBUTES", "content of this type needs signed attributes")
    unsigned = tuple(_attributes(rest[2])) if len(rest) > 2 else ()
    signature = rest[1].expect(der.OCTET_STRING).content
    return SignerInfo(
        version, identifier, digest_algorithm, raw, attributes, rest[0].expect(der.SEQUENCE), signature, unsigned
    )


def _digest_oid(algorithm: Element) -> str:
    parts = algorithm.expect(der.SEQUENCE).children()
    if len(parts) > 2 or (len(parts) == 2 and parts[1].raw != b"\x05\x00"):
        raise CmsError("CMS", "the digest algorithm has parameters")
    return parts[0].oid()


def _attributes(element: Element) -> Iterator[Attribute]:
    for entry in element.children():
        kind, values = _exactly(entry.expect(der.SEQUENCE).children(), 2)
        yield Attribute(kind.oid(), values.expect(der.SET).children())


def _check_signed_attributes(whole: Element, attributes: tuple[Attribute, ...], content_type: str) -> None:
    """RFC 5652 5.3, 11.1, 11.2: DER, each of the two mandatory attributes once with one value."""
    if not der.is_distinguished(whole):
        raise CmsError("SIGNED_ATTRIBUTES", "the signed attributes are not DER encoded or not in order")
    for kind in (ID_CONTENT_TYPE, ID_MESSAGE_DIGEST):
        found = [entry for entry in attributes if entry.type == kind]
        if len(found) != 1 or len(found[0].values) != 1:
            raise CmsError("SIGNED_ATTRIBUTES", f"attribute {kind} must occur once with one value")
        if kind == ID_CONTENT_TYPE and found[0].values[0].oid() != content_type:
            raise CmsError("SIGNED_ATTRIBUTES", "content-type differs from the type of the content")


def check_algorithm_protection(signer: SignerInfo) -> None:
    """CMSAlgorithmProtection, when present, repeats the algorithms used (RFC 6211 2). Raises CmsError."""
    value = signer.signed(ID_ALGORITHM_PROTECTION)
    if value is None:
        return
    parts = value.expect(der.SEQUENCE).children()
    same_digest = parts[0].children()[0].oid() == signer.digest_algorithm
    same_signature = any(part.tag == 0xA1 and part.content == signer.signature_algorithm.content for part in parts[1:])
    if not (same_digest and same_signature):
        raise CmsError("SIGNED_ATTRIBUTES", "the algorithms differ from those that CMSAlgorithmProtection names")


def _verify(
    public_key: PublicKeyTypes,
    signature: bytes,
    octets: bytes,
    algorithm: Element,
    digest_algorithm: str | None,
    prehashed: bool,
) -> None:
    oid = algorithm.children()[0].oid()
    if oid != _RSA_PSS and any(entry.raw != b"\x05\x00" for entry in algorithm.children()[1:]):
        raise AlgorithmUnknown(f"signature algorithm {oid} with parameters")
    if isinstance(public_key, rsa.RSAPublicKey):
        scheme, hashed = _rsa_scheme(oid, algorithm, digest_algorithm)
        public_key.verify(signature, octets, scheme, _maybe_prehashed(hashed, prehashed))
    elif isinstance(public_key, ec.EllipticCurvePublicKey):
        hashed = _stated_hash(oid, _ECDSA_WITH, _EC_PUBLIC_KEY, digest_algorithm)
        public_key.verify(signature, octets, ec.ECDSA(_maybe_prehashed(hashed, prehashed)))
    elif _is_edwards(public_key, oid) and not prehashed:
        public_key.verify(signature, octets)  # type: ignore[union-attr, call-arg]
    else:
        raise AlgorithmUnknown(f"signature algorithm {oid} with a {type(public_key).__name__}")


def _is_edwards(public_key: PublicKeyTypes, oid: str) -> bool:
    """RFC 8419 2."""
    return (isinstance(public_key, ed25519.Ed25519PublicKey) and oid == _ED25519) or (
        isinstance(public_key, ed448.Ed448PublicKey) and oid == _ED448
    )


def _rsa_scheme(
    oid: str, algorithm: Element, digest_algorithm: str | None
) -> tuple[padding.AsymmetricPadding, hashes.HashAlgorithm]:
    if oid != _RSA_PSS:
        return padding.PKCS1v15(), _stated_hash(oid, _RSA_WITH, _RSA, digest_algorithm)
    message, mask, salt = _pss_parameters(algorithm)
    return padding.PSS(padding.MGF1(hash_algorithm(mask)), salt), hash_algorithm(message)


def _pss_parameters(algorithm: Element) -> tuple[str, str, int]:
    """Digest of the message, digest of the mask (object identifiers) and octets of salt."""
    message, mask, salt = "1.3.14.3.2.26", "1.3.14.3.2.26", 20  # RFC 4055 3.1, the defaults
    parameters = algorithm.children()[1].expect(der.SEQUENCE).children() if len(algorithm.children()) > 1 else ()
    for parameter in parameters:
        inner = parameter.children()[0]
        if parameter.tag == 0xA0:
            message = inner.children()[0].oid()
        elif parameter.tag == 0xA1:
            mask = inner.children()[1].children()[0].oid()
        elif parameter.tag == 0xA2:
            salt = inner.integer()
    return message, mask, salt


def _stated_hash(oid: str, known: dict[str, str], bare: str, digest_algorithm: str | None) -> hashes.HashAlgorithm:
    if oid in known:
        return hash_algorithm(known[oid])
    if oid == bare and digest_algorithm is not None:
        return hash_algorithm(digest_algorithm)
    raise AlgorithmUnknown(f"signature algorithm {oid}")


def _maybe_prehashed(algorithm: hashes.HashAlgorithm, prehashed: bool) -> hashes.HashAlgorithm:
    if not prehashed:
        return algorithm
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

    return Prehashed(algorithm)  # type: ignore[return-value]


def _exactly(parts: tuple[Element, ...], count: int) -> tuple[Element, ...]:
    if len(parts) != count:
        raise MalformedDer(f"expected {count} members, found {len(parts)}")
    return parts


def sha256(octets: bytes) -> str:
    """Hexadecimal SHA-256, the name by which evidence is referred to."""
    return hashlib.sha256(octets).hexdigest()
