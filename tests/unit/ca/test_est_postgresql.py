"""On PostgreSQL, with threads that really run at once: a secret buys one certificate, and nobody blocks anybody."""

from __future__ import annotations

import threading
from typing import Any

from ca.ceremony import read_plan
from ca.est import errors
from ca.est.enrolment import Caller
from ca.settings import CaSettings
from core.one_time import ProcessLocalStore
from tests.support.est import new_key, request

PLAN = """
name = "est-on-postgresql"
kind = "hierarchy"
policy_url = "https://localhost/cps"
[organisation]
O = "Test"
organizationIdentifier = "NTRMN-0000000"
[[authority]]
slug = "pg-est-root-g1"
purpose = "root"
profile = "root"
key = "P-384"
subject = { CN = "PG Root" }
[[authority]]
slug = "pg-est-tls-g1"
purpose = "tls"
issuer = "pg-est-root-g1"
profile = "issuing-ca-tls"
key = "P-384"
subject = { CN = "PG TLS CA" }
"""
THREADS = 6


def test_a_secret_shown_by_many_at_once_buys_one_certificate(postgresql_room: Any, fresh_keys: None) -> None:
    room = postgresql_room
    room.parts.ceremony.hold(read_plan(PLAN, CaSettings()), actor="test")
    one_time = ProcessLocalStore(room.clock)
    permits = room.parts.est.permits
    outcomes: list[str] = []
    start = threading.Barrier(THREADS)

    def make() -> tuple[str, str]:
        made, secret = permits.make(
            label="tls-server", holder="bank-1", subject={"O": "Bank"}, evidence="file 7", actor="officer:a",
            alternative_names=[("DNS", "www.bank.example.mn")],
        )  # fmt: skip
        return made.id, secret

    def enrol(secret: tuple[str, str], csr: bytes) -> None:
        start.wait()
        try:
            room.parts.est.enrolment.enrol("tls-server", csr, Caller(secret=secret), one_time=one_time)
            outcomes.append("certificate")
        except (errors.SecretSpent, errors.PermitWithdrawn) as error:
            outcomes.append(error.code)

    def withdraw(permit_id: str) -> None:
        start.wait()
        try:
            permits.withdraw(permit_id, actor="officer:b")
            outcomes.append("withdrawn")
        except errors.PermitDecided:
            outcomes.append("too late")

    room.parts.est.enrolment.enrol("tls-server", request(new_key()), Caller(secret=make()), one_time=one_time)
    secret = make()
    threads = [threading.Thread(target=enrol, args=(secret, request(new_key()))) for _ in range(THREADS)]
    run(threads)
    assert sorted(outcomes) == ["certificate"] + ["est_secret_spent"] * (THREADS - 1)
    assert len(room.parts.register.certificates(holder="bank-1")) == 2

    outcomes.clear()
    secret = make()
    threads = [threading.Thread(target=enrol, args=(secret, request(new_key()))) for _ in range(THREADS - 1)]
    run([*threads, threading.Thread(target=withdraw, args=(secret[0],))])
    lost = ["est_secret_spent"] * (THREADS - 2)
    assert sorted(outcomes) in (
        ["certificate", *lost, "too late"],
        ["est_permit_withdrawn"] * (THREADS - 1) + ["withdrawn"],
    )
    room.check_audit()


def run(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
