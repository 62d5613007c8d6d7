"""``/.well-known/est/…``: the operations of RFC 7030 4 that are offered; all others are answered 404.

Answers are base64 of DER, errors ``text/plain`` with a short reason (RFC 7030 4.2.3) and the code in ``X-Error-Code``.
"""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from ca.est import wire
from ca.est.enrolment import Caller, Enrolment, Pending
from ca.est.errors import BodyRefused, MediaTypeRefused
from core.errors import CodedError
from core.logs import get_logger
from core.one_time import OneTimeStore

log = get_logger("ca.est.endpoints")

CERTS_ONLY = "application/pkcs7-mime; smime-type=certs-only"  # RFC 7030 4.1.3, 4.2.3
CSR_ATTRS = "application/csrattrs"  # RFC 7030 4.5.2
PKCS10 = "application/pkcs10"  # RFC 7030 4.2.1

# The DER of the certificate that the client proved possession of in TLS, or None.
ClientCertificate = Callable[[], bytes | None]


def blueprint(enrolment: Enrolment, *, one_time: OneTimeStore, client_certificate: ClientCertificate) -> Blueprint:
    """The doors, each with a label and without (RFC 7030 3.2.2)."""
    doors = Doors(enrolment, one_time, client_certificate)
    pages = Blueprint("est", __name__, url_prefix="/.well-known/est")
    for operation, view, method in (
        ("cacerts", doors.ca_certificates, "GET"),
        ("csrattrs", doors.csr_attributes, "GET"),
        ("simpleenroll", doors.enrol, "POST"),
        ("simplereenroll", doors.renew, "POST"),
    ):
        pages.add_url_rule(f"/{operation}", operation, view, methods=[method])
        pages.add_url_rule(f"/<label>/{operation}", f"label_{operation}", view, methods=[method])
    pages.register_error_handler(CodedError, _refusal)
    return pages


class Doors:
    """The views."""

    def __init__(self, enrolment: Enrolment, one_time: OneTimeStore, client_certificate: ClientCertificate) -> None:
        self._enrolment = enrolment
        self._one_time = one_time
        self._client_certificate = client_certificate

    def ca_certificates(self, label: str | None = None) -> Response:
        """The authorities (RFC 7030 4.1)."""
        return _answer(wire.certs_only(self._enrolment.authorities(label)), CERTS_ONLY)

    def csr_attributes(self, label: str | None = None) -> Response:
        """What a request should hold (RFC 7030 4.5)."""
        return _answer(wire.csr_attributes(self._enrolment.keys(label)), CSR_ATTRS)

    def enrol(self, label: str | None = None) -> Response:
        """A first certificate (RFC 7030 4.2.1)."""
        given = self._enrolment.enrol(label, _body(), self._caller(), one_time=self._one_time)
        if isinstance(given, Pending):
            answer = _plain("an officer decides; ask again with the same request", 202)
            answer.headers["Retry-After"] = str(given.retry_after)  # RFC 7030 4.2.3
            return answer
        # RFC 7030 4.2.3: only the certificate that was issued.
        return _answer(wire.certs_only([given.der]), CERTS_ONLY)

    def renew(self, label: str | None = None) -> Response:
        """A successor of the client certificate (RFC 7030 4.2.2)."""
        given = self._enrolment.renew(label, _body(), self._caller(), one_time=self._one_time)
        return _answer(wire.certs_only([given.der]), CERTS_ONLY)

    def _caller(self) -> Caller:
        shown = request.authorization
        secret = None
        if shown is not None and shown.type == "basic":
            secret = (shown.username or "", shown.password or "")
        return Caller(secret, self._client_certificate(), request.remote_addr or "")


def _body() -> bytes:
    if request.mimetype != PKCS10:
        raise MediaTypeRefused(f"send {PKCS10}")
    request.max_content_length = wire.MAX_BODY_OCTETS
    try:
        return wire.decoded(request.get_data(cache=False))
    except RequestEntityTooLarge as error:
        raise BodyRefused(f"a body has at most {wire.MAX_BODY_OCTETS} octets") from error


def _answer(der: bytes, content_type: str) -> Response:
    answer = Response(wire.encoded(der), content_type=content_type)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _plain(text: str, status: int) -> Response:
    answer = Response(text + "\n", status, content_type="text/plain; charset=utf-8")
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _refusal(error: CodedError) -> Response:
    log.warning("est_refused", code=error.code, operation=request.endpoint)
    answer = _plain(error.detail or error.code, error.status)
    answer.headers["X-Error-Code"] = error.code
    if error.status == 401:
        # RFC 7030 3.2.3 and RFC 7617 2.1.
        answer.headers["WWW-Authenticate"] = 'Basic realm="EST", charset="UTF-8"'
    if error.status in (429, 503):
        answer.headers["Retry-After"] = "60"
    return answer
