"""Several processes on one PostgreSQL: an order is fulfilled once, whoever asks at the same moment."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import insert, select

from core.database import Base, Database
from tests.support.acme import Client, csr

NAME = "www.agency.example"
PARALLEL = 4


@pytest.fixture
def server(held: Path, postgresql_room: Any, make_server: Any) -> Any:
    """The authorities of the other tests, whose keys are in the token, moved to PostgreSQL."""
    source = Database(f"sqlite:///{held / 'tamga.sqlite'}")
    with source.reading() as reading, postgresql_room.database.transaction() as writing:
        for table in Base.metadata.sorted_tables:
            rows = [dict(row) for row in reading.execute(select(table)).mappings()]
            if rows:
                writing.execute(insert(table), rows)
    source.close()
    postgresql_room.clock.advance(timedelta(hours=1))
    return make_server(postgresql_room)


def together(server: Any, client: Any, act: Callable[[Client, int], Any]) -> list[Any]:
    """Let several connections do the same at the same moment."""
    start = Barrier(PARALLEL)

    def one(number: int) -> Any:
        mine = Client(server.http.application.test_client(), key=client.key)
        mine.kid = client.kid
        start.wait()
        return act(mine, number)

    with ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(one, range(PARALLEL)))


def test_an_order_is_fulfilled_once_whoever_finalises_it(server: Any) -> None:
    client = server.client()
    same, request = server.ready(client), csr(ec.generate_private_key(ec.SECP256R1()), NAME)
    answers = together(server, client, lambda mine, _: mine.finalize(same, request).json["status"])
    assert set(answers) <= {"valid", "processing"}
    assert "valid" in answers
    assert len(server.room.parts.register.certificates(profile="tls-server")) == 1

    other = server.ready(client)
    requests = [csr(ec.generate_private_key(ec.SECP256R1()), NAME) for _ in range(PARALLEL)]
    answers = together(server, client, lambda mine, number: mine.finalize(other, requests[number]).status_code)
    assert sorted(answers) == [200, 403, 403, 403]
    assert len(server.room.parts.register.certificates(profile="tls-server")) == 2
    assert server.room.check_audit() > 0


def test_proofs_that_arrive_together_make_the_order_ready(server: Any) -> None:
    client = server.client()
    names = [f"host-{number}.agency.example" for number in range(PARALLEL)]
    made = client.order(*names)
    for value, challenges in client.challenges(made.json):
        challenge = challenges["http-01"]
        server.names.records[value, "A"] = ["127.0.0.1"]
        server.host.serve(challenge["token"], client.proof(challenge))
        client.post(challenge["url"], {})
    start = Barrier(PARALLEL)

    def one(_: int) -> tuple[int, int]:
        start.wait()
        found: tuple[int, int] = server.parts.challenges.validate_due()
        return found

    with ThreadPoolExecutor(PARALLEL) as pool:
        looked = list(pool.map(one, range(PARALLEL)))
    assert (sum(good for good, _ in looked), sum(bad for _, bad in looked)) == (PARALLEL, 0)
    assert client.post(made.headers["Location"]).json["status"] == "ready"


def test_a_certificate_is_replaced_once_whoever_is_faster(server: Any) -> None:
    from ca.acme.renewal_information import certificate_identifier

    client = server.client()
    done, certificate = server.issued(client)
    found = server.room.parts.register.by_serial(certificate.serial_number)
    rivals = [server.ready(client, replaces=certificate_identifier(found)) for _ in range(PARALLEL)]
    key = ec.generate_private_key(ec.SECP256R1())
    answers = together(server, client, lambda mine, number: mine.finalize(rivals[number], csr(key, NAME)).status_code)
    assert sorted(answers) == [200, 409, 409, 409]
    assert done["status"] == "valid"


def test_one_nonce_serves_one_of_many(server: Any) -> None:
    client = server.client()
    message = client.message(client.kid, None)
    answers = together(server, client, lambda mine, _: mine.send(client.kid, message).status_code)
    assert sorted(answers) == [200, 400, 400, 400]
