"""The pages of the ceremony and of a citizen's own credentials. No script is needed on any of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, g, make_response, redirect, render_template, request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wrappers import Response as BaseResponse

from core.clock import Clock
from core.errors import CodedError
from core.pages import FormGuard
from core.principal import Principal
from core.text import N_
from policies.authentication import SUBSTANTIAL, satisfies
from signing.approval import Approval
from signing.credentials import Credentials
from signing.deliveries import Deliveries
from signing.document_errors import TooLarge
from signing.errors import (
    AssuranceTooLow,
    CertificateRefused,
    CredentialMissing,
    PagesNotShown,
    PinInvalid,
    PinLocked,
    PinMismatch,
    PinWeak,
    SdrChanged,
    SignRequestNotFound,
    StateConflict,
    WrongPerson,
)
from signing.ports import CertificateStanding, RelyingParties, RelyingPartyFacts
from signing.recovery import Recovery
from signing.review import ALL_PAGES_BELOW, Review
from signing.sentences import (
    NEXT_STEP_ASK_AGAIN,
    NEXT_STEP_CREDENTIAL,
    NEXT_STEP_TRY_AGAIN,
    sentence_of,
    sentence_of_code,
)
from signing.sign_requests import HOLDS_RESULT, SignRequest, SignRequests, SignRequestState

# A signing link's path: the only place the credentials page sends people back to.
_RETURN_PATH = re.compile(r"/sign/[A-Za-z0-9_-]{22}")
S = SignRequestState

# Heading and sentence of each state that ends or pauses a ceremony.
STATES = {
    S.APPROVED: (N_("Being signed"), N_("Your signature is being made. Open this page again in a moment.")),
    S.REJECTED: (N_("Not signed"), N_("You refused to sign this document. The organisation has been told.")),
    S.EXPIRED: (N_("Too late"), N_("The time for signing this document is over. Nothing was signed.")),
    S.CANCELLED: (N_("Withdrawn"), N_("The organisation withdrew this request. Nothing was signed.")),
    S.FAILED: (N_("Not signed"), N_("Signing did not work. Nothing was signed in your name.")),
}
NEXT_STEPS = {
    S.REJECTED: NEXT_STEP_ASK_AGAIN,
    S.EXPIRED: NEXT_STEP_ASK_AGAIN,
    S.CANCELLED: NEXT_STEP_ASK_AGAIN,
    S.FAILED: NEXT_STEP_ASK_AGAIN,
}
STANDINGS = {
    CertificateStanding.GOOD: N_("valid"),
    CertificateStanding.REVOKED: N_("revoked"),
    CertificateStanding.SUSPENDED: N_("suspended"),
    CertificateStanding.EXPIRED: N_("expired"),
    CertificateStanding.UNKNOWN: N_("not in the register"),
}

PersonOf = Callable[[], Principal | None]
LoginUrl = Callable[[str], str]


class LoginNeeded(Exception):
    """Nobody is logged in; raised inside handlers and answered with a redirect."""


@dataclass(frozen=True)
class Visit:
    """One look at a request by its own signer."""

    token: str
    request: SignRequest
    organisation: RelyingPartyFacts | None


class CeremonyPages:
    """The handlers and their routes."""

    def __init__(
        self,
        *,
        review: Review,
        approval: Approval,
        sign_requests: SignRequests,
        credentials: Credentials,
        recovery: Recovery,
        deliveries: Deliveries,
        relying_parties: RelyingParties,
        person: PersonOf,
        login_url: LoginUrl,
        guard: FormGuard,
        issuer: str,
        clock: Clock,
    ) -> None:
        self._review = review
        self._approval = approval
        self._requests = sign_requests
        self._credentials = credentials
        self._recovery = recovery
        self._deliveries = deliveries
        self._relying_parties = relying_parties
        self._person = person
        self._login_url = login_url
        self._guard = guard
        self._issuer = issuer
        self._clock = clock

    def blueprint(self) -> Blueprint:
        """The routes below /sign and /me/credentials."""
        pages = Blueprint("pages", __name__)
        pages.add_url_rule("/sign/<token>", "ceremony", self.ceremony, methods=["GET"])
        pages.add_url_rule("/sign/<token>/pages/<int:number>.png", "page_image", self.page_image, methods=["GET"])
        pages.add_url_rule("/sign/<token>/pages/<int:number>", "page_shown", self.page_shown, methods=["POST"])
        pages.add_url_rule("/sign/<token>/summary", "summary", self.summary, methods=["GET"])
        pages.add_url_rule("/sign/<token>/confirm", "confirm", self.confirm, methods=["POST"])
        pages.add_url_rule("/sign/<token>/reject", "reject", self.reject, methods=["POST"])
        pages.add_url_rule("/sign/<token>/document.pdf", "document", self.document, methods=["GET"])
        pages.add_url_rule("/me/credentials", "credentials", self.credentials, methods=["GET"])
        pages.add_url_rule("/me/credentials", "create_credential", self.create_credential, methods=["POST"])
        install_error_pages(pages)
        pages.register_error_handler(LoginNeeded, self._to_login)
        pages.register_error_handler(AssuranceTooLow, self._to_stronger_login)
        return pages

    # The ceremony ------------------------------------------------------------------------------------------------

    def ceremony(self, token: str) -> BaseResponse:
        """GET /sign/{token}: the step the request stands at."""
        visit = self._visit(token, opening=True)
        state = visit.request.state
        if state in HOLDS_RESULT:
            return self._done(visit)
        if state in STATES:
            return self._state(visit)
        self._review.check_certificate(visit.request)
        chosen = _page_number(request.args.get("page"))
        if state is S.REVIEWED and chosen is None:
            return redirect(f"/sign/{token}/summary", 303)
        return self._page(visit, chosen)

    def page_shown(self, token: str, number: int) -> BaseResponse:
        """POST /sign/{token}/pages/{n}: the person went on from page n, to the next page or to the summary."""
        self._guard.check()
        visit = self._visit(token)
        if visit.request.state in STATES or visit.request.state in HOLDS_RESULT:
            return redirect(f"/sign/{token}", 303)
        seen = self._review.page_shown(visit.request, number)
        if request.form.get("then") == "finish":
            return self._finish_review(token, seen)
        following = number + 1 if number < seen.row.document_pages else (self._review.unseen(seen) or [number])[0]
        return redirect(f"/sign/{token}?page={following}", 303)

    def _finish_review(self, token: str, seen: SignRequest) -> BaseResponse:
        try:
            self._review.finish(seen)
        except PagesNotShown as error:
            return redirect(f"/sign/{token}?page={error.facts['page']}", 303)
        except CredentialMissing:
            return redirect(f"/me/credentials?return_to={quote(f'/sign/{token}')}", 303)
        return redirect(f"/sign/{token}/summary", 303)

    def page_image(self, token: str, number: int) -> BaseResponse:
        """GET /sign/{token}/pages/{n}.png: one page, drawn from the very bytes that will be signed."""
        visit = self._visit(token)
        response = Response(self._review.page(visit.request, number), content_type="image/png")
        response.headers["Cache-Control"] = "private, no-store"
        return response

    def summary(self, token: str) -> BaseResponse:
        """GET /sign/{token}/summary: what is about to be signed, and the PIN form."""
        visit = self._visit(token)
        if visit.request.state is not S.REVIEWED:
            return redirect(f"/sign/{token}", 303)
        return self._summary(visit)

    def confirm(self, token: str) -> BaseResponse:
        """POST /sign/{token}/confirm: the PIN for exactly this revision."""
        self._guard.check()
        visit = self._visit(token)
        if visit.request.state is not S.REVIEWED:
            return redirect(f"/sign/{token}", 303)
        try:
            self._approval.approve(
                visit.request, sdr=request.form.get("sdr", ""), pin=request.form.get("pin", "").strip()
            )
        except (PinInvalid, PinLocked, SdrChanged) as error:
            return self._summary(visit, error)
        except StateConflict:  # a second tab or the organisation was faster
            return redirect(f"/sign/{token}", 303)
        finally:
            self._announce(visit.request)
        return redirect(f"/sign/{token}", 303)

    def reject(self, token: str) -> BaseResponse:
        """POST /sign/{token}/reject: the person will not sign."""
        self._guard.check()
        visit = self._visit(token, opening=True)
        try:
            self._review.reject(visit.request, request.form.get("reason"))
        except StateConflict:
            return redirect(f"/sign/{token}", 303)
        self._announce(visit.request)
        return redirect(f"/sign/{token}", 303)

    def document(self, token: str) -> BaseResponse:
        """GET /sign/{token}/document.pdf: the signed file, for its signer."""
        visit = self._visit(token)
        response = Response(self._requests.signed_document(visit.request), content_type="application/pdf")
        form = "inline" if request.args.get("view") == "1" else "attachment"
        response.headers["Content-Disposition"] = f'{form}; filename="signed.pdf"'
        response.headers["Cache-Control"] = "private, no-store"
        return response

    def _visit(self, token: str, *, opening: bool = False) -> Visit:
        principal = self._person()
        if principal is None:
            raise LoginNeeded
        found = self._recovery.settle_request(self._review.enter(token, principal))
        if opening:
            found = self._review.open(found)
        return Visit(token, found, self._relying_parties.relying_party(found.row.client_id))

    def _page(self, visit: Visit, chosen: int | None) -> BaseResponse:
        found = visit.request
        unseen = self._review.unseen(found)
        pages = found.row.document_pages
        number = min(chosen or (unseen[0] if unseen else 1), pages)
        return _page(
            "signing/page.html",
            **self._words(visit),
            number=number,
            pages=pages,
            last=number == pages,
            # Sign is offered on the last unseen page, and on every page once all were shown.
            finishable=not set(unseen) - {number},
            every_page=pages < ALL_PAGES_BELOW,
        )

    def _summary(self, visit: Visit, error: CodedError | None = None) -> BaseResponse:
        summary = self._review.summary(self._requests.get(visit.request.id))
        return _page(
            "signing/summary.html",
            error.status if error else 200,
            **self._words(visit),
            summary=summary,
            error_code=error.code if error else None,
            error=sentence_of(error) if error else None,
            locked_until=error.facts.get("locked_until") if error else None,
        )

    def _done(self, visit: Visit) -> BaseResponse:
        return _page("signing/done.html", **self._words(visit), return_url=self._return_url(visit.request))

    def _state(self, visit: Visit) -> BaseResponse:
        state = visit.request.state
        heading, sentence = STATES[state]
        return _page(
            "signing/state.html",
            **self._words(visit),
            heading=heading,
            sentence=sentence,
            cause=sentence_of_code(visit.request.row.code),
            next_step=NEXT_STEPS.get(state),
            code=visit.request.row.code or state.value,
            return_url=self._return_url(visit.request),
        )

    def _words(self, visit: Visit) -> dict[str, Any]:
        return {
            "token": visit.token,
            "sign_request": visit.request.row,
            "organisation": visit.organisation,
        }

    def _return_url(self, found: SignRequest) -> str | None:
        if not found.row.return_url:
            return None
        joint = "&" if "?" in found.row.return_url else "?"
        # No personal data: which request, how it ended, and who says so.
        return (
            f"{found.row.return_url}{joint}request_id={quote(found.id)}"
            f"&state={quote(found.row.state)}&iss={quote(self._issuer, safe='')}"
        )

    def _announce(self, found: SignRequest) -> None:
        if found.row.webhook:
            self._deliveries.run_soon()

    def _to_login(self, _error: LoginNeeded) -> BaseResponse:
        # A form posted after the session ended leads back to its page, not to the bare POST address.
        path = request.full_path.rstrip("?") if request.method == "GET" else _page_of_form(request.path)
        return redirect(self._login_url(path), 303)

    def _to_stronger_login(self, error: AssuranceTooLow) -> BaseResponse:
        # Shown, not redirected: a log-in that cannot become stronger would send the person round in a circle.
        return error_page(error, login_url=self._login_url(_page_of_form(request.path)))

    # Credentials -------------------------------------------------------------------------------------------------

    def credentials(self) -> BaseResponse:
        """GET /me/credentials: the person's digital signatures, and the form for a first or new one."""
        return self._credentials_page(self._signer())

    def create_credential(self) -> BaseResponse:
        """POST /me/credentials: make a key and its certificate behind a PIN typed twice."""
        self._guard.check()
        principal = self._signer()
        try:
            self._credentials.create(
                principal.subject,
                request.form.get("pin", "").strip(),
                request.form.get("pin_repeat", "").strip(),
            )
        except (PinWeak, PinMismatch) as error:
            return self._credentials_page(principal, error)
        return redirect(_return_path(request.form.get("return_to")) or "/me/credentials", 303)

    def _signer(self) -> Principal:
        principal = self._person()
        if principal is None:
            raise LoginNeeded
        if principal.kind != "person":
            raise WrongPerson("this page is for people")
        if not satisfies(principal.acr, SUBSTANTIAL):
            raise AssuranceTooLow("a credential needs acr substantial", acr=SUBSTANTIAL)
        return principal

    def _credentials_page(self, principal: Principal, error: CodedError | None = None) -> BaseResponse:
        listed = [
            (credential, self._credentials.standing(credential))
            for credential in self._credentials.of_person(principal.subject)
        ]
        blocking = {CertificateStanding.GOOD, CertificateStanding.SUSPENDED}
        return _page(
            "signing/credentials.html",
            error.status if error else 200,
            listed=[(credential, standing, STANDINGS[standing]) for credential, standing in listed],
            may_create=not any(standing in blocking for _, standing in listed),
            return_to=_return_path(request.values.get("return_to")),
            error=sentence_of(error) if error else None,
            error_code=error.code if error else None,
            now=self._clock(),
        )


