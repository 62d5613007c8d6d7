"""A mass revocation whose process is killed goes on, and every certificate is revoked once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from sqlalchemy import func, select

from app.settings import load_settings
from ca.revocation_list import entries_of
from ca.tables import CertificateRow, CrlRow, MassRevocationBatchRow
from core.audit import export, verify
from core.clock import utc_now
from core.database import Database
from tests.support.instance import Instance
from tests.support.simulated_register import fill

ISSUER = "citizen-sign-g1"
CERTIFICATES = 8000


@pytest.fixture
def instance(private_instance) -> Instance:
    return private_instance().create()


@pytest.fixture
def database(instance: Instance) -> Iterator[Database]:
    """The instance's database, looked at from outside."""
    made = Database(load_settings(instance.configuration, {}).floor.database_url)
    yield made
    made.close()


def batches_done(database: Database) -> int:
    query = select(func.count()).where(MassRevocationBatchRow.changed_at.is_not(None))
    with database.reading() as session:
        return int(session.scalar(query) or 0)


def kill_after(instance: Instance, database: Database, arguments: list[str], batches: int) -> None:
    """Run a command and kill it once so many more batches are done."""
    goal = batches_done(database) + batches
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=instance.directory,
        env=instance.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while batches_done(database) < goal and process.poll() is None:
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()


def test_killed_twice_it_goes_on_and_nothing_is_done_twice_or_left_out(instance: Instance, database: Database) -> None:
    fill(database, CERTIFICATES, issuer=ISSUER, now=utc_now(), der=b"simulated")
    plan = instance.cli("cert", "mass-revoke", "--issuer", ISSUER, "--reason", "keyCompromise")
    assert plan["certificates"] == CERTIFICATES
    kill_after(instance, database, ["cert", "mass-revoke", "--plan", plan["id"], "--execute"], 2)
    kill_after(instance, database, ["cert", "mass-revoke", "--resume", plan["id"]], 2)
    assert 4 <= batches_done(database) <= CERTIFICATES // 1000

    report = instance.cli("cert", "mass-revoke", "--resume", plan["id"])
    assert (report["state"], report["changed"], report["passed_over"]) == ("done", CERTIFICATES, 0)

    with database.reading() as session:
        verify(export(session))
        entries = [entry for entry in export(session) if entry["event"] == "ca:certificates:revoked"]
        told = Counter(serial for entry in entries for serial in entry["facts"]["serials"])
        revoked = session.scalars(
            select(CertificateRow.serial).where(CertificateRow.issuer == ISSUER, CertificateRow.state == "revoked")
        ).all()
        newest = select(CrlRow.der).where(CrlRow.issuer == ISSUER).order_by(CrlRow.number.desc()).limit(1)
        listed = [entry.serial for entry in entries_of(session.scalar(newest))]
    assert set(told.values()) == {1}
    assert sorted(told) == sorted(serial.hex() for serial in revoked)
    assert listed == sorted(int.from_bytes(serial, "big") for serial in revoked)
    assert len(listed) == CERTIFICATES
