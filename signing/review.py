"""The citizen's side up to the PIN: open the link, see every page, have the revision prepared that will be signed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from core.clock import Clock
from core.database import Database
from core.principal import Principal
from policies.authentication import SUBSTANTIAL, satisfies
from signing.credentials import Credential, Credentials
from signing.errors import (
    AssuranceTooLow,
    CertificateRefused,
    CredentialMissing,
    PagesNotShown,
    SdrChanged,
    SignRequestNotFound,
    StateConflict,
    WrongPerson,
)
from signing.evidence import EvidenceSource
from signing.pdf import Pdf
from signing.ports import PersonFacts, Persons, RevocationEvidence, TimeStamps
from signing.sign_requests import SignRequest, SignRequests, SignRequestState
from signing.tables import SignerRow

# Of shorter documents every page is shown before signing; of longer ones the first and those with a place to sign.
ALL_PAGES_BELOW = 10
FRAGMENT_HEX_DIGITS = 16

S = SignRequestState


@dataclass(frozen=True)
class Summary:
    """What the person confirms: the digest of the prepared revision and whose name it will carry."""

    sdr: str
    fragment: str  # first 16 hexadecimal digits in groups of four
    person: PersonFacts
    credential: Credential


class Review:
    """Walks a person through a request; remembers on the server what was shown."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        sign_requests: SignRequests,
        credentials: Credentials,
        persons: Persons,
        time_stamps: TimeStamps,
        revocation_evidence: RevocationEvidence,
        pdf: Pdf,
    ) -> None:
        self._database = database
        self._clock = clock
        self._requests = sign_requests
        self._credentials = credentials
        self._persons = persons
        self._time_stamps = time_stamps
        self._revocation_evidence = revocation_evidence
        self._pdf = pdf

    def enter(self, token: str, principal: Principal) -> SignRequest:
        """The request behind the link, for its own signer only.

        Raises SignRequestNotFound, WrongPerson, AssuranceTooLow.
        """
        request = self._requests.of_token(token)
        if principal.kind != "person" or principal.subject != request.signer.person_id:
            raise WrongPerson("the link was made for somebody else")
        if not satisfies(principal.acr, SUBSTANTIAL):
            raise AssuranceTooLow("signing needs acr substantial", acr=SUBSTANTIAL)
        return request

    def open(self, request: SignRequest) -> SignRequest:
        """The intended signer sees the request for the first time; later visits change nothing."""
        if request.state is not S.CREATED:
            return request
        try:
            return self._requests.change(request, S.OPENED, actor=request.signer.person_id)
        except StateConflict:  # a second tab opened it in the same moment
            return self._requests.get(request.id)

    def page(self, request: SignRequest, number: int) -> bytes:
        """One page as PNG, drawn from the very bytes that will be signed. Raises SignRequestNotFound."""
        if not 1 <= number <= request.row.document_pages:
            raise SignRequestNotFound("no such page")
        role = "signed" if request.state in {S.SIGNED, S.COLLECTED} else "input"
        return self._pdf.page_png(self._requests.document(request, role), number)

    def page_shown(self, request: SignRequest, number: int) -> SignRequest:
        """The person looked at a page and went on."""
        if request.state not in {S.OPENED, S.REVIEWED} or not 1 <= number <= request.row.document_pages:
            raise StateConflict("there is nothing to review", state=request.state.value)
        with self._database.transaction() as session:
            signer = session.get_one(SignerRow, (request.id, request.signer.position))
            signer.pages_shown = sorted({*signer.pages_shown, number})
        return self._requests.get(request.id)

    def unseen(self, request: SignRequest) -> list[int]:
        """Pages that must be shown and were not, in order."""
        return sorted(required_pages(request) - set(request.signer.pages_shown))

    def finish(self, request: SignRequest) -> SignRequest:
        """All pages were seen: prepare the revision for the person's credential and fix its digest.

        Raises PagesNotShown, CredentialMissing, the refusals of the certificate, DependencyUnavailable, and the
        document's own errors.
        """
        unseen = self.unseen(request)
        if unseen:
            raise PagesNotShown("not every page was shown", page=unseen[0])
        credential = self._usable_credential(request)
        if request.state is S.REVIEWED:
            if request.signer.credential_id == credential.id:
                return request
            # The credential was replaced since: what was prepared names the wrong certificate.
            request = self._requests.change(request, S.OPENED, actor=request.signer.person_id)
        return self._prepare(request, credential)

    def check_certificate(self, request: SignRequest) -> None:
        """Tell a signer whose certificate may not be used before the reading, not after it (S21).

        Raises CertificateRefused; somebody without any credential makes one when the reading is done.
        """
        with contextlib.suppress(CredentialMissing):
            self._usable_credential(request)

    def _usable_credential(self, request: SignRequest) -> Credential:
        try:
            return self._credentials.usable(request.signer.person_id)
        except CertificateRefused as refusal:
            if request.signer.code != refusal.code:
                # The organisation is told why its signer cannot go on; the request stays where it is.
                with self._database.transaction() as session:
                    self._requests.update_signer(session, request, code=refusal.code)
            raise

    def _prepare(self, request: SignRequest, credential: Credential) -> SignRequest:
        now, person = self._clock(), self._person(request)
        prepared = self._pdf.prepare(
            self._requests.document(request, "input"),
            signer=person,
            evidence=EvidenceSource.ask(credential, self._time_stamps, self._revocation_evidence),
            placement=request.signer.placement,
            language=request.row.language or person.language or "mn",
            signing_time=now,
            level=request.row.level,
        )
        with self._database.transaction() as session:
            moved = self._requests.move(
                session,
                request,
                S.REVIEWED,
                actor=request.signer.person_id,
                facts={"sdr": prepared.sdr, "credential": credential.id},
            )
            self._requests.update_signer(
                session,
                request,
                credential_id=credential.id,
                sdr=prepared.sdr,
                prepared=prepared.data,
                prepared_at=now,
                code=None,
            )
        return self._requests.get(moved.id)

    def summary(self, request: SignRequest) -> Summary:
        """What the confirmation page says. Raises StateConflict before the review is finished."""
        if request.state is not S.REVIEWED or not request.signer.sdr or not request.signer.credential_id:
            raise StateConflict("the document is not reviewed", state=request.state.value)
        return Summary(
            sdr=request.signer.sdr,
            fragment=fragment(request.signer.sdr),
            person=self._person(request),
            credential=self._credentials.get(request.signer.credential_id),
        )

    def reject(self, request: SignRequest, reason: str | None) -> SignRequest:
        """The person will not sign; final. A reason is kept for the organisation."""
        return self._requests.change(
            request, S.REJECTED, actor=request.signer.person_id, rejection_reason=(reason or "").strip()[:500] or None
        )

    def _person(self, request: SignRequest) -> PersonFacts:
        person = self._persons.person(request.signer.person_id)
        if person is None:
            raise WrongPerson("the person is not active")
        return person


def required_pages(request: SignRequest) -> frozenset[int]:
    """Pages that must be shown before Sign is offered (the ceremony, step 3)."""
    if request.row.document_pages < ALL_PAGES_BELOW:
        return frozenset(range(1, request.row.document_pages + 1))
    page = (request.signer.placement or {}).get("page")
    return frozenset({1, page} if page else {1})


def fragment(sdr: str) -> str:
    """The digest's beginning as people compare it: four groups of four."""
    start = sdr[:FRAGMENT_HEX_DIGITS]
    return " ".join(start[index : index + 4] for index in range(0, len(start), 4))


def check_sdr(request: SignRequest, sdr: str) -> None:
    """Raise SdrChanged unless the form's digest is the one on record: what is seen is what is signed (S17)."""
    if sdr != request.signer.sdr:
        raise SdrChanged("the form shows another revision")
