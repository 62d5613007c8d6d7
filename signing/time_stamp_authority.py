"""The time-stamping authority (RFC 3161, RFC 5816, ETSI EN 319 421 and 422): ``/tsa``, and the same in process."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar, TypeAlias

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509 import ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID

from core.clock import Clock
from core.errors import CodedError
from core.logs import get_logger
from core.wsgi import Environ, StartResponse, WSGIApplication, read_body, respond
from signing.time_stamp_token import (
    BIT_STRING,
    HASH_BY_NAME,
    HASH_BY_OID,
    ID_CONTENT_TYPE,
    ID_CT_TST_INFO,
    ID_MESSAGE_DIGEST,
    ID_SIGNED_DATA,
    ID_SIGNING_CERTIFICATE_V2,
    OCTET_STRING,
    SEQUENCE,
    UTF8_STRING,
    HashAlgorithm,
    TimeStampReq,
    der,
    der_integer,
    der_oid,
    der_set,
    generalized_time,
)

log = get_logger("signing.time_stamp_authority")

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

# ETSI EN 319 421 5.2: the best-practices time-stamp policy (BTSP).
BEST_PRACTICES_POLICY = "0.4.0.2023.1.1"
MAX_REQUEST_OCTETS = 4096
REQUEST_TYPE = "application/timestamp-query"  # RFC 3161 3.4
RESPONSE_TYPE = "application/timestamp-reply"


class TimeStampRefused(CodedError):
    """A request that gets PKIStatus `rejection`; one class for each PKIFailureInfo bit (RFC 3161 2.4.2)."""

    fail_info: ClassVar[int]
    status = 400
    exit_code = 3


class BadAlg(TimeStampRefused):
    """The imprint's hash is not one that is stamped."""

    code = "badAlg"
    fail_info = 0


class BadRequest(TimeStampRefused):
    """The request is readable and not one to grant."""

    code = "badRequest"
    fail_info = 2


class BadDataFormat(TimeStampRefused):
    """The request is not readable."""

    code = "badDataFormat"
    fail_info = 5


class TimeNotAvailable(TimeStampRefused):
    """The clock cannot be trusted just now."""

    code = "timeNotAvailable"
    fail_info = 14
    status = 503
    exit_code = 6


class UnacceptedPolicy(TimeStampRefused):
    """The policy asked for is not the one stamped under."""

    code = "unacceptedPolicy"
    fail_info = 15


class UnacceptedExtension(TimeStampRefused):
    """No extension is known."""

    code = "unacceptedExtension"
    fail_info = 16


class SystemFailure(TimeStampRefused):
    """A fault on our side: key, certificate or token."""

    code = "systemFailure"
    fail_info = 25
    status = 503
    exit_code = 6


def elapsed_seconds() -> float:
    """Seconds that pass evenly, also while the machine sleeps, and that nobody can set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ClockGuard:
    """The time of day, as long as it goes as evenly as a clock that cannot be set.

    Wall clock and even clock are compared with the moment they were first seen together. When they part by more than
    ``tolerance`` seconds (somebody set the clock, or it jumped) time is not available until they agree again, or
    until the wall clock has gone evenly for ``settle`` seconds on its new course, which then counts. Both are logged
    as errors for an operator to look at. This guards one process against steps; that the time is right at all is the
    duty of the host and its time sources.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        elapsed: Callable[[], float] = elapsed_seconds,
        tolerance: float = 1.0,
        settle: float = 60.0,
    ) -> None:
        self._clock = clock
        self._elapsed = elapsed
        self._tolerance = tolerance
        self._settle = settle
        self._lock = threading.Lock()
        self._course: float | None = None  # wall minus even clock, in seconds, while all is well
        self._suspect: tuple[float, float] | None = None  # the new course, and since when (even clock)

    def now(self) -> datetime:
        """The present moment in UTC. Raises TimeNotAvailable."""
        with self._lock:
            even, wall = self._elapsed(), self._clock()
            course = wall.timestamp() - even
            if self._course is None:
                self._course = course
            if abs(course - self._course) > self._tolerance:
                self._consider(course, even)
            else:
                self._suspect = None
            return wall.astimezone(UTC)

    def _consider(self, course: float, even: float) -> None:
        if self._suspect is None or abs(course - self._suspect[0]) > self._tolerance:
            self._suspect = (course, even)
            log.error("clock_stepped", seconds=round(course - (self._course or 0), 3))
        if even - self._suspect[1] < self._settle:
            raise TimeNotAvailable("the clock was moved; time-stamps resume when it has proven steady")
        log.error("clock_step_settled", seconds=round(course - (self._course or 0), 3))
        self._course, self._suspect = course, None


