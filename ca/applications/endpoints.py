"""What organisations call: applications and their own certificates under /ca (REST, errors as RFC 9457)."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from flask import Blueprint, Response, jsonify, request

from ca.applications import errors
from ca.applications.service import Application, Applications, Asked, check_not_personal
from ca.errors import CertificateNotFound, ReasonNotAllowed
from ca.hierarchy import Hierarchy
from ca.register import IssuedCertificate, Register
from ca.registration import MAX_CSR_OCTETS
from ca.revocation import REASON_NAMES, Revocation
from core.principal import Principal

APPLY_SCOPE = "ca:apply"
REVOKE_SCOPE = "ca:revoke"
MAX_BODY_OCTETS = 64 * 1024
MAX_MEMBER_CHARACTERS = 500  # beyond it no name fits in a certificate, whatever its profile
MAX_MEMBERS = 200

_ID = re.compile(r"[0-9a-f-]{36}")
OPENAPI = Path(__file__).with_name("openapi.json")

ClientOf = Callable[[], Principal | None]


class ApplicationDoors:
    """The handlers and their routes."""

    def __init__(
        self,
        *,
        applications: Applications,
        register: Register,
        hierarchy: Hierarchy,
        revocation: Revocation,
        client: ClientOf,
        base_url: str,
    ) -> None:
        self._applications = applications
        self._register = register
        self._hierarchy = hierarchy
        self._revocation = revocation
        self._client = client
        self._base_url = base_url

    def blueprint(self) -> Blueprint:
        """The routes below /ca."""
        doors = Blueprint("ca_applications", __name__, url_prefix="/ca")
        doors.add_url_rule("/applications", "submit", self.submit, methods=["POST"])
        doors.add_url_rule("/applications/<application_id>", "show", self.show, methods=["GET"])
        doors.add_url_rule("/certificates/<certificate_id>", "certificate", self.certificate, methods=["GET"])
        doors.add_url_rule("/certificates/<certificate_id>/revoke", "revoke", self.revoke, methods=["POST"])
        doors.add_url_rule("/certificates/<certificate_id>/suspend", "suspend", self.suspend, methods=["POST"])
        doors.add_url_rule("/certificates/<certificate_id>/resume", "resume", self.resume, methods=["POST"])
        doors.add_url_rule("/openapi.json", "openapi", _openapi, methods=["GET"])
        doors.after_request(_challenge)
        return doors

    # Applications ------------------------------------------------------------------------------------------------

    def submit(self) -> Response:
        """POST /ca/applications: apply for a certificate for the calling organisation."""
        client_id = self._caller(APPLY_SCOPE)
        key = _idempotency_key()
        asked = _asked(_body(required=True), client_id)
        check_not_personal(asked.profile)
        made = self._applications.submit(asked, applicant=f"client:{client_id}", idempotency_key=key)
        response = _private(jsonify(self._application(made)))
        response.status_code = 201
        response.headers["Location"] = f"{self._base_url}/ca/applications/{made.id}"
        return response

    def show(self, application_id: str) -> Response:
        """GET /ca/applications/{id}: what was decided, and the certificate."""
        client_id = self._caller(APPLY_SCOPE)
        if not _ID.fullmatch(application_id):  # a stranger's string is not asked of the database
            raise errors.ApplicationNotFound("there is no such application")
        found = self._applications.get(application_id, applicant=f"client:{client_id}")
        return _private(jsonify(self._application(found)))

    def _application(self, found: Application) -> dict[str, Any]:
        asked = found.asked
        view: dict[str, Any] = {
            "id": found.id,
            "state": found.state,
            "profile": asked.profile,
            "subject": dict(asked.subject),
            "alternative_names": [{"kind": kind, "value": value} for kind, value in asked.alternative_names],
            "evidence": asked.evidence,
            "submitted_at": _stamp(found.submitted_at),
            "changed_at": _stamp(found.changed_at),
        }
        if found.reason:
            view["reason"] = found.reason
        if found.certificate_id:
            certificate = self._register.get(found.certificate_id)
            address = f"{self._base_url}/ca/certificates/{certificate.id}"
            view["certificate"] = {"id": certificate.id, "serial": certificate.serial_text, "url": address}
        return view

    # Certificates ------------------------------------------------------------------------------------------------

    def certificate(self, certificate_id: str) -> Response:
        """GET /ca/certificates/{id}: its status, itself and its chain."""
        return _private(jsonify(self._certificate(self._own(certificate_id, APPLY_SCOPE, REVOKE_SCOPE))))

    def revoke(self, certificate_id: str) -> Response:
        """POST /ca/certificates/{id}/revoke: for good; again with the same reason changes nothing."""
        found = self._own(certificate_id, REVOKE_SCOPE)
        said = _body(required=False)
        _check_members(said, {"reason"})
        name = said.get("reason")
        if name is not None and (not isinstance(name, str) or name not in REASON_NAMES):
            raise ReasonNotAllowed(f"reason is one of {', '.join(sorted(REASON_NAMES))}, or left out")
        reason = REASON_NAMES[name] if name else None
        changed = self._revocation.revoke(found.id, actor=f"client:{found.holder}", reason=reason)
        return _private(jsonify(self._certificate(changed)))

    def suspend(self, certificate_id: str) -> Response:
        """POST /ca/certificates/{id}/suspend: until it is resumed or revoked."""
        found = self._own(certificate_id, REVOKE_SCOPE)
        _check_members(_body(required=False), set())
        return _private(jsonify(self._certificate(self._revocation.suspend(found.id, actor=f"client:{found.holder}"))))

    def resume(self, certificate_id: str) -> Response:
        """POST /ca/certificates/{id}/resume: lift a suspension."""
        found = self._own(certificate_id, REVOKE_SCOPE)
        _check_members(_body(required=False), set())
        return _private(jsonify(self._certificate(self._revocation.resume(found.id, actor=f"client:{found.holder}"))))

    def _own(self, certificate_id: str, *scopes: str) -> IssuedCertificate:
        """The certificate, if the calling organisation holds it; another's is as if it were not there."""
        client_id = self._caller(*scopes)
        found = self._register.get(certificate_id) if _ID.fullmatch(certificate_id) else None
        if found is None or found.holder != client_id:
            raise CertificateNotFound("the register knows no such certificate")
        return found

    def _certificate(self, found: IssuedCertificate) -> dict[str, Any]:
        status = found.status
        return {
            "id": found.id,
            "serial": found.serial_text,
            "issuer": found.issuer,
            "profile": found.profile,
            "subject": found.subject_text,
            "state": str(status.state),
            "since": _stamp(status.since),
            "reason": status.reason.wire_name if status.reason else None,
            "not_before": _stamp(found.not_before),
            "not_after": _stamp(found.not_after),
            "sha256": found.sha256,
            "certificate": _pem(found.der),
            "chain": [_pem(der) for der in self._hierarchy.served_chain(found.issuer)],
        }

    def _caller(self, *scopes: str) -> str:
        """The client id of the caller, whose token has one of the scopes."""
        principal = self._client()
        if principal is None or principal.kind != "client":
            raise errors.CallerUnknown("an access token of the client_credentials grant is needed")
        if not principal.scopes & set(scopes):
            raise errors.ScopeMissing(f"the scope {scopes[0]} is needed", scope=scopes[0])
        return principal.subject


