"""RFC 3161 time-stamp tokens: reading them and checking what can be checked without trust."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from signing.validation import cms, der
from signing.validation.cms import CmsError, SignedData
from signing.validation.der import MalformedDer
from signing.validation.revocation import load_certificate


@dataclass(frozen=True)
class TimeStampToken:
    """A token: what it stamps, when, and by whom. ``certificate`` is the authority's, DER, if the token carries it."""

    der: bytes
    signed_data: SignedData
    hash_algorithm: str
    message_imprint: bytes
    generation_time: datetime
    serial_number: int
    certificate: bytes | None
    nonce: int | None = None


def parse_token(data: bytes) -> TimeStampToken:
    """Read a TimeStampToken. Raises CmsError."""
    signed = cms.parse_signed_data(data)
    if signed.content_type != cms.ID_TST_INFO or signed.content is None:
        raise CmsError("TIME_STAMP", "the token holds no TSTInfo")
    try:
        parts = der.parse(signed.content, tag=der.SEQUENCE).children()
        algorithm, imprint = parts[2].children()[:2]
        nonces = [part.integer() for part in parts[5:] if part.tag == der.INTEGER]
        return TimeStampToken(
            der=data,
            signed_data=signed,
            hash_algorithm=algorithm.children()[0].oid(),
            message_imprint=imprint.expect(der.OCTET_STRING).content,
            generation_time=der.generalized_time(parts[4]),
            serial_number=parts[3].integer(),
            certificate=find_signer(signed),
            nonce=nonces[0] if nonces else None,
        )
    except (MalformedDer, IndexError) as error:
        raise CmsError("TIME_STAMP", f"the token's TSTInfo cannot be read: {error}") from error


def find_signer(signed: SignedData, further: tuple[bytes, ...] = ()) -> bytes | None:
    """The certificate that the SignerInfo and signing-certificate name, or None."""
    for candidate in (*signed.certificates, *further):
        try:
            certificate = load_certificate(candidate)
            named = cms.names_certificate(signed.signer, certificate)
            if named and cms.signing_certificate_matches(signed.signer, certificate) is not False:
                return candidate
        except (ValueError, IndexError, cms.AlgorithmUnknown):
            continue
    return None


def verify_token(token: TimeStampToken, stamped: bytes, certificate: bytes | None = None) -> None:
    """The token stamps ``stamped`` and its signature holds (RFC 3161 2.4.2, RFC 5816).

    Raises HashMismatch, SignatureMismatch, AlgorithmUnknown, CmsError. Trust in the authority is judged elsewhere.
    """
    if cms.digest(token.hash_algorithm, stamped) != token.message_imprint:
        raise cms.HashMismatch("the token stamps something else")
    verify_token_signature(token, certificate)


def verify_token_signature(token: TimeStampToken, certificate: bytes | None = None) -> None:
    """The authority's own signature over the token; raises as ``verify_token`` does."""
    signer_certificate = certificate or token.certificate
    if signer_certificate is None:
        raise CmsError("NO_SIGNING_CERTIFICATE", "the authority's certificate is not in the token")
    content = token.signed_data.content or b""
    content_digest = cms.digest(token.signed_data.signer.digest_algorithm, content)
    cms.verify_message_digest(token.signed_data, content_digest)
    public_key = load_certificate(signer_certificate).public_key()
    cms.verify_signature(token.signed_data, public_key, content_digest)
