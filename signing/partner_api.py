"""What organisations call: sign requests and validations under /api/v1."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from flask import Blueprint, Response, g, jsonify, request
from werkzeug.exceptions import RequestEntityTooLarge

from core.clock import Clock
from core.principal import Principal
from signing.deliveries import Deliveries
from signing.document_errors import EmptyBody, TooLarge
from signing.errors import CallerUnknown, MediaTypeUnsupported, RequestInvalid, RequestMalformed, ScopeMissing
from signing.forms import allow_form
from signing.pdf import Pdf
from signing.ports import RelyingParties, RelyingPartyFacts
from signing.recovery import Recovery
from signing.request_objects import RequestJwts, SignedRequest, looks_like_request_jwt, read_fields
from signing.sign_requests import FINAL, PENDING, SignRequest, SignRequests

SIGN_SCOPE = "sign.request"
VALIDATE_SCOPE = "sign.validate"
PDF_TYPES = frozenset({"application/pdf", "application/octet-stream"})
MULTIPART = "multipart/form-data"
MAX_REQUEST_JSON = 32 * 1024
LONGEST_WAIT = 25.0  # seconds
WAIT_STEP = 0.25
# Long polls hold a thread of the server each; beyond this many a poll is answered at once.
MAX_WAITING = 1

ClientOf = Callable[[], Principal | None]


class PartnerApi:
    """The handlers and their routes."""

    def __init__(
        self,
        *,
        sign_requests: SignRequests,
        recovery: Recovery,
        deliveries: Deliveries,
        relying_parties: RelyingParties,
        request_jwts: RequestJwts,
        pdf: Pdf,
        client: ClientOf,
        base_url: str,
        document_limit: int,
        policy: str,
        clock: Clock,
    ) -> None:
        self._requests = sign_requests
        self._recovery = recovery
        self._deliveries = deliveries
        self._relying_parties = relying_parties
        self._jwts = request_jwts
        self._pdf = pdf
        self._client = client
        self._base_url = base_url
        self._limit = document_limit
        self._policy = policy
        self._clock = clock
        self._waiting = threading.BoundedSemaphore(MAX_WAITING)

    def blueprint(self) -> Blueprint:
        """The routes below /api/v1."""
        api = Blueprint("api", __name__, url_prefix="/api/v1")
        api.add_url_rule("/sign-requests", "create", self.create, methods=["POST"])
        api.add_url_rule("/sign-requests/<request_id>", "show", self.show, methods=["GET"])
        api.add_url_rule("/sign-requests/<request_id>", "cancel", self.cancel, methods=["DELETE"])
        api.add_url_rule("/sign-requests/<request_id>/document", "document", self.document, methods=["GET"])
        api.add_url_rule("/validations", "validate", self.validate, methods=["POST"])
        api.after_request(_challenge)
        return api

    # Sign requests -----------------------------------------------------------------------------------------------

    def create(self) -> Response:
        """POST /sign-requests: a raw PDF with a request JWT, or multipart with an access token."""
        if request.mimetype in PDF_TYPES:
            document = self._body()
            signed = self._signed_request(document)
            client, said = signed.relying_party, signed.fields
            _demand_scope(client.scopes, SIGN_SCOPE)
        elif request.mimetype == MULTIPART:
            client = self._caller(SIGN_SCOPE)
            document = self._part("document")
            said = self._json_part("request")
        else:
            raise MediaTypeUnsupported(f"send application/pdf, application/octet-stream or {MULTIPART}")
        created = self._requests.create(client, read_fields(said), document, request.headers.get("Idempotency-Key", ""))
        response = jsonify(self._view(created.request))
        response.status_code = 201
        response.headers["Location"] = f"{self._base_url}/api/v1/sign-requests/{created.request.id}"
        return _private(response)

    def show(self, request_id: str) -> Response:
        """GET /sign-requests/{id}: where it stands; `?wait=` holds the answer until that changes."""
        client = self._caller(SIGN_SCOPE)
        found = self._waited(client.client_id, request_id)
        etag = _etag(found)
        if request.if_none_match.contains(etag):
            return _private(Response(status=304), etag)
        return _private(jsonify(self._view(found)), etag)

    def document(self, request_id: str) -> Response:
        """GET /sign-requests/{id}/document: the signed file."""
        client = self._caller(SIGN_SCOPE)
        found = self._current(client.client_id, request_id)
        data = self._requests.signed_document(found)
        if request.method == "GET":  # HEAD asks whether it is there
            self._requests.collect(found)
        response = Response(data, content_type="application/pdf")
        response.headers["Content-Disposition"] = f'attachment; filename="signed-{found.id}.pdf"'
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        response.headers["Repr-Digest"] = f"sha-256=:{digest}:"  # RFC 9530 3
        return _private(response)

    def cancel(self, request_id: str) -> Response:
        """DELETE /sign-requests/{id}: withdraw it, while nobody has approved it."""
        client = self._caller(SIGN_SCOPE)
        self._current(client.client_id, request_id)
        cancelled = self._requests.cancel(client.client_id, request_id)
        if cancelled.row.webhook:
            self._deliveries.run_soon()
        return _private(jsonify(self._view(cancelled)))

    def _current(self, client_id: str, request_id: str) -> SignRequest:
        return self._recovery.settle_request(self._requests.of_client(client_id, request_id))

    def _waited(self, client_id: str, request_id: str) -> SignRequest:
        found = self._current(client_id, request_id)
        wait = _wait_seconds(request.args.get("wait"))
        if not wait or found.state in FINAL or not self._waiting.acquire(blocking=False):
            return found
        try:
            sequence, until = found.row.sequence, time.monotonic() + wait
            while found.row.sequence == sequence and time.monotonic() < until:
                time.sleep(WAIT_STEP)
                found = self._current(client_id, request_id)
            return found
        finally:
            self._waiting.release()

    def _view(self, found: SignRequest) -> dict[str, Any]:
        row = found.row
        signer: dict[str, Any] = {"index": found.signer.position, "state": row.state}
        if found.state in PENDING:
            signer["signing_url"] = self._requests.signing_url(found)
        if found.signer.code:
            signer["code"] = found.signer.code
        view = {
            "id": row.id,
            "state": row.state,
            "signers": [signer],
            "document": {
                "sha256": row.document_sha256,
                "size": row.document_size,
                "pages": row.document_pages,
                "existing_signatures": row.existing_signatures,
            },
            "title": row.title,
            "level": row.reached_level or row.level,
            "seq": row.sequence,
            "created_at": _moment(row.created_at),
            "expires_at": _moment(row.expires_at),
            "verification_code": row.verification_code,
        }
        extra = {
            "reference": row.reference,
            "requested_level": row.level if row.reached_level else None,
            "signed_sha256": row.signed_sha256,
            "signed_at": found.signer.signed_at and _moment(found.signer.signed_at),
            "code": row.code,
            "rejection_reason": row.rejection_reason,
        }
        return view | {name: value for name, value in extra.items() if value is not None}

    # Validations -------------------------------------------------------------------------------------------------

    def validate(self) -> Response:
        """POST /validations: a report on a PDF, whatever the verdict; nothing is kept."""
        if request.mimetype in PDF_TYPES:
            document = self._body()
            self._caller(VALIDATE_SCOPE, document)
            options: Mapping[str, Any] = request.args
        elif request.mimetype == MULTIPART:
            self._caller(VALIDATE_SCOPE)
            document = self._part("document")
            options = self._json_part("options") if self._has_part("options") else {}
        else:
            raise MediaTypeUnsupported(f"send application/pdf, application/octet-stream or {MULTIPART}")
        policy, language = _validation_options(options)
        report = self._pdf.validate(
            document,
            policy=policy or self._policy,
            at=self._clock(),
            language=language or g.get("language", "mn"),
            limit=self._limit,
        )
        return _private(jsonify(report.simple()))

    # Callers -----------------------------------------------------------------------------------------------------

    def _caller(self, scope: str, body: bytes = b"") -> RelyingPartyFacts:
        """The calling organisation, by access token or by a request JWT over ``body``, with the scope it needs."""
        if looks_like_request_jwt(_bearer()):
            relying_party = self._signed_request(body).relying_party
            _demand_scope(relying_party.scopes, scope)
            return relying_party
        principal = self._client()
        if principal is None:
            raise CallerUnknown("an access token is needed")
        _demand_scope(principal.scopes, scope)
        client_id = principal.client_id or (principal.subject if principal.kind == "client" else "")
        known = self._relying_parties.relying_party(client_id)
        if known is None:
            raise CallerUnknown("the token's client is not enabled")
        return known

    def _signed_request(self, body: bytes) -> SignedRequest:
        token = _bearer()
        if not token:
            raise CallerUnknown("a request JWT is needed in Authorization: Bearer")
        return self._jwts.verify(token, body, f"{self._base_url}{request.path}")

    # Bodies ------------------------------------------------------------------------------------------------------

    def _body(self) -> bytes:
        if (request.content_length or 0) > self._limit:
            raise TooLarge(f"at most {self._limit} octets are taken", limit=self._limit)
        request.max_content_length = self._limit
        try:
            data = request.get_data(cache=False)
        except RequestEntityTooLarge as error:
            raise TooLarge(f"at most {self._limit} octets are taken", limit=self._limit) from error
        if not data:
            raise EmptyBody("no document was sent")
        return data

    def _part(self, name: str) -> bytes:
        allow_form(self._limit)
        try:
            part = request.files.get(name)
        except RequestEntityTooLarge as error:
            raise TooLarge(f"at most {self._limit} octets are taken", limit=self._limit) from error
        if part is None:
            raise RequestMalformed(f"the part {name!r} is missing")
        data: bytes = part.read(self._limit + 1)
        if not data:
            raise EmptyBody("no document was sent")
        if len(data) > self._limit:
            raise TooLarge(f"at most {self._limit} octets are taken", limit=self._limit)
        return data

    def _json_part(self, name: str) -> Mapping[str, Any]:
        allow_form(self._limit)
        part = request.files.get(name)
        text = part.read(MAX_REQUEST_JSON + 1) if part else request.form.get(name, "").encode()
        if not text:
            raise RequestMalformed(f"the part {name!r} is missing")
        if len(text) > MAX_REQUEST_JSON:
            raise RequestMalformed(f"the part {name!r} is longer than {MAX_REQUEST_JSON} octets")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RequestMalformed(f"the part {name!r} is not JSON") from error
        if not isinstance(value, dict):
            raise RequestMalformed(f"the part {name!r} is not a JSON object")
        return value

    def _has_part(self, name: str) -> bool:
        return name in request.files or name in request.form


def _bearer() -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _demand_scope(scopes: frozenset[str], scope: str) -> None:
    if scope not in scopes:
        raise ScopeMissing(f"the scope {scope} is needed", scope=scope)


def _validation_options(options: Mapping[str, Any]) -> tuple[str | None, str | None]:
    unknown = set(options) - {"policy", "lang"}
    if unknown:
        raise RequestInvalid(f"unknown option {sorted(unknown)[0][:60]!r}", field=sorted(unknown)[0][:60])
    policy, language = options.get("policy"), options.get("lang")
    if policy is not None and not (isinstance(policy, str) and 1 <= len(policy) <= 60):
        raise RequestInvalid("policy must be the id of a validation policy", field="policy")
    if language not in (None, "mn", "en"):
        raise RequestInvalid("lang must be mn or en", field="lang")
    return policy, language


def _wait_seconds(text: str | None) -> float:
    if not text:
        return 0.0
    if not text.isascii() or not text.isdigit() or len(text) > 3:
        raise RequestInvalid("wait must be a whole number of seconds", field="wait")
    return min(float(text), LONGEST_WAIT)


def _etag(found: SignRequest) -> str:
    return f"{found.id}.{found.row.sequence}"


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _private(response: Response, etag: str | None = None) -> Response:
    response.headers["Cache-Control"] = "private, no-store" if etag is None else "private, no-cache"
    if etag is not None:
        response.set_etag(etag)
    return response


def _challenge(response: Response) -> Response:
    if response.status_code == 401:
        response.headers.setdefault("WWW-Authenticate", "Bearer")  # RFC 6750 3
    return response
