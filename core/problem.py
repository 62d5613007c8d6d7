"""Errors of the partner APIs, in the form of RFC 9457."""

from __future__ import annotations

import json

from flask import Response

from core.errors import CodedError


def problem_response(error: CodedError, *, request_id: str) -> Response:
    """``application/problem+json`` with the stable ``code`` and the request's id beside the standard members."""
    document = {
        # Facts first: an extension never takes the place of a standard member (RFC 9457 3.2).
        **error.facts,
        "type": "about:blank",
        "title": error.title or error.code.replace("_", " ").lower(),
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id,
    }
    # Escaped to ASCII, because a fact may repeat what a caller sent and half a surrogate pair has no UTF-8.
    response = Response(json.dumps(document, default=str), error.status, content_type="application/problem+json")
    response.headers["Cache-Control"] = "no-store"
    if error.status == 503:
        response.headers["Retry-After"] = "5"
    return response
