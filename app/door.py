"""The front door: request ids, languages, security headers, and errors in the protocol's own form."""

from __future__ import annotations

import secrets
from urllib.parse import urlencode

from flask import Flask, Response, g, jsonify, make_response, render_template, request
from markupsafe import Markup
from sqlalchemy.exc import OperationalError
from werkzeug.exceptions import HTTPException

from core.errors import CodedError, Unavailable
from core.logs import get_logger, request_id
from core.pages import FormGuard
from core.problem import problem_response
from core.text import LANGUAGES, N_, Catalogue, choose_language

log = get_logger("app.door")

LANGUAGE_COOKIE = "tamga-language"
YEAR_SECONDS = 365 * 24 * 3600
# Requests that carry no document are small; a larger one is refused before it is read.
MAX_ORDINARY_OCTETS = 256 * 1024
# The default policy for pages: nothing from elsewhere, no script at all, never inside another site's frame.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
PROBLEM_PATHS = ("/api/", "/ca/")  # RFC 9457
OAUTH_PATHS = ("/oauth2/token", "/oauth2/userinfo", "/oauth2/jwks", "/.well-known/")

# What a person reads for a status of HTTP; protocols have their own words.
SENTENCES = {
    400: N_("The request could not be understood."),
    403: N_("This form did not come from this page, or the page is too old. Please open it again."),
    404: N_("There is nothing at this address."),
    405: N_("This address cannot be used that way."),
    413: N_("What was sent is too large."),
    415: N_("This kind of file is not taken here."),
    429: N_("Too many attempts. Please wait a little and try again."),
    500: N_("Something went wrong on our side. Nothing was lost; please try again."),
    503: N_("The service is busy just now. Please try again shortly."),
}


class Door:
    """Installs on the Flask application what every request passes."""

    def __init__(
        self, *, catalogue: Catalogue, guard: FormGuard, service_names: dict[str, str], secure: bool,
        large_paths: tuple[str, ...], max_document_octets: int,
    ) -> None:  # fmt: skip
        self._catalogue = catalogue
        self._guard = guard
        self._service_names = service_names
        self._secure = secure
        self._large_paths = large_paths
        self._max_document_octets = max_document_octets

    def install(self, app: Flask) -> None:
        """Hang the door into ``app``."""
        app.before_request(self._enter)
        app.after_request(self._leave)
        app.teardown_request(_forget)
        app.context_processor(self._page_words)
        app.register_error_handler(CodedError, self._coded)
        app.register_error_handler(HTTPException, self._http)
        app.register_error_handler(OperationalError, self._database_gone)
        app.register_error_handler(Exception, self._unforeseen)

    def _enter(self) -> None:
        g.request_id = secrets.token_hex(8)
        g.request_id_token = request_id.set(g.request_id)
        g.language = choose_language(
            request.args.get("lang"), request.cookies.get(LANGUAGE_COOKIE), request.headers.get("Accept-Language")
        )
        large = request.path.startswith(self._large_paths)
        request.max_content_length = self._max_document_octets if large else MAX_ORDINARY_OCTETS

    def _leave(self, response: Response) -> Response:
        headers = response.headers
        headers["X-Request-Id"] = g.get("request_id", "")
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("Referrer-Policy", "no-referrer")
        if self._secure:
            headers.setdefault("Strict-Transport-Security", "max-age=63072000; includeSubDomains")
        if response.mimetype == "text/html":
            headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
            headers.setdefault("X-Frame-Options", "DENY")
            headers.setdefault("Cache-Control", "no-store")
            headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
            self._guard.remember(response)
            self._remember_language(response)
        return response

    def _remember_language(self, response: Response) -> None:
        chosen = request.args.get("lang", "")
        if chosen in LANGUAGES:
            response.set_cookie(
                LANGUAGE_COOKIE, chosen, max_age=YEAR_SECONDS, secure=self._secure, httponly=True, samesite="Lax"
            )

    def _page_words(self) -> dict[str, object]:
        def translate(message: str, /, **values: object) -> str | Markup:
            return self._catalogue.translate(message, g.get("language", "mn"), values)

        language = g.get("language", "mn")
        return {
            "_": translate,
            "language": language,
            "service_name": self._service_names[language],
            "other_language_url": _other_language_url,
            "csrf_field": self._guard.field,
        }

    def _coded(self, error: CodedError) -> Response:
        if error.status >= 500:
            log.error("request_failed", code=error.code, path=_route())
        return self._answer(error.status, error.code, error)

    def _http(self, error: HTTPException) -> Response:
        if error.response is not None or error.code is None or error.code < 400:
            return make_response(error.get_response())
        answer = self._answer(error.code, error.name.lower().replace(" ", "_"), _coded_from(error))
        for name, value in error.get_headers():
            if name in ("Allow", "Retry-After"):
                answer.headers[name] = value
        return answer

    def _database_gone(self, error: OperationalError) -> Response:
        log.error("database_unreachable", path=_route(), kind=type(error.orig).__name__)
        return self._coded(Unavailable("the database cannot be reached just now"))

    def _unforeseen(self, error: Exception) -> Response:
        log.exception("unforeseen_error", path=_route(), kind=type(error).__name__)  # noqa: LOG004 - it is one
        return self._answer(500, "internal_error", CodedError("an unforeseen error; quote the request id"))

    def _answer(self, status: int, code: str, error: CodedError) -> Response:
        if request.path.startswith(PROBLEM_PATHS):
            return problem_response(error, request_id=g.get("request_id", ""))
        if request.path.startswith("/acme/"):
            from ca.acme.problems import in_acmes_words, problem

            return problem(in_acmes_words(error))
        if request.path.startswith("/.well-known/est/"):  # RFC 7030 4.2.3: plain words
            return Response(f"{error.detail or error.code}\n", status, content_type="text/plain; charset=utf-8")
        if request.path.startswith(OAUTH_PATHS):
            return _oauth_answer(status, error)
        return self._page(status, code)

    def _page(self, status: int, code: str) -> Response:
        sentence = SENTENCES.get(status, SENTENCES[400 if status < 500 else 500])
        page = render_template("app/error.html", sentence=sentence, code=code, request_id=g.get("request_id", ""))
        return make_response(page, status)


def _oauth_answer(status: int, error: CodedError) -> Response:
    # RFC 6749 5.2: what is wrong before the endpoint is reached is invalid_request, ours is server_error.
    code = "invalid_request" if status < 500 else "temporarily_unavailable" if status == 503 else "server_error"
    response = jsonify(error=code, error_description=error.detail or error.code, request_id=g.get("request_id", ""))
    response.status_code = status
    response.headers["Cache-Control"] = "no-store"
    return response


def _coded_from(error: HTTPException) -> CodedError:
    name = error.name.lower().replace(" ", "_")
    kind = type("HttpError", (CodedError,), {"code": name, "status": error.code})
    coded: CodedError = kind(error.description or error.name)
    return coded


def _other_language_url() -> str:
    language = "en" if g.get("language", "mn") == "mn" else "mn"
    kept = [(name, value) for name, value in request.args.items(multi=True) if name != "lang"]
    return f"{request.path}?{urlencode([*kept, ('lang', language)])}"


def _route() -> str:
    # The rule, not the address: an address may hold somebody's token.
    return request.url_rule.rule if request.url_rule else "(none)"


def _forget(_error: BaseException | None) -> None:
    token = g.pop("request_id_token", None)
    if token is not None:
        request_id.reset(token)


