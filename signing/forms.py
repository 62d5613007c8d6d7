"""Forms that carry a document."""

from __future__ import annotations

from flask import request

from signing.document_errors import TooLarge

FORM_OVERHEAD = 64 * 1024  # part headers and the small fields beside a document


def allow_form(limit: int) -> None:
    """Let the current request's form hold a document of ``limit`` octets; raises TooLarge before reading a larger one.

    A stated length is looked at first: a form that turns out too large half-way leaves its temporary file to the
    garbage collector.
    """
    request.max_content_length = limit + FORM_OVERHEAD
    if (request.content_length or 0) > request.max_content_length:
        raise TooLarge(f"at most {limit} octets are taken", limit=limit)