@dataclass(frozen=True)
class TimeStampingUnit:
    """A key with its certificate (ETSI EN 319 421 3.1).

    ``chain`` are the certificates above the unit's own, in DER, its issuer first; they go into tokens that want them.
    """

    certificate: bytes
    chain: tuple[bytes, ...]
    key: PrivateKey


@dataclass(frozen=True)
class _PreparedUnit:
    """Everything of a token that stays the same for one unit, encoded."""

    certificate: bytes
    key: PrivateKey
    not_before: datetime
    not_after: datetime
    digest: HashAlgorithm
    signature_algorithm: bytes
    signer_identifier: bytes
    signing_certificate: bytes
    tsa: bytes
    certificates: bytes

    def sign(self, data: bytes) -> bytes:
        """The signature over ``data`` with the algorithm announced."""
        digest = hashes.SHA384() if self.digest.name == "sha384" else hashes.SHA256()
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(data, padding.PKCS1v15(), digest)
        return self.key.sign(data, ec.ECDSA(digest))


_SHA256, _SHA384 = HASH_BY_NAME["sha256"], HASH_BY_NAME["sha384"]
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")  # RFC 5758 3.2
_ECDSA_WITH_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
_SHA256_WITH_RSA = bytes.fromhex("300d06092a864886f70d01010b0500")  # RFC 4055 5

_VERSION_1 = der_integer(1)
_GRANTED = der(SEQUENCE, der_integer(0))
_TST_INFO, _SIGNED_DATA = der_oid(ID_CT_TST_INFO), der_oid(ID_SIGNED_DATA)
_CONTENT_TYPE = der(SEQUENCE, der_oid(ID_CONTENT_TYPE), der_set(_TST_INFO))
_MESSAGE_DIGEST, _SIGNING_CERTIFICATE = der_oid(ID_MESSAGE_DIGEST), der_oid(ID_SIGNING_CERTIFICATE_V2)


class TimeStampAuthority:
    """Issues time-stamp tokens under one policy.

    ``unit`` is asked on every token and must be cheap: it lets a new unit take over without restart. ``policy`` is a
    dotted object identifier. ``accuracy`` goes into every token; EN 319 421 7.7.1 allows no more than a second.
    Time comes from ``guard``, by default one over ``clock``.
    """

    def __init__(
        self,
        unit: Callable[[], TimeStampingUnit],
        *,
        clock: Clock,
        policy: str = BEST_PRACTICES_POLICY,
        accuracy: timedelta = timedelta(seconds=1),
        guard: ClockGuard | None = None,
    ) -> None:
        if not timedelta(milliseconds=1) <= accuracy <= timedelta(seconds=1):
            raise ValueError("accuracy must be between a millisecond and a second")
        self._unit = unit
        self._guard = guard or ClockGuard(clock)
        self._policy = ObjectIdentifier(policy)
        self._fixed_head = _VERSION_1 + der_oid(self._policy)
        self._accuracy = _encoded_accuracy(accuracy)
        self._prepared: _PreparedUnit | None = None

    def respond(self, request: bytes) -> bytes:
        """The TimeStampResp (DER) to a TimeStampReq; never raises."""
        try:
            return der(SEQUENCE, _GRANTED, self._answer(request))
        except TimeStampRefused as refusal:
            return refusal_response(refusal)
        except Exception:
            log.exception("time_stamp_failed")
            return refusal_response(SystemFailure("the authority failed"))

    def token(self, digest: bytes, algorithm: str = "sha256", *, nonce: int | None = None) -> bytes:
        """A TimeStampToken (DER) over ``digest``, with certificates. Raises TimeStampRefused."""
        found = HASH_BY_NAME.get(algorithm)
        if found is None:
            raise BadAlg(f"{algorithm} is not stamped")
        if len(digest) != found.length:
            raise BadDataFormat(f"a {algorithm} digest has {found.length} octets")
        imprint = der(SEQUENCE, found.identifier, der(OCTET_STRING, digest))
        return self._issue(imprint, nonce, with_certificates=True)

    def check(self) -> None:
        """Whether a token could be had now: the clock holds and the unit is fit. Raises TimeStampRefused."""
        self._current(self._guard.now())

    def _answer(self, encoded: bytes) -> bytes:
        request = _parsed(encoded)
        imprint = request.message_imprint
        if request.version != 1:
            raise BadRequest("only version 1 requests are known")
        if request.extensions is not None:
            raise UnacceptedExtension("no extension is known")
        algorithm = HASH_BY_OID.get(imprint.hash_algorithm.algorithm)
        if algorithm is None:
            raise BadAlg("SHA-256, SHA-384 and SHA-512 are stamped")
        if len(imprint.hashed_message) != algorithm.length:
            raise BadDataFormat(f"a {algorithm.name} digest has {algorithm.length} octets")
        if request.req_policy not in (None, self._policy):
            raise UnacceptedPolicy(f"the policy is {self._policy.dotted_string}")
        # The imprint goes back as it came, NULL parameters or none (RFC 3161 2.4.2: the same value).
        return self._issue(asn1.encode_der(imprint), request.nonce, with_certificates=bool(request.cert_req))

    def _issue(self, imprint: bytes, nonce: int | None, *, with_certificates: bool) -> bytes:
        now = self._guard.now()
        unit = self._current(now)
        info = der(
            SEQUENCE,
            self._fixed_head,
            imprint,
            der_integer(new_serial_number()),
            generalized_time(now),
            self._accuracy,
            # ordering is FALSE, its default, and so left out
            der_integer(nonce) if nonce is not None else b"",
            unit.tsa,
        )
        try:
            return _token(unit, info, with_certificates=with_certificates)
        except Exception as error:  # a token's driver raises what it likes
            log.exception("time_stamp_signing_failed")
            raise SystemFailure("the key cannot be used") from error

    def _current(self, now: datetime) -> _PreparedUnit:
        try:
            unit = self._unit()
        except CodedError as error:
            log.error("time_stamping_unit_unavailable", code=error.code)
            raise SystemFailure("no time-stamping unit is ready") from error
        prepared = self._prepared
        if prepared is None or prepared.certificate != unit.certificate:
            prepared = self._prepared = _prepare(unit)
        if not prepared.not_before <= now <= prepared.not_after:
            raise SystemFailure("the unit's certificate or key period does not cover this moment")
        return prepared


