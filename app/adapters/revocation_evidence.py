"""Revocation evidence for documents, from the status service and the CRLs in this house."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp as ocsp_messages

from ca.crl import Crls
from ca.errors import CrlNotFound
from ca.hierarchy import Hierarchy
from core.errors import Unavailable
from ocsp.errors import OcspError
from ocsp.request import parse_request
from ocsp.responder import OcspResponder


class HouseEvidence:
    """Answers ``signing.ports.RevocationEvidence`` without leaving the process."""

    def __init__(self, responder: OcspResponder, crls: Crls, hierarchy: Hierarchy) -> None:
        self._responder = responder
        self._crls = crls
        self._hierarchy = hierarchy

    def for_chain(self, chain: Sequence[bytes]) -> tuple[tuple[bytes, ...], tuple[bytes, ...], tuple[bytes, ...]]:
        """An OCSP answer and the newest CRL for each certificate of ``chain`` below its anchor.

        Certificates of other issuers get nothing here; what is ours must have an answer, or Unavailable is raised.
        """
        issuers = {authority.name: authority for authority in self._hierarchy.authorities()}
        answers: list[bytes] = []
        crls: list[bytes] = []
        certificates: list[bytes] = []
        for der in chain:
            certificate = x509.load_der_x509_certificate(der)
            issuer = issuers.get(certificate.issuer.public_bytes())
            if issuer is None or issuer.der == der:
                continue
            answers.append(self._ask(certificate, issuer.certificate))
            crls.extend(self._crl(issuer.slug))
            certificates.append(issuer.der)
        return tuple(answers), tuple(dict.fromkeys(crls)), tuple(dict.fromkeys(certificates))

    def _ask(self, certificate: x509.Certificate, issuer: x509.Certificate) -> bytes:
        question = ocsp_messages.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA256()).build()
        try:
            return self._responder.answer(parse_request(question.public_bytes(serialization.Encoding.DER))).body
        except OcspError as error:
            raise Unavailable("the certificate's status cannot be had just now") from error

    def _crl(self, issuer: str) -> tuple[bytes, ...]:
        try:
            return (self._crls.current(issuer).der,)
        except CrlNotFound:
            return ()
