"""Partner APIs answer errors as RFC 9457 says."""

from __future__ import annotations

import json

import pytest

from core.errors import CodedError, Conflict, NotFound, Unavailable, UsageError
from core.problem import problem_response


class Refused(CodedError):
    code = "placement_outside_page"
    status = 422
    title = "The placement lies outside the page"


def document(error: CodedError) -> dict[str, object]:
    response = problem_response(error, request_id="r1")
    assert response.status_code == error.status
    assert response.content_type == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    return dict(json.loads(response.get_data()))


def test_a_problem_carries_the_standard_members_the_code_the_request_and_its_facts() -> None:
    assert document(Refused("page 3 of 2", page=3, pages=(1, 2))) == {
        "type": "about:blank",
        "title": "The placement lies outside the page",
        "status": 422,
        "detail": "page 3 of 2",
        "code": "placement_outside_page",
        "request_id": "r1",
        "page": 3,
        "pages": [1, 2],
    }


def test_a_class_without_a_title_is_titled_by_its_code() -> None:
    assert document(NotFound())["title"] == "not found"


def test_a_fact_never_takes_the_place_of_a_standard_member() -> None:
    told = document(Refused("d", status=200, title="fine", request_id="x", type="y"))
    assert (told["status"], told["type"], told["request_id"]) == (422, "about:blank", "r1")
    assert told["title"] == "The placement lies outside the page"


@pytest.mark.parametrize("text", ["Өнөр", "\ud800", 'a"\r\nb'])
def test_a_callers_own_words_never_break_the_answer(text: str) -> None:
    assert document(Refused(f"no field {text}", field=text))["field"] == text


def test_a_fact_of_any_type_can_be_told() -> None:
    assert document(Refused("d", error=ValueError("x")))["error"] == "x"


def test_who_finds_the_service_busy_is_told_when_to_come_again() -> None:
    response = problem_response(Unavailable(), request_id="r1")
    assert response.headers["Retry-After"] == "5"
    assert "Retry-After" not in problem_response(NotFound(), request_id="r1").headers


def test_an_error_reads_as_its_detail_or_its_code() -> None:
    assert str(Conflict("taken")) == "taken"
    assert str(UsageError()) == "usage"
    assert Conflict("taken", by="x").facts == {"by": "x"}
