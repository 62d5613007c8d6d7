"""OCSP over HTTP (RFC 6960 appendix A, RFC 9919): GET and POST, answers in DER whatever happens."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from core.logs import get_logger
from core.wsgi import BodyTooLarge, BodyUnreadable, Environ, StartResponse, WSGIApplication, read_body, respond
from ocsp import events
from ocsp.cache import SignedAnswer
from ocsp.errors import InternalError, MalformedRequest, OcspError
from ocsp.parts import Parts
from ocsp.request import MAX_REQUEST_OCTETS, OcspRequest, parse_request
from ocsp.request_path import readings
from ocsp.response import error_response

log = get_logger("ocsp.endpoints")

REQUEST_TYPE = "application/ocsp-request"
RESPONSE_TYPE = "application/ocsp-response"
MOUNT = "/ocsp"

Header = tuple[str, str]


class MethodNotAllowed(MalformedRequest):
    """Questions come by GET or POST."""

    status = 405


class UnsupportedMediaType(MalformedRequest):
    """A POST carries application/ocsp-request."""

    status = 415


class RequestTooLarge(MalformedRequest):
    """More octets than a request may have."""

    status = 413


def wsgi(parts: Parts) -> WSGIApplication:
    """The responder as a WSGI callable for ``/ocsp`` and everything below it."""

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        try:
            answer = parts.responder.answer(_read(environ, parts))
            return _send(environ, start_response, answer, parts)
        except OcspError as error:
            return _send_error(start_response, error)
        except Exception:
            log.exception(events.INTERNAL_FAULT)
            return _send_error(start_response, InternalError())

    return application


def _read(environ: Environ, parts: Parts) -> OcspRequest:
    method = environ["REQUEST_METHOD"]
    if method == "POST":
        return parse_request(_posted(environ))
    if method not in ("GET", "HEAD"):
        raise MethodNotAllowed("a question comes by GET or POST")
    return _from_path(environ, parts)


def _posted(environ: Environ) -> bytes:
    content_type = (environ.get("CONTENT_TYPE") or "").partition(";")[0].strip().lower()
    if content_type != REQUEST_TYPE:
        raise UnsupportedMediaType(f"the body must be {REQUEST_TYPE}")
    try:
        return read_body(environ, MAX_REQUEST_OCTETS)
    except BodyTooLarge as error:
        raise RequestTooLarge(error.detail) from error
    except BodyUnreadable as error:
        raise MalformedRequest(error.detail) from error


def _from_path(environ: Environ, parts: Parts) -> OcspRequest:
    """The request in the path; where slashes were lost, the only reading that names an issuer of ours."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    found = [bytes(reading) for reading in readings(path.removeprefix(MOUNT))]
    if len(found) == 1:
        return parse_request(found[0])
    meant = [request for request in map(_parsed, found) if request and parts.responder.recognises(request)]
    if len(meant) != 1:  # a guess between two serials would be an answer to a question nobody asked
        raise MalformedRequest("the path lost slashes; ask by POST")
    return meant[0]


def _parsed(encoded: bytes) -> OcspRequest | None:
    try:
        return parse_request(encoded)
    except MalformedRequest:
        return None


def _send(environ: Environ, start_response: StartResponse, answer: SignedAnswer, parts: Parts) -> Iterable[bytes]:
    now = parts.clock()
    headers = [*caching_headers(answer, now, parts.settings.max_age_seconds), ("ETag", answer.etag)]
    if _unchanged(environ, answer):
        return respond(start_response, 304, headers)
    sent = respond(start_response, 200, [("Content-Type", RESPONSE_TYPE), *headers], answer.body)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else sent


def caching_headers(answer: SignedAnswer, now: datetime, max_age_seconds: int) -> list[Header]:
    """How long others may repeat this answer (RFC 9919 6.2); a nonced one not at all."""
    if answer.nonced:
        return [("Cache-Control", "no-store")]
    max_age = max(0, min(int((answer.next_update - now).total_seconds()), max_age_seconds))
    return [
        ("Cache-Control", f"max-age={max_age}, public, no-transform, must-revalidate"),
        ("Last-Modified", answer.last_modified),
        ("Expires", answer.expires),
    ]


def _unchanged(environ: Environ, answer: SignedAnswer) -> bool:
    """Whether the caller holds this answer or one as good (RFC 9110 13.1.2, 13.1.3).

    HTTP dates have whole seconds: a copy from the second in which a status changed may say either. So a date alone
    is believed only for a certificate that was good throughout that second.
    """
    if answer.nonced or environ["REQUEST_METHOD"] == "POST":
        return False
    if tags := environ.get("HTTP_IF_NONE_MATCH"):
        return tags.strip() == "*" or answer.etag in [tag.strip().removeprefix("W/") for tag in tags.split(",")]
    since = _parse_date(environ.get("HTTP_IF_MODIFIED_SINCE"))
    steady = answer.steady_since is not None and answer.steady_since < answer.produced_at
    return since is not None and steady and since >= answer.produced_at


def _send_error(start_response: StartResponse, error: OcspError) -> Iterable[bytes]:
    headers = [("Content-Type", RESPONSE_TYPE), ("Cache-Control", "max-age=0, no-cache")]
    if error.status == 405:
        headers.append(("Allow", "GET, HEAD, POST"))
    return respond(start_response, error.status, headers, error_response(error.response_status))


def _parse_date(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
