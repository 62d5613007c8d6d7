"""The certificate authority's check asks the status service, as anybody outside would, without leaving the process."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp as messages

from ca import to_be_signed
from ca.check import Answer
from ca.hierarchy import Authority
from ca.register import Reason
from core.errors import Unavailable
from ocsp.errors import OcspError
from ocsp.request import parse_request
from ocsp.responder import OcspResponder

_REASONS = {
    x509.ReasonFlags.key_compromise: Reason.KEY_COMPROMISE,
    x509.ReasonFlags.affiliation_changed: Reason.AFFILIATION_CHANGED,
    x509.ReasonFlags.superseded: Reason.SUPERSEDED,
    x509.ReasonFlags.cessation_of_operation: Reason.CESSATION_OF_OPERATION,
    x509.ReasonFlags.certificate_hold: Reason.CERTIFICATE_HOLD,
    x509.ReasonFlags.privilege_withdrawn: Reason.PRIVILEGE_WITHDRAWN,
}


class HouseAnswers:
    """Answers ``ca.check.StatusAnswers``."""

    def __init__(self, responder: OcspResponder) -> None:
        self._responder = responder

    def ask(self, authority: Authority, serial: int) -> Answer:
        """The answer about one serial number, believed under the authority's key. Raises Unavailable."""
        answer = messages.load_der_ocsp_response(self._asked(authority, serial))
        if answer.response_status is not messages.OCSPResponseStatus.SUCCESSFUL or answer.serial_number != serial:
            raise Unavailable(f"the status service gives no answer about {authority.slug}")
        _check_signature(answer, authority)
        if answer.certificate_status is not messages.OCSPCertStatus.REVOKED:
            return Answer("good" if answer.certificate_status is messages.OCSPCertStatus.GOOD else "unknown")
        reason = answer.revocation_reason
        return Answer("revoked", answer.revocation_time_utc, _REASONS.get(reason) if reason else None)

    def _asked(self, authority: Authority, serial: int) -> bytes:
        sha256 = hashes.Hash(hashes.SHA256())
        sha256.update(authority.name)
        key = hashes.Hash(hashes.SHA256())
        key.update(_key_bits(authority))
        builder = messages.OCSPRequestBuilder().add_certificate_by_hash(
            sha256.finalize(), key.finalize(), serial, hashes.SHA256()
        )
        try:
            question = parse_request(builder.build().public_bytes(serialization.Encoding.DER))
            return self._responder.answer(question).body
        except OcspError as error:
            raise Unavailable(f"the status service gives no answer about {authority.slug}") from error


def _check_signature(answer: messages.OCSPResponse, authority: Authority) -> None:
    """RFC 6960 4.2.2.2: signed by a responder whom the authority itself named. Raises Unavailable."""
    for responder in answer.certificates:
        key = responder.public_key()
        if not isinstance(key, to_be_signed.PublicKey) or not _issued_by(responder, authority):
            continue
        if to_be_signed.verify(key, answer.tbs_response_bytes, answer.signature):
            return
    raise Unavailable(f"an answer about {authority.slug} is not signed by its responder")


def _issued_by(responder: x509.Certificate, authority: Authority) -> bool:
    try:
        responder.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _key_bits(authority: Authority) -> bytes:
    """What issuerKeyHash is taken of (RFC 6960 4.1.1): the key's BIT STRING without tag, length and unused bits."""
    from asn1crypto import x509 as asn1_x509

    info = asn1_x509.Certificate.load(authority.der)["tbs_certificate"]["subject_public_key_info"]
    return bytes(info["public_key"].contents[1:])
