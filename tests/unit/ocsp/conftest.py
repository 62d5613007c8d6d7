"""The small status service of tests/support, as fixtures; a live one signs in a SoftHSM token and is served by HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from core.clock import utc_now
from hsm.keystore import KeyAlgorithm, KeyPurpose, Keystore, initialise_token, open_keystore
from hsm.settings import HsmSettings
from ocsp import endpoints
from tests.support.status_service import (
    Authority,
    Service,
    build_authority,
    build_responder_certificate,
    build_service,
)


@pytest.fixture(scope="session")
def authorities() -> tuple[Authority, Authority]:
    return build_authority("citizen-sign-g1"), build_authority("service-g1")


@pytest.fixture
def make_service(authorities: tuple[Authority, Authority]) -> Callable[..., Service]:
    def build(**options: Any) -> Service:
        return build_service(*authorities, **options)

    return build


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    return make_service()


@pytest.fixture(scope="session")
def make_authority() -> Callable[..., Authority]:
    return build_authority


@pytest.fixture(scope="session")
def responder_certificate() -> Callable[..., x509.Certificate]:
    return build_responder_certificate


@pytest.fixture(scope="session")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystore]:
    folder = tmp_path_factory.mktemp("ocsp-token")
    settings = HsmSettings(pin_file=folder / "pin", softhsm_conf=folder / "softhsm2.conf")
    initialise_token(settings, "5093-not-a-secret")
    store = open_keystore(settings)
    for label in ("ocsp-citizen-sign-g1-1", "ocsp-service-g1-1"):
        store.generate(label, KeyPurpose.OCSP, KeyAlgorithm.P256)
    yield store
    store.close()


@dataclass
class Live:
    """A responder at ``url``, keys in a token, by the machine's own clock; certificates as files for other tools."""

    service: Service
    url: str
    folder: Path

    def files(self, authority: Authority, serial: int) -> tuple[Path, Path]:
        """PEM files of a certificate and its issuer."""
        leaf, issuer = self.folder / f"{authority.slug}-{serial}.pem", self.folder / f"{authority.slug}.pem"
        leaf.write_bytes(authority.leaf(serial).public_bytes(Encoding.PEM))
        issuer.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
        return leaf, issuer


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's own name
        pass


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory, keystore: Keystore) -> Iterator[Live]:
    now = utc_now()
    people = build_authority("citizen-sign-g1", keystore.key("ocsp-citizen-sign-g1-1"), now, odd_identifier=False)
    infrastructure = build_authority("service-g1", keystore.key("ocsp-service-g1-1"), now, odd_identifier=False)
    service = build_service(people, infrastructure, now=now, clock=utc_now)
    with make_server("127.0.0.1", 0, endpoints.wsgi(service.parts), handler_class=_Quiet) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield Live(service, f"http://127.0.0.1:{server.server_port}/ocsp", tmp_path_factory.mktemp("ocsp-files"))
        server.shutdown()
