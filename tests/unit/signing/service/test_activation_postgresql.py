"""The conditional updates decide the same way on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from core.database import Database
from core.errors import CodedError

PIN = "738264"


@pytest.fixture
def database(postgresql_server: Any) -> Iterator[Database]:
    made = Database(postgresql_server.database())
    made.create_all()
    yield made
    made.close()


def test_many_confirmations_at_once_sign_once(site: Any, bank: Any, pdf: bytes, walk: Any, link: Any) -> None:
    browser = site.citizen()
    browser.press(browser.get("/me/credentials"), "credential-create", pin=PIN, pin_repeat=PIN)
    made = bank.request(pdf)
    walk(browser, link(made))
    reviewed = site.parts.sign_requests.get(made["id"])
    results: list[str] = []

    def approve() -> None:
        try:
            results.append(site.parts.approval.approve(reviewed, sdr=reviewed.signer.sdr, pin=PIN).state)
        except CodedError as error:
            results.append(error.code)

    threads = [threading.Thread(target=approve) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count("signed") == 1 and set(results) <= {"signed", "STATE_CONFLICT", "PIN_LOCKED"}, results
    assert bank.call("GET", f"/api/v1/sign-requests/{made['id']}/document").data.startswith(pdf)
    bank.clock.move(days=8)
    assert site.parts.sign_requests.delete_documents() == 1
