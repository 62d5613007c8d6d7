"""A certificate authority on a real SoftHSM token and an SQLite file, made once for all tests of this room."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

import ca.parts
from ca.linting import Linter
from ca.settings import CaSettings
from core.audit import AuditLog, export, verify
from core.database import Database
from hsm.keystore import Keystore, initialise_token, open_keystore
from hsm.settings import HsmSettings
from tests.support.postgresql import PostgreSQL

START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class MovableClock:
    """A clock that stands at the real time plus an offset that tests move; each look is a little later."""

    def __init__(self, moment: datetime = START) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        self.moment += timedelta(microseconds=7)
        return self.moment

    def advance(self, by: timedelta) -> None:
        self.moment += by


@dataclass(frozen=True)
class Room:
    """The room's parts with what they stand on."""

    parts: ca.parts.Parts
    database: Database
    keystore: Keystore
    clock: MovableClock
    folder: Path

    def check_audit(self) -> int:
        """The audit chain holds; how many entries it has."""
        with self.database.reading() as session:
            return verify(export(session)).entries

    def events(self) -> list[str]:
        """The events in the audit log, in order."""
        with self.database.reading() as session:
            return [entry["event"] for entry in export(session)]

    def facts(self, event: str) -> dict[str, Any]:
        """The facts of the newest entry for this event."""
        with self.database.reading() as session:
            return [entry["facts"] for entry in export(session) if entry["event"] == event][-1]

    def openssl_verify(self, certificate: bytes, *options: str) -> subprocess.CompletedProcess[str]:
        """``openssl verify`` of a certificate under our root, with the CRLs of all authorities."""
        authorities = self.parts.hierarchy.authorities()
        crls = [x509.load_der_x509_crl(self.parts.crls.current(a.slug).der) for a in authorities]
        (self.folder / "crls.pem").write_bytes(b"".join(crl.public_bytes(Encoding.PEM) for crl in crls))
        command = ["openssl", "verify", "-x509_strict", "-CAfile", str(self.pem("root", authorities[0].der))]
        command += ["-untrusted", str(self.pem("authorities", *(a.der for a in authorities[1:])))]
        command += ["-CRLfile", str(self.folder / "crls.pem"), "-attime", str(int(self.clock.moment.timestamp()))]
        command += [*options, str(self.pem("leaf", certificate))]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def pem(self, name: str, *ders: bytes) -> Path:
        """Certificates in a PEM file of this name."""
        path = self.folder / f"{name}.pem"
        path.write_bytes(b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in ders))
        return path


@pytest.fixture(scope="session")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystore]:
    folder = tmp_path_factory.mktemp("token")
    settings = HsmSettings(pin_file=folder / "pin", softhsm_conf=folder / "softhsm2.conf")
    initialise_token(settings, "7316-not-a-secret")
    store = open_keystore(settings)
    yield store
    store.close()


@pytest.fixture
def fresh_keys(keystore: Keystore) -> Iterator[None]:
    """Destroys the keys that a test made, since the token is one for all tests."""
    before = keystore.keys()
    yield
    for key in set(keystore.keys()) - set(before):
        keystore.destroy(key.label)


@pytest.fixture(scope="session")
def linter() -> Linter:
    linter = Linter(on_loopback=True)
    linter.warm_up()
    return linter


def assembled(
    folder: Path, keystore: Keystore, linter: Linter, settings: CaSettings, clock: MovableClock, url: str = ""
) -> Room:
    database = Database(url or f"sqlite:///{folder / 'tamga.sqlite'}")
    parts = ca.parts.assemble(
        settings=settings, database=database, audit=AuditLog(clock), clock=clock, keystore=keystore, linter=linter
    )
    return Room(parts, database, keystore, clock, folder)


@pytest.fixture(scope="session")
def held(tmp_path_factory: pytest.TempPathFactory, keystore: Keystore, linter: Linter) -> Path:
    """A folder with the database as the shipped ceremony leaves it."""
    folder = tmp_path_factory.mktemp("held")
    room = assembled(folder, keystore, linter, CaSettings(), MovableClock())
    room.database.create_all()
    room.parts.ceremony.run_default(actor="test")
    room.database.close()
    return folder


@pytest.fixture
def room(held: Path, tmp_path: Path, keystore: Keystore, linter: Linter) -> Iterator[Room]:
    """A fresh copy of the certificate authority, one hour after its ceremony."""
    for file in held.iterdir():
        shutil.copy(file, tmp_path)
    made = assembled(tmp_path, keystore, linter, CaSettings(), MovableClock(START + timedelta(hours=1)))
    yield made
    made.database.close()


def make_csr(key: Key, *extensions: x509.ExtensionType, subject: str = "ignored") -> bytes:
    """A request in DER; its subject and extensions are there to be ignored."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.fixture
def public_room(held: Path, tmp_path: Path, keystore: Keystore, linter: Linter) -> Iterator[Room]:
    """The same authorities, whose certificates from now on name a public host."""
    for file in held.iterdir():
        shutil.copy(file, tmp_path)
    settings = CaSettings(base_url="http://pki.example.mn")
    made = assembled(tmp_path, keystore, linter, settings, MovableClock(START + timedelta(hours=1)))
    yield made
    made.database.close()


@pytest.fixture
def postgresql_room(
    postgresql_server: PostgreSQL, tmp_path: Path, keystore: Keystore, linter: Linter
) -> Iterator[Room]:
    """An empty PostgreSQL database under the same token; no ceremony was held."""
    made = assembled(tmp_path, keystore, linter, CaSettings(), MovableClock(), postgresql_server.database())
    made.database.create_all()
    yield made
    made.database.close()


@pytest.fixture(name="make_csr")
def make_csr_fixture() -> Callable[..., bytes]:
    return make_csr


@pytest.fixture
def citizen() -> Callable[..., dict[str, object]]:
    """Arguments of an application by a synthetic citizen."""

    def arguments(key: Key | None = None, **changes: object) -> dict[str, object]:
        return {
            "profile": "citizen-signature",
            "csr": make_csr(key or ec.generate_private_key(ec.SECP256R1())),
            "subject": {"SN": "Жамъян", "GN": "Өлзийхүү", "CN": "Ж.Өлзийхүү", "serialNumber": "PNOMN-000000000017"},
            "holder": "6f1d7a34-6a53-4f2f-9ed0-0d4a0d0f0001",
            "evidence": "visit:1",
            **changes,
        }

    return arguments
