"""``/trust-list.json`` and ``/trust-list.xml``: public, cacheable, made when the list changes and not when asked."""

from __future__ import annotations

from flask import Blueprint, Response, request

from ca.trust_list.document import as_xml, flattened
from ca.trust_list.service import TrustLists
from core.errors import CodedError

# A change of trust is seen everywhere within this time.
MAX_AGE_SECONDS = 300


def blueprint(trust_lists: TrustLists) -> Blueprint:
    """The two doors."""
    pages = Blueprint("trust_list", __name__)

    @pages.get("/trust-list.json")
    def signed() -> Response:
        # RFC 7515 9.2.2: a JWS in its JSON serialisation.
        return _cacheable(flattened(trust_lists.current().jws), "application/jose+json")

    @pages.get("/trust-list.xml")
    def readable() -> Response:
        return _cacheable(as_xml(trust_lists.current().listed), "application/xml")

    pages.register_error_handler(CodedError, _refusal)
    return pages


def _cacheable(body: bytes, content_type: str) -> Response:
    answer = Response(body, content_type=content_type)
    answer.headers["Cache-Control"] = f"public, max-age={MAX_AGE_SECONDS}"
    answer.add_etag()
    answer.make_conditional(request)
    return answer


def _refusal(error: CodedError) -> Response:
    answer = Response(f"{error.detail or error.code}\n", error.status, content_type="text/plain; charset=utf-8")
    answer.headers["X-Error-Code"] = error.code
    answer.headers["Cache-Control"] = "no-store"
    return answer
