"""The public page where anybody checks a signed document."""

from __future__ import annotations

from flask import Blueprint, g, render_template, request
from werkzeug.exceptions import RequestEntityTooLarge

from core.clock import Clock
from core.errors import CodedError
from core.pages import FormGuard
from core.text import N_
from signing.document_errors import EmptyBody, TooLarge
from signing.forms import allow_form
from signing.pdf import Pdf
from signing.sentences import sentence_of
from signing.settings import MEBIBYTE

# EN 319 142-1 levels in a citizen's words.
LEVELS = {
    "B-B": N_("the signature alone, without proof of time"),
    "B-T": N_("proof of the time"),
    "B-LT": N_("proof of the time and of the certificate's standing"),
    "B-LTA": N_("proof of the time and of the certificate's standing, renewed for long keeping"),
}


class VerifyPage:
    """GET shows the form, POST the verdict; nothing is kept."""

    def __init__(self, *, pdf: Pdf, guard: FormGuard, policy: str, limit: int, clock: Clock) -> None:
        self._pdf = pdf
        self._guard = guard
        self._policy = policy
        self._limit = limit
        self._clock = clock

    def blueprint(self) -> Blueprint:
        """The routes below /verify."""
        pages = Blueprint("verify", __name__)
        pages.add_url_rule("/verify", "form", self.form, methods=["GET"])
        pages.add_url_rule("/verify", "check", self.check, methods=["POST"])
        pages.register_error_handler(CodedError, self._refused)
        pages.register_error_handler(
            RequestEntityTooLarge, lambda _error: self._refused(TooLarge("the file is larger than this page takes"))
        )
        return pages

    def form(self) -> str:
        """GET /verify."""
        return self._form()

    def check(self) -> str:
        """POST /verify: the verdict in plain words."""
        allow_form(self._limit)
        self._guard.check()
        part = request.files.get("document")
        document = part.read(self._limit + 1) if part else b""
        if not document:
            raise EmptyBody("no document was sent")
        language = str(g.get("language", "mn"))
        report = self._pdf.validate(
            document, policy=self._policy, at=self._clock(), language=language, limit=self._limit
        )
        return render_template(
            "signing/verdict.html",
            report=report.simple(),
            levels=LEVELS,
            file_name=_shown_name(part.filename if part else None),
        )

    def _refused(self, error: CodedError) -> tuple[str, int]:
        return self._form(sentence_of(error), error.code), error.status

    def _form(self, error: str | None = None, code: str | None = None) -> str:
        return render_template(
            "signing/verify.html",
            error=error,
            error_code=code,
            limit_megabytes=self._limit // MEBIBYTE,
            request_id=g.get("request_id", ""),
        )


def _shown_name(name: str | None) -> str:
    """The file's own name, as the person knows it, without control characters."""
    kept = "".join(character for character in name or "" if character.isprintable())
    return kept.replace("\\", "/").rsplit("/", 1)[-1][:120]