def new_serial_number() -> int:
    """128 bits of which 127 are random, unique without a shared counter.

    RFC 3161 2.4.2 wants serial numbers unique also after a crash and EN 319 422 up to 160 bits. Nodes share nothing
    and remember nothing, so chance must do: among 2**50 tokens two alike are less likely than one in 2**27. The top
    bit is set, so every number has the same length and so has every token.
    """
    return 1 << 127 | secrets.randbits(127)


def refusal_response(refusal: TimeStampRefused) -> bytes:
    """A TimeStampResp with PKIStatus `rejection`, the reason in words and as a PKIFailureInfo bit."""
    octets = refusal.fail_info // 8 + 1
    bits = (1 << (octets * 8 - 1 - refusal.fail_info)).to_bytes(octets, "big")
    unused = 7 - refusal.fail_info % 8  # X.690 11.2.2: a named bit list ends with its last one bit
    text = der(SEQUENCE, der(UTF8_STRING, refusal.detail.encode()))
    return der(SEQUENCE, der(SEQUENCE, der_integer(2), text, der(BIT_STRING, bytes([unused]) + bits)))


def wsgi(authority: TimeStampAuthority) -> WSGIApplication:
    """The authority as a WSGI callable (RFC 3161 3.4). Refusals of readable transport have HTTP status 200."""

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        headers = [("Content-Type", RESPONSE_TYPE), ("Cache-Control", "no-store")]
        if environ["REQUEST_METHOD"] != "POST":
            refusal = refusal_response(BadRequest("a request comes by POST"))
            return respond(start_response, 405, [*headers, ("Allow", "POST")], refusal)
        content_type = (environ.get("CONTENT_TYPE") or "").partition(";")[0].strip().lower()
        if content_type != REQUEST_TYPE:
            return respond(start_response, 415, headers, refusal_response(BadRequest(f"send {REQUEST_TYPE}")))
        try:
            request = read_body(environ, MAX_REQUEST_OCTETS)
        except CodedError as error:
            return respond(start_response, error.status, headers, refusal_response(BadRequest(error.detail)))
        return respond(start_response, 200, headers, authority.respond(request))

    return application


def _parsed(encoded: bytes) -> TimeStampReq:
    if len(encoded) > MAX_REQUEST_OCTETS:
        raise BadRequest(f"a request has at most {MAX_REQUEST_OCTETS} octets")
    try:
        return asn1.decode_der(TimeStampReq, encoded)
    except ValueError as error:
        raise BadDataFormat("the request is not a DER TimeStampReq") from error


def _encoded_accuracy(accuracy: timedelta) -> bytes:
    millis = round(accuracy / timedelta(milliseconds=1))
    if millis == 1000:
        return der(SEQUENCE, der_integer(1))
    return der(SEQUENCE, b"\x80" + der_integer(millis)[1:])


