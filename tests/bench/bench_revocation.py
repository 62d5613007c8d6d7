"""How fast very many certificates change their status, beside the bare UPDATE of the same rows.

``python -m tests.bench.bench_revocation [COUNT] [postgresql]`` revokes COUNT certificates (default 1,000,000) once and
prints times and memory, on an SQLite file or on a PostgreSQL server of its own, which is thrown away.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import update

import ca.parts
from ca.linting import Linter
from ca.register import Filters, Reason
from ca.selection import Action, Selector
from ca.settings import CaSettings
from ca.tables import CertificateRow
from core.audit import AuditLog
from core.clock import utc_now
from core.database import Database
from tests.bench.bench_ocsp import token
from tests.bench.harness import Bench, Contest
from tests.support import postgresql
from tests.support.simulated_register import fill

ISSUER = "citizen-sign-g1"
# What one turn changes; the million is for the release.
CERTIFICATES = int(os.environ.get("TAMGA_BENCH_CERTIFICATES", "5000"))


@contextmanager
def authority(count: int, url: str = "") -> Iterator[tuple[ca.parts.Parts, Database]]:
    """An authority on a SoftHSM token with ``count`` simulated certificates in its register."""
    with tempfile.TemporaryDirectory(prefix="tamga-bench-") as folder, token() as keystore:
        database = Database(url or f"sqlite:///{Path(folder) / 'tamga.sqlite'}")
        database.create_all()
        linter = Linter(on_loopback=True)
        linter.warm_up()
        parts = ca.parts.assemble(
            settings=CaSettings(),
            database=database,
            audit=AuditLog(utc_now),
            clock=utc_now,
            keystore=keystore,
            linter=linter,
        )
        parts.ceremony.run_default(actor="bench")
        fill(database, count, issuer=ISSUER, now=utc_now(), der=_certificate())
        try:
            yield parts, database
        finally:
            database.close()


@contextmanager
def mass() -> Iterator[Contest]:
    """Suspend all, then resume all, and so on: plan, batches with their audit entries, and the issuer's CRL. The floor
    is one UPDATE of the same columns of as many rows of a second database, without any record of it."""
    with authority(CERTIFICATES) as (parts, _), authority(CERTIFICATES) as (_, plain):
        actions, floors = cycle((Action.SUSPEND, Action.RESUME)), cycle(("suspended", "good"))

        def ours() -> int:
            plan = parts.mass_revocation.plan(_all(), next(actions), actor="bench")
            return parts.mass_revocation.execute(plan.id, actor="bench").changed

        def floor() -> int:
            state, now = next(floors), utc_now()
            held = state == "suspended"
            values = {"state": state, "state_since": now, "revoked_at": now if held else None}
            query = update(CertificateRow).where(CertificateRow.profile == "citizen-signature")
            with plain.engine.begin() as connection:
                return connection.execute(query.values(**values, reason=6 if held else None)).rowcount

        yield Contest(ours=ours, peer=floor)


def _all() -> Selector:
    return Selector(filters=Filters(issuer=ISSUER, profile="citizen-signature"))


def _certificate() -> bytes:
    """As many octets as a citizen's certificate has, since the database moves them about."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Simulated")])
    key, now = ec.generate_private_key(ec.SECP256R1()), utc_now()
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now)
    padding = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.99"), os.urandom(700))
    return builder.add_extension(padding, critical=False).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def once(count: int, url: str) -> None:
    """Revoke ``count`` certificates and say how long each phase took and how much memory the process held at most."""
    with authority(count, url) as (parts, database):
        before, began = _memory_mib("VmRSS"), time.perf_counter()
        # The high-water mark begins anew: filling is not what is measured.
        Path("/proc/self/clear_refs").write_text("5")
        plan = parts.mass_revocation.plan(_all(), Action.REVOKE, actor="bench", reason=Reason.KEY_COMPROMISE)
        planned, plan_peak = time.perf_counter(), _memory_mib("VmHWM")
        report = parts.mass_revocation.execute(plan.id, actor="bench")
        ended = time.perf_counter()
        crl = parts.crls.current(ISSUER)
        facts = {
            "certificates": report.changed,
            "database": database.engine.dialect.name,
            "seconds": round(ended - began, 1),
            "plan_seconds": round(planned - began, 1),
            "change_seconds": round(report.change_seconds, 1),
            "crl_seconds": round(report.crl_seconds, 1),
            "crl_entries": crl.entries,
            "crl_mib": round(len(crl.der) / 2**20, 1),
            "memory_mib_before": before,
            "plan_peak_mib": plan_peak,
            "peak_mib": _memory_mib("VmHWM"),
        }
        print(json.dumps(facts, indent=1))


def _memory_mib(name: str) -> int:
    """A line of this process's status: VmRSS is what it holds now, VmHWM the most it held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(f"{name}:"))


def main(count: int, kind: str) -> None:
    """Run it once on this kind of database."""
    if kind != "postgresql":
        once(count, "")
        return
    directory = Path(tempfile.mkdtemp(prefix="tamga-bench-postgresql-"))
    running = postgresql.start(directory)
    try:
        once(count, running.database())
    finally:
        running.server.stop()
        shutil.rmtree(directory, ignore_errors=True)


BENCHES = (
    Bench(
        "revocation.mass",
        mass,
        peer_name="one UPDATE of the same rows",
        unit="certificates/s",
        note=f"{CERTIFICATES} certificates a turn: plan, audit, CRL included",
        rounds=3,
        seconds=0.1,
    ),
)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000, sys.argv[2] if len(sys.argv) > 2 else "sqlite")
