"""The few WSGI gestures (PEP 3333) that callables outside the web framework need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any

from core.errors import CodedError

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WSGIApplication = Callable[[Environ, StartResponse], Iterable[bytes]]
Headers = Sequence[tuple[str, str]]


class BodyTooLarge(CodedError):
    """The request's body is larger than this address takes."""

    code = "body_too_large"
    status = 413


class BodyUnreadable(CodedError):
    """The request's length is not a number, or its body ended early."""

    code = "body_unreadable"
    status = 400


def read_body(environ: Environ, limit: int) -> bytes:
    """The request's body, at most ``limit`` octets. Raises BodyTooLarge, BodyUnreadable.

    A body without a length (chunked, or in HTTP/2 frames) is read up to the limit and refused beyond it.
    """
    stated = environ.get("CONTENT_LENGTH") or ""
    if stated:
        length = _length(stated, limit)
        body = _read(environ["wsgi.input"], length)
        if len(body) != length:
            raise BodyUnreadable("the body ended before its stated length")
        return body
    # Without a length only a server that marks the stream's end may be read from; others would wait for ever.
    ends = environ.get("wsgi.input_terminated") or environ.get("HTTP_TRANSFER_ENCODING")
    body = _read(environ["wsgi.input"], limit + 1) if ends else b""
    if len(body) > limit:
        raise BodyTooLarge(f"at most {limit} octets are taken here")
    return body


def _length(stated: str, limit: int) -> int:
    if not stated.isascii() or not stated.isdigit():
        raise BodyUnreadable("Content-Length must be a whole number")
    # Compared by its digits first: converting a very long numeral is work, and Python refuses it.
    if len(stated.lstrip("0")) > len(str(limit)) or int(stated.lstrip("0") or "0") > limit:
        raise BodyTooLarge(f"at most {limit} octets are taken here")
    return int(stated.lstrip("0") or "0")


def _read(stream: Any, octets: int) -> bytes:
    # A stream may give less than was asked for; only an empty piece is its end.
    pieces: list[bytes] = []
    while octets > 0 and (piece := stream.read(octets)):
        pieces.append(piece)
        octets -= len(piece)
    return b"".join(pieces)


def respond(start_response: StartResponse, status: int, headers: Headers, body: bytes = b"") -> list[bytes]:
    """Start the answer with its status line and length, and give its body."""
    start_response(
        f"{status} {HTTPStatus(status).phrase}",
        # RFC 9110 8.6: none with 204; with 304 it would be the length of what is not sent.
        [*headers, ("Content-Length", str(len(body)))] if status not in (204, 304) else list(headers),
    )
    return [body] if body else []
