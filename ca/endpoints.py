"""CRLs and issuers' certificates over plain HTTP (RFC 2585, RFC 9110): bare WSGI, answers are DER or nothing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from cryptography import x509
from sqlalchemy.exc import SQLAlchemyError

from ca.errors import AuthorityNotFound, CrlNotFound
from ca.parts import Parts
from core.clock import Clock
from core.logs import get_logger
from core.wsgi import Environ, StartResponse, WSGIApplication, respond

log = get_logger("ca.endpoints")

# How long a cache may keep a CRL: a revocation is visible in every channel within the hour.
MAX_CRL_AGE_SECONDS = 600
MAX_CERTIFICATE_AGE_SECONDS = 86_400

_CRL = re.compile(r"/crl/([a-z0-9-]{1,64})/([a-z0-9]{1,16})\.crl")
_AIA = re.compile(r"/aia/([a-z0-9-]{1,64})\.cer")


@dataclass(frozen=True)
class _Found:
    body: bytes = field(repr=False)
    content_type: str
    modified: datetime
    max_age: int

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.body).hexdigest()}"'


def wsgi(parts: Parts) -> WSGIApplication:
    """The callable that answers ``/crl/<issuer>/<shard>.crl`` and ``/aia/<issuer>.cer``."""

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return respond(start_response, 405, [("Allow", "GET, HEAD"), ("Cache-Control", "no-store")])
        try:
            found = _find(parts, environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""))
        except SQLAlchemyError:
            log.exception("register_unavailable")
            return respond(start_response, 503, [("Retry-After", "10"), ("Cache-Control", "no-store")])
        if found is None:
            return respond(start_response, 404, [("Cache-Control", "max-age=60")])
        return _answer(environ, start_response, found)

    return application


def _answer(environ: Environ, start_response: StartResponse, found: _Found) -> Iterable[bytes]:
    headers = [
        ("ETag", found.etag),
        ("Last-Modified", format_datetime(found.modified, usegmt=True)),
        ("Cache-Control", f"public, max-age={found.max_age}, no-transform"),
    ]
    if _is_unchanged(environ, found):
        return respond(start_response, 304, headers)
    body = respond(
        start_response,
        200,
        [("Content-Type", found.content_type), ("X-Content-Type-Options", "nosniff"), *headers],
        found.body,
    )
    return [] if environ["REQUEST_METHOD"] == "HEAD" else body


def _is_unchanged(environ: Environ, found: _Found) -> bool:
    """RFC 9110 13.2.2: If-None-Match decides; If-Modified-Since only without it."""
    tags = environ.get("HTTP_IF_NONE_MATCH")
    if tags is not None:
        return tags.strip() == "*" or found.etag in [tag.strip().removeprefix("W/") for tag in tags.split(",")]
    try:
        since = parsedate_to_datetime(environ.get("HTTP_IF_MODIFIED_SINCE", ""))
    except ValueError:
        return False
    return since.tzinfo is not None and found.modified.replace(microsecond=0) <= since


def _find(parts: Parts, path: str) -> _Found | None:
    try:
        if match := _CRL.fullmatch(path):
            return _crl(parts, match[1], match[2])
        if match := _AIA.fullmatch(path):
            return _certificate(parts, match[1])
    except (CrlNotFound, AuthorityNotFound):
        return None
    return None


def _crl(parts: Parts, issuer: str, shard: str) -> _Found:
    crl = parts.crls.current(issuer, shard)
    left = int((crl.next_update - _now(parts.clock)).total_seconds())
    return _Found(crl.der, "application/pkix-crl", crl.this_update, max(0, min(MAX_CRL_AGE_SECONDS, left)))


def _certificate(parts: Parts, slug: str) -> _Found:
    der = parts.hierarchy.certificate_at(slug)
    modified = x509.load_der_x509_certificate(der).not_valid_before_utc
    return _Found(der, "application/pkix-cert", modified, MAX_CERTIFICATE_AGE_SECONDS)


def _now(clock: Clock) -> datetime:
    return clock().astimezone(UTC)
