"""Scopes: what a token may be for, and what each gives away."""

from __future__ import annotations

import re

from sso.errors import InvalidScope

OPENID = "openid"
PROFILE = "profile"
# What people are asked for.
PERSON_SCOPES = (OPENID, PROFILE)
# What partner services use with a token of their own (client credentials).
PARTNER_SCOPES = ("sign.request", "sign.validate", "ca:apply", "ca:revoke")
SUPPORTED = PERSON_SCOPES + PARTNER_SCOPES

MAX_SCOPE_OCTETS = 1024
# RFC 6749 3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
_SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+(?: [\x21\x23-\x5B\x5D-\x7E]+)*")


def parse(scope: str) -> tuple[str, ...]:
    """The tokens of a scope parameter, each once, in the order given. Raises InvalidScope."""
    if len(scope) > MAX_SCOPE_OCTETS or not _SCOPE.fullmatch(scope):
        raise InvalidScope("scope must be names separated by single spaces")
    return tuple(dict.fromkeys(scope.split(" ")))
