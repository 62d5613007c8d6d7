"""The authorities answered for, found by what a CertID says of them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509

from core.clock import Clock
from ocsp.errors import Unauthorized
from ocsp.ports import Issuer, StatusSource
from ocsp.request import HASH_NAMES, CertID
from ocsp.response import key_bits


@dataclass(frozen=True)
class KnownIssuer:
    """An issuer with its certificate opened."""

    slug: str
    certificate: x509.Certificate
    not_after: datetime
    archive_cutoff: datetime | None

    @property
    def purpose(self) -> str:
        """The slug without its generation: ``citizen-sign`` for ``citizen-sign-g1``."""
        return self.slug.rpartition("-g")[0] or self.slug


_Key = tuple[str, bytes, bytes]


class IssuerIndex:
    """Issuers by (hash algorithm, name hash, key hash): both hashes must be the issuer's (RFC 6960 4.1.1).

    Read anew from the source at most every ``refresh``, and only when a CertID names nobody known.
    """

    def __init__(self, source: StatusSource, clock: Clock, refresh: timedelta) -> None:
        self._source = source
        self._clock = clock
        self._refresh = refresh
        self._lock = threading.Lock()
        self._known: Mapping[_Key, KnownIssuer] = {}
        self._read_at: datetime | None = None

    def find(self, cert_id: CertID) -> KnownIssuer:
        """The issuer meant. Raises Unauthorized when it is not ours, SourceUnavailable when none was ever read."""
        if cert_id.hash_name is None:
            raise Unauthorized("the CertID's hash algorithm is not known here")
        key = (cert_id.hash_name, cert_id.issuer_name_hash, cert_id.issuer_key_hash)
        issuer = self._known.get(key) or self._reread().get(key)
        if issuer is None:
            raise Unauthorized("the issuer is not one of ours")
        return issuer

    def _reread(self) -> Mapping[_Key, KnownIssuer]:
        with self._lock:
            now = self._clock()
            if self._read_at is None or abs(now - self._read_at) >= self._refresh:
                self._known = {key: known for issuer in self._source.issuers() for key, known in _entries(issuer)}
                self._read_at = now
            return self._known


def _entries(issuer: Issuer) -> list[tuple[_Key, KnownIssuer]]:
    certificate = x509.load_der_x509_certificate(issuer.certificate)
    known = KnownIssuer(issuer.slug, certificate, certificate.not_valid_after_utc, issuer.archive_cutoff)
    name, key = certificate.subject.public_bytes(), key_bits(certificate)
    return [((hash_name, _hash(hash_name, name), _hash(hash_name, key)), known) for hash_name in HASH_NAMES]


def _hash(hash_name: str, data: bytes) -> bytes:
    return hashlib.new(hash_name, data, usedforsecurity=False).digest()
