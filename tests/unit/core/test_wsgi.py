"""Bodies are read whole or refused, never beyond the limit."""

from __future__ import annotations

import io
from typing import Any

import pytest

from core.wsgi import BodyTooLarge, BodyUnreadable, Environ, read_body, respond


class Trickle(io.BytesIO):
    """A stream that gives one octet at a time, as a socket may."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(1, size or 0))


class Untouchable(io.BytesIO):
    """A stream whose reader would wait for ever."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise AssertionError("read without a stated end")


def environ(body: bytes, length: str | None, stream: type[io.BytesIO] = io.BytesIO, **more: Any) -> Environ:
    stated: dict[str, Any] = {} if length is None else {"CONTENT_LENGTH": length}
    return {"wsgi.input": stream(body), **stated, **more}


def test_a_body_of_its_stated_length_is_read_and_nothing_after_it() -> None:
    assert read_body(environ(b"abcdef", "4"), 10) == b"abcd"


def test_a_body_of_exactly_the_limit_is_taken() -> None:
    assert read_body(environ(b"abcd", "4"), 4) == b"abcd"
    assert read_body(environ(b"abcd", "0004"), 4) == b"abcd"


@pytest.mark.parametrize("length", ["5", "0005", "9" * 5000])
def test_a_stated_length_over_the_limit_is_refused_unread(length: str) -> None:
    with pytest.raises(BodyTooLarge):
        read_body(environ(b"abcde", length, Untouchable), 4)


@pytest.mark.parametrize("length", ["-1", "+4", "4.0", "four", " 4", "0x4", "٤", "4,4"])
def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    with pytest.raises(BodyUnreadable):
        read_body(environ(b"abcd", length), 10)


def test_a_body_that_ends_early_is_refused() -> None:
    with pytest.raises(BodyUnreadable):
        read_body(environ(b"abc", "4"), 10)


def test_a_body_in_small_pieces_is_put_together() -> None:
    assert read_body(environ(b"abcd", "4", Trickle), 10) == b"abcd"
    assert read_body(environ(b"abcd", None, Trickle, HTTP_TRANSFER_ENCODING="chunked"), 10) == b"abcd"


@pytest.mark.parametrize("mark", [{"HTTP_TRANSFER_ENCODING": "chunked"}, {"wsgi.input_terminated": True}])
def test_a_body_without_a_length_is_read_up_to_the_limit(mark: dict[str, Any]) -> None:
    assert read_body(environ(b"abcd", None, **mark), 4) == b"abcd"
    with pytest.raises(BodyTooLarge):
        read_body(environ(b"abcde", None, **mark), 4)
    with pytest.raises(BodyTooLarge):
        read_body(environ(b"abcde", "", Trickle, **mark), 4)


@pytest.mark.parametrize("length", [None, "", "0"])
def test_no_body_is_an_empty_body_and_nobody_waits_for_it(length: str | None) -> None:
    assert read_body(environ(b"", length, Untouchable), 4) == b""


def answered(status: int, body: bytes) -> tuple[str, dict[str, str], list[bytes]]:
    seen: list[tuple[str, dict[str, str]]] = []
    pieces = respond(lambda line, headers: seen.append((line, dict(headers))), status, [("X-A", "1")], body)
    return *seen[0], pieces


def test_an_answer_states_its_length() -> None:
    assert answered(200, b"abc") == ("200 OK", {"X-A": "1", "Content-Length": "3"}, [b"abc"])
    assert answered(404, b"") == ("404 Not Found", {"X-A": "1", "Content-Length": "0"}, [])


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_has_no_body_states_no_length(status: int) -> None:
    assert "Content-Length" not in answered(status, b"")[1]
