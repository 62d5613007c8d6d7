"""The responder that ``bench_ocsp`` serves with granian: keys and certificates come from a folder."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from core.clock import utc_now
from ocsp import endpoints
from ocsp.parts import assemble
from ocsp.ports import Good, Issuer, ResponderCredential, Status
from ocsp.settings import OcspSettings


class _Everything:
    """A register in which every serial is good."""

    def __init__(self, folder: Path) -> None:
        key = load_pem_private_key((folder / "responder.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._credential = ResponderCredential(_der(folder / "responder.pem"), key)
        self._issuer = Issuer("citizen-sign-g1", _der(folder / "issuer.pem"))
        self._good = Good(utc_now() - timedelta(days=1))

    def issuers(self) -> list[Issuer]:
        return [self._issuer]

    def status(self, issuer: str, serial: int) -> Status:
        return self._good

    def current(self, issuer: str) -> ResponderCredential:
        return self._credential


def _der(path: Path) -> bytes:
    return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)


_everything = _Everything(Path(os.environ["OCSP_BENCH_FOLDER"]))
application = endpoints.wsgi(
    assemble(settings=OcspSettings(reuse_seconds=0), clock=utc_now, statuses=_everything, responders=_everything)
)
