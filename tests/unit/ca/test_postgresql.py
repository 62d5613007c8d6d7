"""The same room on PostgreSQL: unique pairs, races and compare-and-swap hold there too."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import delete, select

from ca import errors
from ca.ceremony import read_plan
from ca.register import Reason, State
from ca.settings import CaSettings
from ca.tables import ProfileVersionRow

PLAN = """
name = "on-postgresql"
kind = "hierarchy"
policy_url = "https://localhost/cps"
[organisation]
O = "Test"
organizationIdentifier = "NTRMN-0000000"
[[authority]]
slug = "pg-root-g1"
purpose = "root"
profile = "root"
key = "P-384"
subject = { CN = "PG Root" }
[[authority]]
slug = "pg-sign-g1"
purpose = "citizen-sign"
issuer = "pg-root-g1"
profile = "issuing-ca"
key = "P-384"
subject = { CN = "PG CA" }
"""


def test_a_certificates_life_on_postgresql(postgresql_room, citizen, monkeypatch: pytest.MonkeyPatch) -> None:
    room = postgresql_room
    room.parts.ceremony.hold(read_plan(PLAN, CaSettings()), actor="test")
    issued = room.parts.issuance.certify(room.parts.registration.apply(**citizen()), actor="test")
    assert room.openssl_verify(issued.der, "-crl_check_all").returncode == 0

    outcomes: list[str] = []

    def revoke(reason: Reason) -> None:
        try:
            room.parts.revocation.revoke(issued.id, actor="test", reason=reason)
            outcomes.append("done")
        except errors.AlreadyRevoked:
            outcomes.append("conflict")

    reasons = [Reason.SUPERSEDED, Reason.CESSATION_OF_OPERATION] * 4
    threads = [threading.Thread(target=revoke, args=(reason,)) for reason in reasons]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["conflict"] * 4 + ["done"] * 4
    room.parts.crls.publish("pg-sign-g1", actor="test")
    assert room.openssl_verify(issued.der, "-crl_check").returncode != 0

    with monkeypatch.context() as patch:
        patch.setattr(room.parts.issuance, "_draw_serial", lambda _instance: issued.serial)
        with pytest.raises(errors.SerialTaken):
            room.parts.issuance.certify(room.parts.registration.apply(**citizen()), actor="test")

    intent = room.parts.issuance.prepare(room.parts.registration.apply(**citizen()), actor="test")
    room.parts.issuance._take(intent)
    assert room.parts.recovery.settle(min_age=timedelta(0)).withdrawn == 1
    status = room.parts.register.status(intent.issuer, intent.serial)
    assert status is not None and status.state is State.REVOKED
    assert room.parts.crls.publish("pg-sign-g1", actor="test").entries == 2
    room.check_audit()


def test_a_profile_that_many_use_first_at_once_is_pinned_once(postgresql_room, citizen) -> None:
    room = postgresql_room
    plan = PLAN.replace("pg-", "pr-").replace("on-postgresql", "on-postgresql-3")
    room.parts.ceremony.hold(read_plan(plan, CaSettings()), actor="test")
    with room.database.transaction() as session:
        session.execute(delete(ProfileVersionRow).where(ProfileVersionRow.name == "citizen-signature"))
    room.parts.issuance._pinned = frozenset()
    applications = [room.parts.registration.apply(**citizen()) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        issued = list(pool.map(lambda one: room.parts.issuance.certify(one, actor="test"), applications))
    assert len({one.serial for one in issued}) == 6
    with room.database.reading() as session:
        pinned = session.scalars(select(ProfileVersionRow).where(ProfileVersionRow.name == "citizen-signature")).all()
    assert len(pinned) == 1
    room.check_audit()


def test_of_many_crl_writers_on_postgresql_none_overwrites_another(postgresql_room) -> None:
    room = postgresql_room
    plan = PLAN.replace("pg-", "pq-").replace("on-postgresql", "on-postgresql-2")
    room.parts.ceremony.hold(read_plan(plan, CaSettings()), actor="test")
    outcomes: list[int | str] = []

    def publish() -> None:
        try:
            outcomes.append(room.parts.crls.publish("pq-sign-g1", actor="test").number)
        except (errors.CrlConflict, errors.CrlRefused) as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=publish) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert numbers and len(set(numbers)) == len(numbers)
    assert room.parts.crls.current("pq-sign-g1").number == max(numbers)
    assert room.events().count("ca:crl:published") == 2 + len(numbers)
    room.check_audit()
