"""Problem documents of ACME (RFC 8555 6.7)."""

from __future__ import annotations

import json

from flask import Response

from ca.acme.errors import (
    AcmeError,
    Malformed,
    NoSuchResource,
    ServerInternal,
    TemporarilyUnavailable,
    TooLarge,
    WrongMethod,
)
from core.errors import CodedError


def problem(error: AcmeError) -> Response:
    """The answer that tells of ``error``."""
    document = json.dumps(error.document(), default=str)
    response = Response(document, error.status, content_type="application/problem+json")
    response.headers.update(error.headers)
    return response


def in_acmes_words(error: CodedError) -> AcmeError:
    """Any failure as one of ACME's; what is not meant for callers loses its words."""
    if isinstance(error, AcmeError):
        return error
    if error.status == 503:
        return TemporarilyUnavailable(error.detail, headers={"Retry-After": "10"})
    if error.status == 404:
        return NoSuchResource(error.detail)
    if error.status == 405:
        return WrongMethod("resources are read by POST-as-GET")
    if error.status == 413:
        return TooLarge("the request is too large")
    if error.status < 500:
        return Malformed(error.detail)
    return ServerInternal("something went wrong on our side")
