"""The ACME server over a real certificate authority, asked through Flask; names and hosts are on loopback ports."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask
from flask.testing import FlaskClient

from ca.acme.endpoints import blueprint
from ca.acme.external_keys import NewExternalKey
from ca.acme.identifiers import Entitlement
from ca.acme.parts import Parts, assemble
from ca.acme.settings import AcmeSettings
from ca.settings import CaSettings
from core.audit import AuditLog
from core.one_time import ProcessLocalStore
from hsm.keystore import KeyPurpose, Keystore
from tests.support.acme import Client, Host, NameServer, csr
from tests.unit.ca.conftest import START, MovableClock, assembled

LOOPBACK = ("127.0.0.0/8",)
NAME = "www.agency.example"
ENTITLEMENT = Entitlement(
    organisation="Example Agency", profile="tls-server", allowed=("*.agency.example", "127.0.0.0/8", "10.20.0.0/16")
)


@dataclass
class Server:
    """The server with what surrounds it."""

    parts: Parts
    room: Any
    http: FlaskClient
    names: NameServer
    host: Host

    def external_key(self, entitlement: Entitlement = ENTITLEMENT, **more: Any) -> NewExternalKey:
        return self.parts.external_keys.add(entitlement, actor="test", **more)

    def client(self, entitlement: Entitlement = ENTITLEMENT, key: Any = None) -> Client:
        """A machine with an account."""
        made, client = self.external_key(entitlement), Client(self.http, key=key)
        answer = client.register(made.key.id, made.mac_key)
        assert answer.status_code == 201, answer.text
        return client

    def account(self, client: Client) -> Any:
        return self.parts.accounts.by_id(str(client.kid).rpartition("/")[2])

    def prove(self, client: Client, order: Any) -> None:
        """Answer http-01 for every name of an order that has one, dns-01 else, and let the worker look."""
        for value, challenges in client.challenges(order):
            if "http-01" in challenges:
                challenge = challenges["http-01"]
                self.host.serve(challenge["token"], client.proof(challenge))
                self.names.records.setdefault((value, "A"), ["127.0.0.1"])
            else:
                challenge = challenges["dns-01"]
                self.names.records[f"_acme-challenge.{value}", "TXT"] = [client.dns_proof(challenge)]
            assert client.post(challenge["url"], {}).json["status"] == "processing"
        assert self.parts.challenges.validate_due()[1] == 0

    def ready(self, client: Client, *names: str, **payload: Any) -> Any:
        """An order whose names are proven."""
        made = client.order(*(names or (NAME,)), **payload)
        assert made.status_code == 201, made.text
        self.prove(client, made.json)
        order = client.post(made.headers["Location"])
        assert order.json["status"] == "ready"
        return {**order.json, "url": made.headers["Location"]}

    def issued(self, client: Client, *names: str, key: Any = None, **payload: Any) -> tuple[Any, x509.Certificate]:
        """A fulfilled order and its certificate."""
        order = self.ready(client, *names, **payload)
        request = csr(key or ec.generate_private_key(ec.SECP256R1()), *(names or (NAME,)))
        done = client.finalize(order, request)
        assert (done.status_code, done.json.get("status")) == (200, "valid"), done.text
        got = client.post(done.json["certificate"])
        return done.json, x509.load_pem_x509_certificates(got.data)[0]


@pytest.fixture(scope="session")
def secrets_made(keystore: Keystore) -> None:
    for label, purpose in (("seal-1", KeyPurpose.ENCRYPTION), ("page-mac-1", KeyPurpose.MAC)):
        if not keystore.has(label):
            keystore.generate_secret(label, purpose)


class Quiet:
    """In place of the threads: tests look at challenges themselves, at moments of their choice."""

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def put_together(room: Any, names: NameServer, host: Host, networks: tuple[str, ...], **settings: Any) -> Server:
    """A server on a room; settings may be replaced one by one."""
    given = {"resolvers": (names.setting,), "http01_port": host.port, "resolver_timeout": 2.0, **settings}
    authority = dataclasses.replace(
        room.parts, settings=dataclasses.replace(room.parts.settings, acme=AcmeSettings(**given))
    )
    parts = assemble(
        authority=authority,
        database=room.database,
        audit=AuditLog(room.clock),
        clock=room.clock,
        keystore=room.keystore,
        one_time=ProcessLocalStore(room.clock),
        egress_networks=networks,
    )
    parts = dataclasses.replace(parts, worker=Quiet())  # type: ignore[arg-type]
    app = Flask("acme-test")
    app.register_blueprint(blueprint(parts, base_url="http://localhost"))
    return Server(parts, room, app.test_client(), names, host)


@pytest.fixture(scope="session")
def name_server() -> Iterator[NameServer]:
    with NameServer() as server:
        yield server


@pytest.fixture
def names(name_server: NameServer) -> NameServer:
    """A name server that knows one name."""
    name_server.forget()
    name_server.records[NAME, "A"] = ["127.0.0.1"]
    return name_server


@pytest.fixture(scope="session")
def web_host() -> Iterator[Host]:
    with Host() as host:
        yield host


@pytest.fixture
def host(web_host: Host) -> Host:
    """A host that answers nothing yet."""
    web_host.forget()
    return web_host


@pytest.fixture
def make_server(names: NameServer, host: Host, secrets_made: None) -> Callable[..., Server]:
    def make(room: Any, *, networks: tuple[str, ...] = LOOPBACK, **settings: Any) -> Server:
        return put_together(room, names, host, networks, **settings)

    return make


@pytest.fixture(scope="module")
def make_module_server(name_server: NameServer, web_host: Host, secrets_made: None) -> Callable[..., Server]:
    """The same for a server that the tests of a module share."""
    name_server.forget()
    return lambda room: put_together(room, name_server, web_host, LOOPBACK, orders_per_hour=10_000)


@pytest.fixture(scope="module")
def module_room(held: Path, tmp_path_factory: pytest.TempPathFactory, keystore: Keystore, linter: Any) -> Iterator[Any]:
    """A certificate authority that the tests of a module share."""
    folder = tmp_path_factory.mktemp("acme")
    for file in held.iterdir():
        shutil.copy(file, folder)
    made = assembled(folder, keystore, linter, CaSettings(), MovableClock(START + timedelta(hours=1)))
    yield made
    made.database.close()


@pytest.fixture
def server(room: Any, make_server: Callable[..., Server]) -> Server:
    return make_server(room)


@pytest.fixture
def client(server: Server) -> Client:
    return server.client()
