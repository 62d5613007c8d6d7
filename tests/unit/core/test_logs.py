"""A log line is one line, and holds neither secrets nor personal numbers, however they are written."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core.logs import REDACTED, JsonFormatter, configure, get_logger, redact, request_id

Lines = Callable[[], list[dict[str, Any]]]
log = get_logger("core.test")


@pytest.fixture
def raw() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("tamga.core.test")
    logger.addHandler(handler)
    logger.setLevel("INFO")
    yield stream
    logger.removeHandler(handler)


@pytest.fixture
def lines(raw: io.StringIO) -> Lines:
    return lambda: [json.loads(line) for line in raw.getvalue().splitlines()]


def test_an_event_is_a_json_object_with_its_facts_as_fields(lines: Lines) -> None:
    log.info("code_redeemed", client_id="bank", attempt=2, good=True, nothing=None, names=("a", "b"))
    (line,) = lines()
    assert line.pop("at").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "tamga.core.test",
        "event": "code_redeemed",
        "client_id": "bank",
        "attempt": 2,
        "good": True,
        "nothing": None,
        "names": ["a", "b"],
    }


def test_a_line_carries_the_id_of_its_request(lines: Lines) -> None:
    token = request_id.set("abc123")
    try:
        log.info("asked")
    finally:
        request_id.reset(token)
    log.info("asked")
    assert [line.get("request_id") for line in lines()] == ["abc123", None]


@pytest.mark.parametrize(
    "number",
    [
        "УБ99112233",
        "уб99112233",
        "УБ 99112233",
        "УБ-99112233",
        "УБ\u00a099112233",
        "ӨҮ99112233",
        "ЁЙ99112233",
        "YB99112233",  # Latin
        "Yб99112233",  # half Latin
        "ΥΒ99112233",  # Greek
        "Ѳү99112233",  # Cyrillic fita for Ө
        "Ɵү99112233",  # Latin barred O for Ө
        "Єү99112233",  # Ukrainian, as DAN transliterates
        "ＹＢ99112233",  # full width
        "УБ９９１１２２３３",  # full-width digits
        "УБ᠙᠙᠑᠑᠒᠒᠓᠓",  # Mongolian digits
        "%D0%A3%D0%9199112233",
        "%d0%a3%d0%91%2099112233".replace("%20", "+"),
        "\\u0423\\u041199112233",
    ],
)
def test_a_register_number_is_removed_however_it_is_written(number: str) -> None:
    for text in (number, f"person {number} asked", f"reg={number}&x=1", f"'{number}'", f"id_{number}.pdf"):
        assert number not in redact(text), text
        assert "9112233" not in redact(text)
        assert REDACTED in redact(text)


def test_a_register_number_inside_a_word_of_other_letters_is_removed() -> None:
    assert "99112233" not in redact("prefixУБ99112233suffix")


@pytest.mark.parametrize("civil_id", ["123456789012", "PNOMN-123456789012", "id=123456789012,"])
def test_a_civil_id_is_removed(civil_id: str) -> None:
    assert "123456789012" not in redact(civil_id)


def test_a_civil_id_that_is_a_number_is_removed(lines: Lines) -> None:
    log.info("asked", person=123456789012, size=1234567)
    (line,) = lines()
    assert (line["person"], line["size"]) == (REDACTED, 1234567)


@pytest.mark.parametrize(
    "kept",
    [
        "6f1c2a34-0b1d-4c5e-8f90-123456789012",
        "6f1c2a34-0b1d-4c5e-8f90-ab12345678cd",
        "1122334455667788990011223344556677889900",
        "2026-03-01T08:30:00.123456+00:00",
        "sha256 of 3 files",
        "http://localhost:8080/authorize?x=1#y@z",
    ],
)
def test_what_names_nobody_is_kept(kept: str) -> None:
    assert redact(kept) == kept


JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
JWE = "eyJhbGciOiJFQ0RILUVTIn0..aXY.Y2lwaGVydGV4dA.dGFn"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"got {JWT}!", JWT),
        (f"cut {JWT[:30]}", JWT[:30]),
        (f"got {JWE}", "Y2lwaGVydGV4dA"),
        (f"?id_token_hint={JWT}&state=1", JWT),
        ("Authorization: Basic YmFuazpzZWNyZXQtc2VjcmV0", "YmFuazpzZWNyZXQtc2VjcmV0"),
        ("authorization: bearer 0123456789abcdef.ghijk", "0123456789abcdef"),
        ("postgresql+psycopg://tamga:hunter2@db/tamga failed", "hunter2"),
        ("redis://:hunter2@cache:6379/0", "hunter2"),
    ],
)
def test_tokens_and_credentials_are_removed_from_any_text(text: str, secret: str) -> None:
    assert secret not in redact(text)


@pytest.mark.parametrize(
    "name",
    ["pin", "signing_pin", "PASSWORD", "client_secret", "access_token", "Authorization", "cookie", "client_assertion",
     "code_verifier", "otp", "totp_seed", "private_key", "regnum", "register_number", "civil_id", "csrf", "api_key"],
)  # fmt: skip
def test_a_field_with_a_secret_name_is_never_written(lines: Lines, raw: io.StringIO, name: str) -> None:
    log.warning("asked", **{name: "hunter2"})
    log.warning("asked", nested={name: "hunter2", "other": [{name: "hunter2"}]})
    assert "hunter2" not in raw.getvalue()
    assert lines()[0][name] == REDACTED


def test_numbers_are_removed_from_events_facts_lists_and_traces(raw: io.StringIO) -> None:
    try:
        raise ValueError("no УБ99112233 here")
    except ValueError:
        log.exception("failed УБ99112233", one="УБ99112233", more=["УБ99112233"], error=ValueError("УБ99112233"))
    assert "99112233" not in raw.getvalue()
    assert "ValueError" in raw.getvalue()


def test_one_event_is_one_line_whatever_a_stranger_sends(raw: io.StringIO, lines: Lines) -> None:
    hostile = 'a\r\n{"event":"forged"}\u2028b\u2029c\x85d\x0be\x00f\u202eg\ud800h\x1b[2J'
    log.info("asked", agent=hostile, more=[hostile])
    assert len(raw.getvalue().splitlines()) == 1
    assert raw.getvalue().removesuffix("\n").isprintable()
    assert lines()[0]["agent"] == hostile


def test_a_trace_stays_on_its_line(raw: io.StringIO) -> None:
    try:
        raise KeyError("x\ny")
    except KeyError:
        log.exception("failed")
    assert len(raw.getvalue().splitlines()) == 1


def test_people_read_their_own_letters_in_the_log(raw: io.StringIO) -> None:
    log.info("asked", name="Өнөр Ёндон 🐎")
    assert "Өнөр Ёндон" in raw.getvalue()


def test_a_fact_never_takes_the_place_of_the_lines_own_members(lines: Lines) -> None:
    log.info("asked", level="none", at="never", logger="x")
    (line,) = lines()
    assert line["level"] == "info"
    assert line["level_"] == "none"
    assert line["at"] != "never"


def test_configuring_twice_writes_each_event_once(monkeypatch: pytest.MonkeyPatch) -> None:
    root, stream = logging.getLogger(), io.StringIO()
    before, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", stream)
    try:
        configure("warning")
        configure("warning")
        log.error("asked")
        logging.getLogger("tamga.core").info("not told")
        logging.getLogger("library").info("not told")
        logging.getLogger("library").warning("told %s", "УБ99112233")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        logging.getLogger("tamga").setLevel(logging.NOTSET)
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["asked", f"told {REDACTED}"]
