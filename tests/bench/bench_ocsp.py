"""How fast status answers are made: signed anew beside the library's builder, with a token key beside the bare token,
again from memory beside a dictionary, and over HTTP beside openssl's own responder."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp as library

from core.clock import utc_now
from hsm.keystore import KeyAlgorithm, KeyPurpose, Keystore, initialise_token, open_keystore
from hsm.settings import HsmSettings
from ocsp import endpoints
from ocsp.request import parse_request
from tests.bench.harness import Bench, Contest, Operation
from tests.support.status_service import Authority, Service, build_authority, build_service, call


@contextmanager
def token() -> Iterator[Keystore]:
    """A SoftHSM token that lives as long as the benchmark."""
    folder = Path(tempfile.mkdtemp(prefix="tamga-bench-"))
    settings = HsmSettings(pin_file=folder / "pin", softhsm_conf=folder / "softhsm2.conf")
    initialise_token(settings, "4417-not-a-secret")
    keystore = open_keystore(settings)
    try:
        yield keystore
    finally:
        keystore.close()
        shutil.rmtree(folder)


def _service(responder_key: object = None, **settings: object) -> Service:
    now = utc_now()
    people = build_authority("citizen-sign-g1", responder_key, now)
    return build_service(people, build_authority("service-g1", now=now), now=now, clock=utc_now, **settings)


def _nonced(authority: Authority, serial: int) -> Callable[[], bytes]:
    """Requests that differ in their nonce alone."""
    builder = library.OCSPRequestBuilder().add_certificate(
        authority.leaf(serial), authority.certificate, hashes.SHA256()
    )
    template = builder.add_extension(x509.OCSPNonce(b"\x5a" * 32), critical=False).build().public_bytes(Encoding.DER)
    head, tail = template.split(b"\x5a" * 32)
    return lambda: head + os.urandom(32) + tail


@contextmanager
def signed() -> Iterator[Contest]:
    """From request bytes to a newly signed answer, both with the same software key."""
    service = _service(reuse_seconds=0)
    people, responder = service.people, service.parts.responder
    request, leaf = people.request(service.GOOD), people.leaf(service.GOOD)

    def theirs() -> bytes:
        asked = library.load_der_ocsp_request(request)
        now = utc_now().replace(microsecond=0)
        builder = library.OCSPResponseBuilder().add_response(
            cert=leaf if asked.serial_number == service.GOOD else people.certificate,
            issuer=people.certificate,
            algorithm=asked.hash_algorithm,
            cert_status=library.OCSPCertStatus.GOOD,
            this_update=now,
            next_update=now + timedelta(hours=12),
            revocation_time=None,
            revocation_reason=None,
        )
        builder = builder.responder_id(library.OCSPResponderEncoding.HASH, people.responder)
        answer = builder.certificates([people.responder]).sign(people.responder_key, hashes.SHA256())
        return answer.public_bytes(Encoding.DER)

    yield Contest(ours=lambda: responder.answer(parse_request(request)), peer=theirs)


@contextmanager
def nonced() -> Iterator[Contest]:
    """Nonced answers with a token key; the floor is the token's signature over as many bytes."""
    with token() as keystore:
        key = keystore.generate("ocsp-citizen-sign-g1-1", KeyPurpose.OCSP, KeyAlgorithm.P256)
        service = _service(key)
        request = _nonced(service.people, service.GOOD)
        data, algorithm = os.urandom(250), ec.ECDSA(hashes.SHA256())
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        yield Contest(
            ours=lambda: service.parts.responder.answer(parse_request(request())),
            peer=lambda: key.sign(data, algorithm),
        )


@contextmanager
def again() -> Iterator[Contest]:
    """The whole WSGI call for an answer signed before; the floor gives the same bytes out of a dictionary."""
    service = _service()
    application, request = endpoints.wsgi(service.parts), service.people.request(service.GOOD)
    answers = {request: service.post(request).body}

    def floor(environ, start_response):  # type: ignore[no-untyped-def]
        body = answers[environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))]
        etag = hashlib.sha256(body).hexdigest()
        start_response("200 OK", [("Content-Type", "application/ocsp-response"), ("ETag", etag)])
        return [body]

    yield Contest(
        ours=lambda: call(application, "", request, "POST", {}),
        peer=lambda: call(floor, "", request, "POST", {}),
    )


@contextmanager
def over_http() -> Iterator[Contest]:
    """New connections to granian with our responder and to ``openssl ocsp``, both signing every answer in software."""
    service = _service(reuse_seconds=0)
    folder = Path(tempfile.mkdtemp(prefix="tamga-bench-"))
    request = service.people.request(service.GOOD)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        ours, theirs = _free_port(), _free_port()
        ask_ours, ask_theirs = _asking(ours, request), _asking(theirs, request)
        stack.enter_context(_running(_granian(service, folder, ours), ask_ours))
        stack.enter_context(_running(_openssl(service, folder, theirs), ask_theirs))
        yield Contest(ours=ask_ours, peer=ask_theirs)


def _granian(service: Service, folder: Path, port: int) -> list[str]:
    _write_key(folder / "responder.key", service.people.responder_key)
    (folder / "responder.pem").write_bytes(service.people.responder.public_bytes(Encoding.PEM))
    (folder / "issuer.pem").write_bytes(service.people.certificate.public_bytes(Encoding.PEM))
    os.environ["OCSP_BENCH_FOLDER"] = str(folder)
    target = "tests.bench.ocsp_application:application"
    serving = ["--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return [sys.executable, "-m", "granian", *serving, "--blocking-threads", "1", "--no-access-log", target]


def _openssl(service: Service, folder: Path, port: int) -> list[str]:
    index = folder / "index.txt"
    index.write_text(f"V\t360101000000Z\t\t{service.GOOD:X}\tunknown\t/C=MN/CN=Holder\n")
    keys = ["-rsigner", f"{folder}/responder.pem", "-rkey", f"{folder}/responder.key", "-CA", f"{folder}/issuer.pem"]
    return ["openssl", "ocsp", "-port", str(port), "-index", str(index), *keys, "-nmin", "720"]


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(command: list[str], ask: Operation) -> Iterator[None]:
    """A server process, once it answers. It is asked and not just connected to: openssl's serves one at a time."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for attempt in range(200):
            try:
                ask()
                break
            except OSError:
                if attempt == 199 or process.poll() is not None:
                    raise
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


def _asking(port: int, request: bytes) -> Operation:
    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("POST", "/ocsp", request, {"Content-Type": "application/ocsp-request"})
        body = connection.getresponse().read()
        connection.close()
        assert len(body) > 300

    return ask


BENCHES = (
    Bench("ocsp-signed", signed, "cryptography OCSPResponseBuilder", "answers/s"),
    Bench("ocsp-nonced", nonced, "SoftHSM P-256 signature", "answers/s", "floor: the signature alone"),
    Bench("ocsp-again", again, "dictionary by request bytes", "answers/s", "floor: no parsing, no register, no checks"),
    Bench("ocsp-http", over_http, "openssl ocsp responder", "answers/s", "a connection per question, one worker"),
)
