"""Errors that carry a wire code; rooms make one subclass for each code they answer with."""

from __future__ import annotations

from typing import ClassVar


class CodedError(Exception):
    """A refusal or failure that somebody outside will read.

    ``code`` is stable English for programs, ``status`` the HTTP status, ``exit_code`` the command's exit status.
    ``detail`` is one sentence for the caller and holds no secret and no personal number; ``facts`` are further
    members of the problem document (RFC 9457 3.2).
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 70
    title: ClassVar[str] = ""

    def __init__(self, detail: str = "", **facts: object) -> None:
        super().__init__(detail or self.code)
        self.detail = detail
        self.facts = facts


class NotFound(CodedError):
    """Nothing of that name is here, or not for this caller."""

    code = "not_found"
    status = 404
    exit_code = 4


class Conflict(CodedError):
    """The thing was already done differently, or somebody else holds it."""

    code = "conflict"
    status = 409
    exit_code = 5


class Unavailable(CodedError):
    """Something this answer needs cannot be reached just now; trying later may help."""

    code = "temporarily_unavailable"
    status = 503
    exit_code = 6


class UsageError(CodedError):
    """The command or its configuration is wrong."""

    code = "usage"
    status = 400
    exit_code = 2
