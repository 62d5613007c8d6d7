"""Responder certificates in use: checked before their first signature, asked for again at times."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from core.clock import Clock
from core.logs import get_logger
from ocsp import events
from ocsp.errors import TryLater
from ocsp.issuers import KnownIssuer
from ocsp.ports import PrivateKey, Responders, SourceUnavailable
from ocsp.response import responder_key_hash, sign

log = get_logger("ocsp.credentials")

_PROBE = b"a responder signs this once before it signs an answer"


@dataclass(frozen=True)
class Responder:
    """A delegated responder that passed its checks."""

    encoded: bytes
    key_hash: bytes
    key: PrivateKey
    not_before: datetime
    not_after: datetime


class ResponderUnfit(Exception):
    """The certificate or key must not sign answers for this issuer."""


class CredentialBook:
    """The responder of each issuer, read anew every ``refresh`` so that a renewal needs no restart."""

    def __init__(self, responders: Responders, clock: Clock, refresh: timedelta) -> None:
        self._responders = responders
        self._clock = clock
        self._refresh = refresh
        self._lock = threading.Lock()
        self._used: dict[str, tuple[datetime, Responder]] = {}

    def responder(self, issuer: KnownIssuer) -> Responder:
        """The responder for ``issuer``, valid now. Raises TryLater when there is none to use."""
        now = self._clock()
        read_at, responder = self._used.get(issuer.slug, (None, None))
        if read_at is None or responder is None or abs(now - read_at) >= self._refresh:
            with self._lock:
                responder = self._read(issuer, responder, now)
        if not responder.not_before <= now <= responder.not_after:
            raise TryLater("the responder's certificate is not valid at this time")
        return responder

    def _read(self, issuer: KnownIssuer, before: Responder | None, now: datetime) -> Responder:
        try:
            credential = self._responders.current(issuer.slug)
        except SourceUnavailable as error:
            if before is None:
                raise TryLater("the responder's key cannot be reached") from error
            return before
        if credential is None:
            raise TryLater("this issuer has no responder")
        if before is None or before.encoded != credential.certificate:
            before = self._checked(issuer, credential.certificate, credential.key)
        self._used[issuer.slug] = (now, before)
        return before

    def _checked(self, issuer: KnownIssuer, encoded: bytes, key: PrivateKey) -> Responder:
        try:
            responder = check_responder(issuer, encoded, key)
        except ResponderUnfit as error:
            log.error(events.RESPONDER_REFUSED, issuer=issuer.slug, reason=str(error))
            raise TryLater("the responder cannot be used") from error
        log.info(events.RESPONDER_LOADED, issuer=issuer.slug, not_after=responder.not_after.isoformat())
        return responder


def check_responder(issuer: KnownIssuer, encoded: bytes, key: PrivateKey) -> Responder:
    """The responder, if clients will believe it. Raises ResponderUnfit.

    1. issued directly by the issuer it answers for (RFC 6960 4.2.2.2);
    2. OCSPSigning in its extended key usage and nothing else, digitalSignature in its key usage;
    3. id-pkix-ocsp-nocheck (RFC 6960 4.2.2.2.1), since nobody publishes its status;
    4. the key is the certificate's, and what it signs verifies.
    """
    certificate = x509.load_der_x509_certificate(encoded)
    try:
        certificate.verify_directly_issued_by(issuer.certificate)  # 1
    except (InvalidSignature, ValueError, TypeError) as error:
        raise ResponderUnfit("not issued by the authority it would answer for") from error
    _check_extensions(certificate)  # 2, 3
    _check_key(certificate, key)  # 4
    return Responder(
        encoded=encoded,
        key_hash=responder_key_hash(certificate),
        key=key,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def _check_extensions(certificate: x509.Certificate) -> None:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        key_usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        certificate.extensions.get_extension_for_class(x509.OCSPNoCheck)
    except x509.ExtensionNotFound as error:
        raise ResponderUnfit(f"the extension {error.oid.dotted_string} is missing") from error
    if list(usages) != [ExtendedKeyUsageOID.OCSP_SIGNING] or not key_usage.digital_signature:
        raise ResponderUnfit("its usages are not digitalSignature and OCSPSigning alone")


def _check_key(certificate: x509.Certificate, key: PrivateKey) -> None:
    public_key = certificate.public_key()
    if key.public_key() != public_key:
        raise ResponderUnfit("the key is not the certificate's")
    try:
        _, signature = sign(key, _PROBE)
    except Exception as error:  # a token's driver raises what it likes
        raise ResponderUnfit("the key does not sign") from error
    try:
        if isinstance(public_key, rsa.RSAPublicKey):
            public_key.verify(signature, _PROBE, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(public_key, ec.EllipticCurvePublicKey):
            digest = hashes.SHA384() if public_key.curve.name == "secp384r1" else hashes.SHA256()
            public_key.verify(signature, _PROBE, ec.ECDSA(digest))
    except InvalidSignature as error:
        raise ResponderUnfit("what the key signs does not verify") from error