def _token(unit: _PreparedUnit, info: bytes, *, with_certificates: bool) -> bytes:
    """ContentInfo around SignedData version 3 (RFC 5652 5.1: the content is not id-data) with one SignerInfo."""
    digest = hashlib.new(unit.digest.name, info).digest()
    message_digest = der(SEQUENCE, _MESSAGE_DIGEST, der_set(der(OCTET_STRING, digest)))
    attributes = der_set(_CONTENT_TYPE, message_digest, unit.signing_certificate)
    signature = unit.sign(attributes)
    signer_info = der(
        SEQUENCE,
        _VERSION_1,
        unit.signer_identifier,
        unit.digest.identifier,
        b"\xa0" + attributes[1:],  # RFC 5652 5.4: signed as SET OF, carried as [0]
        unit.signature_algorithm,
        der(OCTET_STRING, signature),
    )
    signed_data = der(
        SEQUENCE,
        der_integer(3),
        der_set(unit.digest.identifier),
        der(SEQUENCE, _TST_INFO, der(0xA0, der(OCTET_STRING, info))),
        unit.certificates if with_certificates else b"",  # RFC 3161 2.4.1: none unless asked for
        der_set(signer_info),
    )
    return der(SEQUENCE, _SIGNED_DATA, der(0xA0, signed_data))


def _prepare(unit: TimeStampingUnit) -> _PreparedUnit:
    """Check a unit once and encode what its tokens share. Raises SystemFailure."""
    certificate = x509.load_der_x509_certificate(unit.certificate)
    _check_unit(certificate, unit.key)
    issuer = der(SEQUENCE, certificate.issuer.public_bytes(), der_integer(certificate.serial_number))
    digest, algorithm = _algorithms(unit.key)
    not_before, not_after = _period(certificate)
    return _PreparedUnit(
        certificate=unit.certificate,
        key=unit.key,
        not_before=not_before,
        not_after=not_after,
        digest=digest,
        signature_algorithm=algorithm,
        signer_identifier=issuer,
        signing_certificate=_signing_certificate(unit.certificate, certificate),
        # tsa [0] EXPLICIT GeneralName, directoryName [4]: the subject of the certificate (RFC 3161 2.4.2)
        tsa=der(0xA0, der(0xA4, certificate.subject.public_bytes())),
        certificates=der_set(*dict.fromkeys((unit.certificate, *unit.chain)), tag=0xA0),
    )


def _check_unit(certificate: x509.Certificate, key: PrivateKey) -> None:
    if certificate.public_key() != key.public_key():
        raise SystemFailure("the key is not the certificate's")
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound as error:
        raise SystemFailure("the certificate has no extended key usage") from error
    # RFC 3161 2.3: timeStamping alone, and critical
    if list(usage.value) != [ExtendedKeyUsageOID.TIME_STAMPING] or not usage.critical:
        raise SystemFailure("the certificate is not one for time-stamping alone")


def _period(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    """When the key may be used: the certificate's validity, cut by privateKeyUsagePeriod where there is one."""
    not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    try:
        period = certificate.extensions.get_extension_for_class(x509.PrivateKeyUsagePeriod).value
    except x509.ExtensionNotFound:
        return not_before, not_after
    starts = period.not_before.replace(tzinfo=UTC) if period.not_before else not_before
    ends = period.not_after.replace(tzinfo=UTC) if period.not_after else not_after
    return max(not_before, starts), min(not_after, ends)


def _algorithms(key: PrivateKey) -> tuple[HashAlgorithm, bytes]:
    if isinstance(key, rsa.RSAPrivateKey):
        return _SHA256, _SHA256_WITH_RSA
    if key.curve.name == "secp384r1":
        return _SHA384, _ECDSA_WITH_SHA384
    return _SHA256, _ECDSA_WITH_SHA256


def _signing_certificate(encoded: bytes, certificate: x509.Certificate) -> bytes:
    """The signing-certificate-v2 attribute (RFC 5816 2.2.1, RFC 5035 3): SHA-256 by default, with issuerSerial."""
    name = der(SEQUENCE, der(0xA4, certificate.issuer.public_bytes()))
    issuer_serial = der(SEQUENCE, name, der_integer(certificate.serial_number))
    ess_cert_id = der(SEQUENCE, der(OCTET_STRING, hashlib.sha256(encoded).digest()), issuer_serial)
    value = der(SEQUENCE, der(SEQUENCE, ess_cert_id))
    return der(SEQUENCE, _SIGNING_CERTIFICATE, der_set(value))
