"""Parameters of a request: every name with all its values, so that a doubled one is never overlooked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

from flask import Request

from sso.errors import InvalidRequest, RequestTooLarge, UnsupportedContentType

FORM = "application/x-www-form-urlencoded"
# Ceilings of ours: the longest legitimate requests (a signed assertion, a long state) are a quarter of these.
MAX_OCTETS = 32 * 1024
MAX_VALUE_OCTETS = 8 * 1024
MAX_PARAMETERS = 100


class Parameters:
    """An immutable multi-map; absent and empty mean the same (RFC 6749 3.1)."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def get(self, name: str) -> str | None:
        """The first value of ``name``, None when absent or empty."""
        return self._values.get(name, [""])[0] or None

    def require(self, name: str) -> str:
        """The value of ``name``. Raises InvalidRequest when there is none."""
        value = self.get(name)
        if value is None:
            raise InvalidRequest(f"{name} is required")
        return value

    def doubled(self) -> tuple[str, ...]:
        """The names that occur more than once."""
        return tuple(name for name, values in self._values.items() if len(values) > 1)

    def check_single(self) -> None:
        """Raise InvalidRequest if any parameter is doubled (RFC 6749 3.1, 3.2)."""
        if self.doubled():
            raise InvalidRequest(f"{self.doubled()[0][:40]} must not be repeated")

    def as_dict(self) -> dict[str, str]:
        """Each name with its first value; for storing a request whose parameters are single."""
        return {name: values[0] for name, values in self._values.items()}


def of_mapping(values: Mapping[str, str]) -> Parameters:
    """Parameters from stored single values."""
    return Parameters(values.items())


def of_query(request: Request) -> Parameters:
    """The query's parameters. Raises RequestTooLarge, InvalidRequest."""
    return parse(request.query_string)


def of_form(request: Request) -> Parameters:
    """The form body's parameters (RFC 6749 3.2). Raises UnsupportedContentType, RequestTooLarge, InvalidRequest."""
    if request.mimetype != FORM:
        raise UnsupportedContentType(f"the body must be {FORM}")
    if request.content_length is None or request.content_length > MAX_OCTETS:
        raise RequestTooLarge(f"the body must state its length, at most {MAX_OCTETS} octets")
    return parse(request.get_data(cache=True, parse_form_data=False))


def parse(encoded: bytes) -> Parameters:
    """Decode ``application/x-www-form-urlencoded``. Raises RequestTooLarge, InvalidRequest."""
    if len(encoded) > MAX_OCTETS:
        raise RequestTooLarge(f"at most {MAX_OCTETS} octets of parameters")
    try:
        pairs = parse_qsl(
            encoded.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS
        )
    except (UnicodeDecodeError, ValueError) as error:
        raise InvalidRequest(f"parameters must be UTF-8, at most {MAX_PARAMETERS} of them") from error
    if any(len(value) > MAX_VALUE_OCTETS or "\0" in value for _, value in pairs):
        raise InvalidRequest(f"a parameter may have at most {MAX_VALUE_OCTETS} characters and no NUL")
    return Parameters(pairs)