def _asked(said: Mapping[str, Any], client_id: str) -> Asked:
    _check_members(said, {"profile", "csr", "subject", "alternative_names", "evidence"})
    subject = said.get("subject")
    if not isinstance(subject, dict) or len(subject) > MAX_MEMBERS:
        raise errors.RequestInvalid("subject is an object of labels and texts", field="subject")
    return Asked(
        profile=_text(said.get("profile"), "profile"),
        csr=_csr(said.get("csr")),
        subject={_text(label, "subject"): _text(value, "subject") for label, value in subject.items()},
        alternative_names=tuple(_names(said.get("alternative_names", []))),
        holder=client_id,
        evidence=_text(said.get("evidence"), "evidence"),
    )


def _names(given: object) -> Sequence[tuple[str, str]]:
    field = "alternative_names"
    if not isinstance(given, list) or len(given) > MAX_MEMBERS:
        raise errors.RequestInvalid("alternative_names is a list of objects with kind and value", field=field)
    names = []
    for item in given:
        if not isinstance(item, dict) or set(item) != {"kind", "value"}:
            raise errors.RequestInvalid("an alternative name has kind and value", field=field)
        names.append((_text(item["kind"], field), _text(item["value"], field)))
    return names


def _csr(given: object) -> bytes:
    """PKCS #10 in PEM, or DER in base64."""
    if not isinstance(given, str) or not given or len(given) > 2 * MAX_CSR_OCTETS:
        raise errors.RequestInvalid("csr is PKCS #10: PEM, or DER in base64", field="csr")
    if given.lstrip().startswith("-----"):
        return given.encode("utf-8", "replace")
    try:
        return base64.b64decode("".join(given.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise errors.RequestInvalid("csr is PKCS #10: PEM, or DER in base64", field="csr") from error


def _text(given: object, field: str) -> str:
    if not isinstance(given, str) or not 1 <= len(given) <= MAX_MEMBER_CHARACTERS or not given.isprintable():
        detail = f"{field} holds texts of 1 to {MAX_MEMBER_CHARACTERS} printable characters"
        raise errors.RequestInvalid(detail, field=field)
    return given


def _check_members(said: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(said) - known)
    if unknown:
        raise errors.RequestInvalid(f"unknown member {unknown[0][:60]!r}", field=unknown[0][:60])


def _body(*, required: bool) -> Mapping[str, Any]:
    data = request.get_data(cache=False)
    if not data and not required:
        return {}
    if request.mimetype != "application/json":
        raise errors.MediaTypeUnsupported("send application/json")
    if len(data) > MAX_BODY_OCTETS:
        raise errors.RequestMalformed(f"a body has at most {MAX_BODY_OCTETS} octets")
    try:
        said = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise errors.RequestMalformed("the body is not JSON") from error
    if not isinstance(said, dict):
        raise errors.RequestMalformed("the body is not a JSON object")
    return said


def _idempotency_key() -> str:
    key = request.headers.get("Idempotency-Key", "")
    if not 16 <= len(key) <= 64 or not key.isascii() or not key.isprintable():
        raise errors.IdempotencyKeyInvalid("Idempotency-Key must be 16-64 printable ASCII characters")
    return key


def _openapi() -> Response:
    """GET /ca/openapi.json: these doors in the words of OpenAPI 3.1."""
    response = Response(OPENAPI.read_bytes(), content_type="application/json")
    response.headers["Cache-Control"] = "public, max-age=3600"
    return response


def _pem(der: bytes) -> str:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _private(response: Response) -> Response:
    response.headers["Cache-Control"] = "private, no-store"
    return response


def _challenge(response: Response) -> Response:
    if response.status_code == 401:
        response.headers.setdefault("WWW-Authenticate", "Bearer")  # RFC 6750 3
    return response
