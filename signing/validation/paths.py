"""Certification paths: building them from what is at hand, and RFC 5280 6.1 over each (EN 319 102-1 5.2.6)."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from signing.validation.revocation import issued, load_certificate

MAX_PATH_LENGTH = 8
MAX_PATHS = 8

Path = tuple[bytes, ...]  # DER: the certificate, its issuers, the anchor last


class PathRejected(Exception):
    """RFC 5280 6.1 does not accept the path."""


class WeakAlgorithm(PathRejected):
    """A certificate in the path is signed with an algorithm that is no longer relied on."""


def build(leaf: bytes, pool: tuple[bytes, ...], anchors: tuple[bytes, ...]) -> tuple[Path, ...]:
    """Paths from ``leaf`` to an anchor, shortest first. Names and signatures chain; nothing else is checked yet."""
    found = sorted(_extend((leaf,), _by_subject(pool), _by_subject(anchors), frozenset(anchors)), key=len)
    return tuple(found[:MAX_PATHS])


def check(path: Path, at: datetime) -> None:
    """Basic path validation without revocation, all certificates being within their validity at ``at``.

    Raises PathRejected. The algorithm itself is pyhanko-certvalidator's.
    """
    _checked(path, at.replace(microsecond=0))


@functools.lru_cache(maxsize=256)
def _checked(path: Path, at: datetime) -> None:
    from asn1crypto import x509 as asn1_x509
    from pyhanko_certvalidator import ValidationContext
    from pyhanko_certvalidator.authority import CertTrustAnchor
    from pyhanko_certvalidator.errors import (
        DisallowedAlgorithmError,
        InvalidCertificateError,
        PathError,
        ValidationError,
    )
    from pyhanko_certvalidator.path import ValidationPath
    from pyhanko_certvalidator.validate import async_validate_path

    try:
        anchor, *below = [asn1_x509.Certificate.load(entry) for entry in reversed(path)]
        if not below:
            return
        context = ValidationContext(
            trust_roots=[anchor], moment=at, allow_fetching=False, revocation_mode="soft-fail", best_signature_time=at
        )
        chain = ValidationPath(CertTrustAnchor(anchor), below[:-1], below[-1])
        asyncio.run(async_validate_path(context, chain))
    except DisallowedAlgorithmError as error:
        raise WeakAlgorithm(str(error)) from error
    except (ValidationError, InvalidCertificateError, PathError) as error:
        raise PathRejected(str(error)) from error
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, NotImplementedError) as error:
        raise PathRejected(f"a certificate in the path cannot be processed: {type(error).__name__}") from error


def _by_subject(certificates: tuple[bytes, ...]) -> dict[bytes, list[tuple[bytes, x509.Certificate]]]:
    table: dict[bytes, list[tuple[bytes, x509.Certificate]]] = {}
    for entry in dict.fromkeys(certificates):
        try:
            parsed = load_certificate(entry)
        except ValueError:
            continue
        table.setdefault(parsed.subject.public_bytes(), []).append((entry, parsed))
    return table


def _extend(
    path: Path,
    pool: dict[bytes, list[tuple[bytes, x509.Certificate]]],
    anchors: dict[bytes, list[tuple[bytes, x509.Certificate]]],
    anchor_set: frozenset[bytes],
) -> Iterator[Path]:
    if path[-1] in anchor_set:
        yield path
        return
    if len(path) >= MAX_PATH_LENGTH:
        return
    current = load_certificate(path[-1])
    issuer = current.issuer.public_bytes()
    for entry, parsed in anchors.get(issuer, []):
        if _same_key(current, parsed):
            yield (*path[:-1], entry) if len(path) > 1 else (entry,)
        elif issued(current, parsed):
            yield (*path, entry)
    for entry, parsed in pool.get(issuer, []):
        if entry not in path and entry not in anchor_set and issued(current, parsed):
            yield from _extend((*path, entry), pool, anchors, anchor_set)


def _same_key(one: x509.Certificate, other: x509.Certificate) -> bool:
    """Two certificates for the same authority: one key, one name."""
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return one.subject == other.subject and one.public_key().public_bytes(*form) == other.public_key().public_bytes(
        *form
    )
