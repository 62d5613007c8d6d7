"""The responder (RFC 6960): reads the register on every question and signs what it says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from core.clock import Clock
from core.logs import get_logger
from ocsp import events
from ocsp.cache import AnswerCache, SignedAnswer
from ocsp.credentials import CredentialBook, Responder
from ocsp.errors import TryLater, Unauthorized
from ocsp.issuers import IssuerIndex, KnownIssuer
from ocsp.ports import Good, NeverIssued, RevocationReason, Revoked, SourceUnavailable, Status, StatusSource
from ocsp.request import CertID, OcspRequest
from ocsp.response import GOOD, UNKNOWN, SingleResponse, basic_response, response_extensions, revoked_status
from ocsp.settings import OcspSettings

log = get_logger("ocsp.responder")

MAX_SERIAL = 2**160 - 1  # RFC 5280 4.1.2.2: at most 20 octets
# What a never-issued serial is said to be revoked since, and why (RFC 6960 2.2).
_NEVER = revoked_status(datetime(1970, 1, 1, tzinfo=UTC), RevocationReason.CERTIFICATE_HOLD)


@dataclass(frozen=True)
class Question:
    """One CertID with the register's present word on it."""

    cert_id: CertID
    status: Status


class OcspResponder:
    """Answers for every issuer of ours, each through its own delegated responder."""

    def __init__(
        self,
        *,
        settings: OcspSettings,
        clock: Clock,
        statuses: StatusSource,
        issuers: IssuerIndex,
        credentials: CredentialBook,
        cache: AnswerCache,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._statuses = statuses
        self._issuers = issuers
        self._credentials = credentials
        self._cache = cache

    def answer(self, request: OcspRequest) -> SignedAnswer:
        """A signed answer to ``request``. Raises TryLater, Unauthorized.

        The register is asked first and always; only a signature over the very same status is used again. When the
        register cannot be read, an answer that has not run out is repeated, and without one the client tries later.
        """
        try:
            issuer = self._issuer(request)
            questions = [Question(cert_id, self._status(issuer, cert_id)) for cert_id in request.cert_ids]
        except SourceUnavailable as error:
            log.error(events.REGISTER_UNREADABLE)
            return self._last_answer(request, error)
        reusable = request.nonce is None and len(questions) == 1
        if reusable and (answer := self._cached(questions[0])):
            return answer
        answer = self._signed(issuer, questions, request.nonce)
        if reusable and not isinstance(questions[0].status, NeverIssued):  # else strangers' numbers push out real ones
            self._cache.put(questions[0].cert_id.encoded, questions[0].status, answer)
        return answer

    def recognises(self, request: OcspRequest) -> bool:
        """Whether every CertID names an issuer of ours."""
        try:
            self._issuer(request)
        except (Unauthorized, SourceUnavailable):
            return False
        return True

    def _issuer(self, request: OcspRequest) -> KnownIssuer:
        issuers = {issuer.slug: issuer for issuer in map(self._issuers.find, request.cert_ids)}
        if len(issuers) > 1:  # RFC 6960 4.2.2.2: a delegated responder speaks for the issuer that named it, only
            raise Unauthorized("one request asks about one issuer's certificates")
        return next(iter(issuers.values()))

    def _status(self, issuer: KnownIssuer, cert_id: CertID) -> Status:
        status: Status = NeverIssued()
        if 1 <= cert_id.serial <= MAX_SERIAL:
            status = self._statuses.status(issuer.slug, cert_id.serial)
        if isinstance(status, NeverIssued):
            log.warning(events.NEVER_ISSUED_ASKED, issuer=issuer.slug, serial=f"{cert_id.serial:x}"[:42])
        return status

    def _cached(self, question: Question) -> SignedAnswer | None:
        answer = self._cache.get(question.cert_id.encoded, question.status)
        if answer is None:
            return None
        age = self._clock() - answer.produced_at
        fresh = timedelta(0) <= age < timedelta(seconds=self._settings.reuse_seconds)
        return answer if fresh and self._clock() < answer.next_update else None

    def _last_answer(self, request: OcspRequest, cause: Exception) -> SignedAnswer:
        answer = self._cache.last(request.cert_ids[0].encoded)
        if request.nonce is None and len(request.cert_ids) == 1 and answer and self._clock() < answer.next_update:
            return answer
        raise TryLater("the register cannot be read") from cause

    def _signed(self, issuer: KnownIssuer, questions: list[Question], nonce: bytes | None) -> SignedAnswer:
        responder = self._credentials.responder(issuer)
        produced_at = self._clock().replace(microsecond=0)
        singles = [self._single(issuer, responder, question, produced_at) for question in questions]
        next_update = min(single.next_update for single in singles)
        if next_update <= produced_at:
            raise TryLater("the responder's certificate is about to run out")
        never = any(isinstance(question.status, NeverIssued) for question in questions)
        try:
            body = basic_response(
                singles,
                key_hash=responder.key_hash,
                responder_certificate=responder.encoded,
                key=responder.key,
                produced_at=produced_at,
                extensions=response_extensions(nonce, extended_revoke=never and self._extended_revoke(issuer)),
            )
        except Exception as error:  # whatever the token's driver raises, the client's way out is the same
            log.exception(events.SIGNING_FAILED, issuer=issuer.slug)
            raise TryLater("the responder's key cannot be used") from error
        return SignedAnswer.of(
            body,
            produced_at=produced_at,
            next_update=next_update,
            steady_since=_steady_since(questions),
            nonced=nonce is not None,
        )

    def _single(
        self, issuer: KnownIssuer, responder: Responder, question: Question, produced_at: datetime
    ) -> SingleResponse:
        this_update = self._this_update(question.status, produced_at)
        never = isinstance(question.status, NeverIssued)
        return SingleResponse(
            cert_id=question.cert_id.encoded,
            cert_status=self._cert_status(issuer, question.status),
            this_update=this_update,
            # An answer outlives neither its signer nor the authority it speaks for.
            next_update=min(
                this_update + timedelta(seconds=self._settings.validity_seconds), responder.not_after, issuer.not_after
            ),
            archive_cutoff=None if never else issuer.archive_cutoff,
        )

    def _this_update(self, status: Status, produced_at: datetime) -> datetime:
        """A little while ago, but not before the status began and never in the future (RFC 6960 4.2.2.1).

        A validator fixes its moment, then fetches; an answer newer than that moment is "too recent" for some. Going
        back beyond the issue would call a certificate good before it was there, and going back beyond the revocation
        would date the knowledge before the fact.
        """
        early = produced_at - timedelta(seconds=self._settings.backdate_seconds)
        if isinstance(status, NeverIssued):
            return early
        began = status.since if isinstance(status, Good) else status.at
        return min(max(early, began.replace(microsecond=0)), produced_at)

    def _cert_status(self, issuer: KnownIssuer, status: Status) -> bytes:
        if isinstance(status, Good):
            return GOOD
        if isinstance(status, Revoked):
            return revoked_status(status.at, status.reason)
        return _NEVER if self._extended_revoke(issuer) else UNKNOWN

    def _extended_revoke(self, issuer: KnownIssuer) -> bool:
        return issuer.purpose in self._settings.extended_revoke


def _steady_since(questions: list[Question]) -> datetime | None:
    """Since when every status asked for has been good; None as soon as one is not."""
    times = [question.status.since for question in questions if isinstance(question.status, Good)]
    return max(times) if len(times) == len(questions) else None