def install_error_pages(blueprint: Blueprint) -> None:
    """Show every coded refusal of this blueprint as a page with a sentence, a next step and its code."""
    blueprint.register_error_handler(CodedError, error_page)
    blueprint.register_error_handler(
        RequestEntityTooLarge, lambda _error: error_page(TooLarge("the form is larger than this page takes"))
    )


def error_page(error: CodedError, *, login_url: str | None = None) -> BaseResponse:
    """The page for one refusal; ``login_url`` where logging in again may help."""
    if isinstance(error, CertificateRefused):
        next_step: str | None = NEXT_STEP_CREDENTIAL if error.code != "CERTIFICATE_SUSPENDED" else None
    else:
        next_step = NEXT_STEP_TRY_AGAIN if error.status == 503 else None
    theirs = not isinstance(error, WrongPerson | SignRequestNotFound)
    return_to = _return_path(_page_of_form(request.path)) if theirs else None
    response = _page(
        "signing/state.html",
        error.status,
        heading=N_("This did not work"),
        sentence=sentence_of(error),
        cause=None,
        next_step=next_step,
        code=error.code,
        to_credentials=isinstance(error, CertificateRefused | CredentialMissing),
        return_to=return_to,
        login_url=login_url,
        may_refuse=return_to is not None and isinstance(error, CertificateRefused),
    )
    if error.status == 503:
        response.headers["Retry-After"] = "5"
    return response


def _page(template: str, status: int = 200, **words: Any) -> BaseResponse:
    response = make_response(render_template(template, request_id=g.get("request_id", ""), **words), status)
    response.headers["Cache-Control"] = "no-store"
    return response


def _page_number(text: str | None) -> int | None:
    if not text or not text.isascii() or not text.isdigit() or len(text) > 6:
        return None
    return max(int(text), 1)


def _return_path(text: str | None) -> str | None:
    return text if text and _RETURN_PATH.fullmatch(text) else None


def _page_of_form(path: str) -> str:
    """The page a form's address belongs to: `/sign/<token>/confirm` comes from `/sign/<token>`."""
    parts = path.split("/")
    return "/".join(parts[:3]) if len(parts) > 3 and parts[1] == "sign" else path
