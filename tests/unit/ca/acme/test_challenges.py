from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import create_server
from typing import Any

import dns.rcode
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ca.acme.worker import Worker
from core.egress import EgressRefused
from tests.support.acme import problem
from tests.support.processes import free_port
from tests.support.web import until

NAME = "www.agency.example"
PAUSES = (2, 5, 15)


def asked(server: Any, client: Any, kind: str = "http-01", name: str = NAME) -> tuple[Any, dict[str, Any]]:
    """An order for one name, and its challenge of a kind."""
    made = client.order(name)
    ((_, challenges),) = client.challenges(made.json)
    return {**made.json, "url": made.headers["Location"]}, challenges[kind]


def look(server: Any, client: Any, challenge: Any, times: int = 4) -> dict[str, Any]:
    """Answer the challenge and look at it so often; the challenge afterwards."""
    client.post(challenge["url"], {})
    for pause in (*PAUSES, 60)[:times]:
        server.parts.challenges.validate_due()
        server.room.clock.advance(timedelta(seconds=pause))
    found: dict[str, Any] = client.post(challenge["url"]).json
    return found


def kind_of(problem_document: Any) -> str:
    return str(problem_document["type"]).rpartition(":")[2]


# The way of a challenge ----------------------------------------------------------------------------------------------


def test_a_challenge_is_looked_at_after_its_answer(server: Any, client: Any) -> None:
    order, challenge = asked(server, client)
    server.host.serve(challenge["token"], client.proof(challenge) + "\r\n")
    assert server.parts.challenges.validate_due() == (0, 0)
    answered = client.post(challenge["url"], {})
    assert (answered.json["status"], answered.headers["Retry-After"]) == ("processing", "2")
    assert [link for link in answered.headers.getlist("Link") if link == f'<{order["authorizations"][0]}>;rel="up"']
    assert server.parts.worker.woken == 1
    assert server.parts.challenges.validate_due() == (1, 0)
    done = client.post(challenge["url"]).json
    assert (done["status"], "validated" in done) == ("valid", True)
    authorization = client.post(order["authorizations"][0]).json
    assert authorization["status"] == "valid"
    assert [each["type"] for each in authorization["challenges"]] == ["http-01"]
    assert client.post(order["url"]).json["status"] == "ready"
    assert server.room.facts("ca:acme_authorization:validated")["value"] == NAME
    # Answering again changes nothing.
    assert client.post(challenge["url"], {}).json["status"] == "valid"


def test_a_wrong_answer_is_looked_at_again_and_then_fails(server: Any, client: Any) -> None:
    order, challenge = asked(server, client)
    server.host.serve(challenge["token"], "something else")
    client.post(challenge["url"], {})
    for pause in PAUSES:
        assert server.parts.challenges.validate_due() == (0, 1)
        now = client.post(challenge["url"]).json
        assert (now["status"], kind_of(now["error"])) == ("processing", "incorrectResponse")
        assert server.parts.challenges.validate_due() == (0, 0), "not before its time"
        server.room.clock.advance(timedelta(seconds=pause))
    assert server.parts.challenges.validate_due() == (0, 1)
    assert client.post(challenge["url"]).json["status"] == "invalid"
    assert client.post(order["authorizations"][0]).json["status"] == "invalid"
    failed = client.post(order["url"]).json
    assert (failed["status"], failed["error"]["identifier"]["value"]) == ("invalid", NAME)
    assert "ca:acme_authorization:failed" in server.room.events()


def test_an_answer_that_comes_late_counts(server: Any, client: Any) -> None:
    _, challenge = asked(server, client)
    client.post(challenge["url"], {})
    assert server.parts.challenges.validate_due() == (0, 1)
    server.host.serve(challenge["token"], client.proof(challenge))
    server.room.clock.advance(timedelta(seconds=2))
    assert server.parts.challenges.validate_due() == (1, 0)


def test_a_challenge_whose_process_died_is_looked_at_by_another(server: Any, client: Any) -> None:
    _, challenge = asked(server, client)
    server.host.serve(challenge["token"], client.proof(challenge))
    client.post(challenge["url"], {})
    taken = server.parts.challenges.take_due()
    assert taken is not None
    assert server.parts.challenges.take_due() is None, "one at a time"
    server.room.clock.advance(timedelta(seconds=121))
    assert server.parts.challenges.validate_due() == (1, 0)
    # The first one was only slow: what it saw no longer counts.
    before = server.room.check_audit()
    server.parts.challenges.look(taken)
    assert server.room.check_audit() == before
    assert client.post(challenge["url"]).json["status"] == "valid"


def test_a_process_that_is_alone_takes_up_what_the_last_one_had(server: Any, client: Any) -> None:
    _, challenge = asked(server, client)
    server.host.serve(challenge["token"], client.proof(challenge))
    client.post(challenge["url"], {})
    assert server.parts.challenges.take_due() is not None
    server.parts.release()
    assert server.parts.challenges.validate_due() == (1, 0)


def test_the_threads_of_a_process_look_by_themselves(server: Any, client: Any) -> None:
    worker = Worker(server.parts.challenges, threads=2, clock=lambda: datetime.now(UTC))
    order, challenge = asked(server, client)
    _, missing = asked(server, client, name="gone.agency.example")
    server.host.serve(challenge["token"], client.proof(challenge))
    for each in (challenge, missing):
        client.post(each["url"], {})
    for _ in range(5):
        worker.wake()
    until(lambda: client.post(order["url"]).json["status"] == "ready", every=0.05)
    # The other one is still open: its thread waits for the next attempt and takes it up.
    worker.wake()
    server.names.records["gone.agency.example", "A"] = ["127.0.0.1"]
    server.host.serve(missing["token"], client.proof(missing))
    server.room.clock.advance(timedelta(seconds=3))
    worker.wake()
    until(lambda: client.post(missing["url"]).json["status"] == "valid", every=0.05)
    until(lambda: worker._running == 0, every=0.05)
    assert not [thread for thread in threading.enumerate() if thread.name == "acme-validation"]


def test_a_thread_that_breaks_is_replaced_at_the_next_call(
    server: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(server.parts.challenges, threads=1, clock=lambda: datetime.now(UTC))
    order, challenge = asked(server, client)
    server.host.serve(challenge["token"], client.proof(challenge))
    client.post(challenge["url"], {})

    def broken() -> None:
        raise OSError("the database is away")

    with monkeypatch.context() as patched:
        patched.setattr(server.parts.challenges, "take_due", broken)
        worker.wake()
        until(lambda: worker._running == 0, every=0.05)
    worker.wake()
    until(lambda: client.post(order["url"]).json["status"] == "ready", every=0.05)


def test_many_failures_are_put_off(room: Any, make_server: Any) -> None:
    server = make_server(room, failures_per_hour=2, validation_attempts=1)
    client = server.client()
    for _ in range(2):
        _, challenge = asked(server, client)
        assert look(server, client, challenge, times=1)["status"] == "invalid"
    _, challenge = asked(server, client)
    answer = client.post(challenge["url"], {})
    assert (problem(answer), answer.headers["Retry-After"]) == ("rateLimited", "3600")
    _, other = asked(server, server.client())
    assert other["status"] == "pending"
    server.room.clock.advance(timedelta(hours=1))
    assert client.post(challenge["url"], {}).json["status"] == "processing"


def test_an_order_with_several_names_waits_for_all(server: Any, client: Any) -> None:
    made = client.order(NAME, "api.agency.example")
    (_, first), (value, second) = client.challenges(made.json)
    server.names.records[value, "A"] = ["127.0.0.1"]
    for challenge in (first["http-01"], second["http-01"]):
        assert client.post(made.headers["Location"]).json["status"] == "pending"
        server.host.serve(challenge["token"], client.proof(challenge))
        assert look(server, client, challenge, times=1)["status"] == "valid"
    assert client.post(made.headers["Location"]).json["status"] == "ready"


def test_a_settled_authorization_takes_no_other_answer(server: Any, client: Any) -> None:
    made = client.order(NAME)
    ((_, challenges),) = client.challenges(made.json)
    server.host.serve(challenges["http-01"]["token"], client.proof(challenges["http-01"]))
    look(server, client, challenges["http-01"], times=1)
    assert problem(client.post(challenges["dns-01"]["url"], {})) == "malformed"


# http-01 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((404, {}, b"no"), "incorrectResponse"),
        ((200, {}, b""), "incorrectResponse"),
        ((200, {}, b"x" * 100_000), "incorrectResponse"),
        ((200, {}, b"x" * 300_000), "connection"),
        ((500, {}, b""), "incorrectResponse"),
        ((302, {}, b""), "connection"),
        ((302, {"Location": "ftp://www.agency.example/"}, b""), "connection"),
        ((302, {"Location": "http://www.agency.example:22/"}, b""), "connection"),
        ((302, {"Location": "https://www.agency.example:8443/"}, b""), "connection"),
        ((302, {"Location": "http://127.0.0.1/"}, b""), "connection"),
        ((302, {"Location": "http://169.254.169.254/latest"}, b""), "connection"),
        ((302, {"Location": "http://[::1]/"}, b""), "connection"),
        ((302, {"Location": "http://user@www.agency.example/"}, b""), "connection"),
        ((302, {"Location": "http://www.agency.example:99999/"}, b""), "connection"),
        ((302, {"Location": "file:///etc/passwd"}, b""), "connection"),
        ((302, {"Location": "http://inside.example/"}, b""), "connection"),
    ],
)
def test_another_answer_proves_nothing(server: Any, client: Any, answer: Any, why: str) -> None:
    server.names.records["inside.example", "A"] = ["10.0.0.1"]
    _, challenge = asked(server, client)
    path = f"/.well-known/acme-challenge/{challenge['token']}"
    server.host.answers[path] = answer
    found = look(server, client, challenge, times=1)
    assert (found["status"], kind_of(found["error"])) == ("processing", why)
    assert server.host.asked == [path], "nothing else was fetched"


def test_a_redirect_is_followed_to_the_answer(server: Any, client: Any) -> None:
    server.names.records["other.example", "A"] = ["127.0.0.1"]
    _, challenge = asked(server, client)
    path, port = f"/.well-known/acme-challenge/{challenge['token']}", server.host.port
    server.host.answers[path] = (301, {"Location": f"http://other.example:{port}/a"}, b"")
    server.host.answers["/a"] = (307, {"Location": "b"}, b"")
    server.host.answers["/b"] = (200, {}, client.proof(challenge).encode())
    assert look(server, client, challenge, times=1)["status"] == "valid"


def test_redirects_end(server: Any, client: Any) -> None:
    _, challenge = asked(server, client)
    path = f"/.well-known/acme-challenge/{challenge['token']}"
    server.host.answers[path] = (302, {"Location": path}, b"")
    assert kind_of(look(server, client, challenge, times=1)["error"]) == "connection"
    assert len(server.host.asked) == 6


def test_another_accounts_answer_proves_nothing(server: Any, client: Any) -> None:
    _, challenge = asked(server, client)
    server.host.serve(challenge["token"], server.client().proof(challenge))
    assert look(server, client, challenge)["status"] == "invalid"


@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["127.0.0.1", "10.0.0.1"], ["169.254.169.254"], ["192.168.0.1"]])
def test_private_networks_are_not_reached(server: Any, client: Any, addresses: list[str]) -> None:
    server.names.records[NAME, "A"] = addresses
    _, challenge = asked(server, client)
    server.host.serve(challenge["token"], client.proof(challenge))
    found = look(server, client, challenge, times=1)
    assert kind_of(found["error"]) == "connection"
    assert server.host.asked == []


def test_without_an_opened_network_loopback_is_not_reached(room: Any, make_server: Any) -> None:
    server = make_server(room, networks=())
    client = server.client()
    for name in (NAME, "127.0.0.1"):
        _, challenge = asked(server, client, name=name)
        server.host.serve(challenge["token"], client.proof(challenge))
        assert kind_of(look(server, client, challenge, times=1)["error"]) == "connection"
    assert server.host.asked == []


def test_a_name_is_looked_up_once_for_each_connection(server: Any, client: Any) -> None:
    """Rebinding: the second answer would lead inside, but nobody asks for it."""
    answers = iter([["127.0.0.1"]])
    server.names.records[NAME, "A"] = lambda: next(answers, ["10.0.0.1"])
    _, challenge = asked(server, client)
    server.host.serve(challenge["token"], client.proof(challenge))
    assert look(server, client, challenge, times=1)["status"] == "valid"
    assert [question for question in server.names.asked if question == (NAME, "A")] == [(NAME, "A")]


def test_a_changed_answer_of_the_name_servers_is_seen(server: Any, client: Any) -> None:
    """Nothing is cached: an attempt goes where the name leads now."""
    server.names.records[NAME, "A"] = ["10.0.0.1"]
    _, challenge = asked(server, client)
    server.host.serve(challenge["token"], client.proof(challenge))
    assert look(server, client, challenge, times=1)["status"] == "processing"
    server.names.records[NAME, "A"] = ["127.0.0.1"]
    server.parts.challenges.validate_due()
    assert client.post(challenge["url"]).json["status"] == "valid"


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
def test_name_servers_that_do_not_answer_prove_nothing(server: Any, client: Any, rcode: Any) -> None:
    server.names.rcode = rcode
    for kind in ("http-01", "dns-01"):
        _, challenge = asked(server, client, kind)
        assert kind_of(look(server, client, challenge, times=1)["error"]) == "dns"


def test_a_name_without_address_proves_nothing(server: Any, client: Any) -> None:
    _, challenge = asked(server, client, name="gone.agency.example")
    assert kind_of(look(server, client, challenge, times=1)["error"]) == "dns"


# dns-01 --------------------------------------------------------------------------------------------------------------


def test_a_text_record_is_the_proof(server: Any, client: Any) -> None:
    _, challenge = asked(server, client, "dns-01")
    proof = client.dns_proof(challenge)
    # Among others, and cut into strings (RFC 1035 3.3.14).
    server.names.records[f"_acme-challenge.{NAME}", "TXT"] = ['"other"', f'"{proof[:10]}" "{proof[10:]}"']
    assert look(server, client, challenge, times=1)["status"] == "valid"


def test_a_changed_text_record_is_seen(server: Any, client: Any) -> None:
    _, challenge = asked(server, client, "dns-01")
    server.names.records[f"_acme-challenge.{NAME}", "TXT"] = ["stale"]
    assert kind_of(look(server, client, challenge, times=1)["error"]) == "incorrectResponse"
    server.names.records[f"_acme-challenge.{NAME}", "TXT"] = [client.dns_proof(challenge)]
    server.parts.challenges.validate_due()
    assert client.post(challenge["url"]).json["status"] == "valid"


def test_the_key_authorization_itself_is_no_text_record(server: Any, client: Any) -> None:
    _, challenge = asked(server, client, "dns-01")
    server.names.records[f"_acme-challenge.{NAME}", "TXT"] = [client.proof(challenge)]
    assert kind_of(look(server, client, challenge, times=1)["error"]) == "incorrectResponse"


# tls-alpn-01 ---------------------------------------------------------------------------------------------------------


class TlsHost:
    """Answers tls-alpn-01 with a certificate made for each test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.protocols = ["acme-tls/1"]
        self.server_names: list[str | None] = []
        self._context: ssl.SSLContext | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def show(self, names: list[x509.GeneralName], digest: bytes, *, critical: bool = True, self_signed: bool = True,
             proof: bool = True) -> None:  # fmt: skip
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "challenge")])
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
        )
        if proof:
            oid = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, b"\x04\x20" + digest), critical=critical)
        signer = key if self_signed else ec.generate_private_key(ec.SECP256R1())
        made = builder.sign(signer, hashes.SHA256())
        pem = made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = self._folder / "tls.pem"
        path.write_bytes(pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        context.set_alpn_protocols(self.protocols)
        context.sni_callback = lambda _socket, name, _context: self.server_names.append(name)
        self._context = context

    def __enter__(self) -> TlsHost:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()
        self._thread.join(5)

    def _serve(self) -> None:
        self._socket.settimeout(0.2)
        while True:
            try:
                plain, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            plain.settimeout(5)
            try:
                if self._context is not None:
                    self._context.wrap_socket(plain, server_side=True).close()
            except OSError:
                pass
            finally:
                plain.close()


@pytest.fixture
def tls_host(tmp_path: Path) -> Iterator[TlsHost]:
    with TlsHost(tmp_path) as host:
        yield host


def digest_of(client: Any, challenge: Any) -> bytes:
    import hashlib

    return hashlib.sha256(client.proof(challenge).encode()).digest()


def test_a_certificate_with_the_proof_is_taken(room: Any, make_server: Any, tls_host: TlsHost) -> None:
    server = make_server(room, tls_alpn01_port=tls_host.port)
    client = server.client()
    _, challenge = asked(server, client, "tls-alpn-01")
    tls_host.show([x509.DNSName(NAME)], digest_of(client, challenge))
    assert look(server, client, challenge, times=1)["status"] == "valid"
    assert tls_host.server_names == [NAME]


def test_an_address_is_proven_by_its_reverse_name(room: Any, make_server: Any, tls_host: TlsHost) -> None:
    import ipaddress

    server = make_server(room, tls_alpn01_port=tls_host.port)
    client = server.client()
    _, challenge = asked(server, client, "tls-alpn-01", "127.0.0.1")
    tls_host.show([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))], digest_of(client, challenge))
    assert look(server, client, challenge, times=1)["status"] == "valid"
    assert tls_host.server_names == ["1.0.0.127.in-addr.arpa"]  # RFC 8738 6


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"names": ["other.example"]}, "incorrectResponse"),
        ({"names": [NAME, "other.example"]}, "incorrectResponse"),
        ({"digest": bytes(32)}, "incorrectResponse"),
        ({"critical": False}, "incorrectResponse"),
        ({"self_signed": False}, "incorrectResponse"),
        ({"proof": False}, "incorrectResponse"),
        ({"protocols": ["http/1.1"]}, "incorrectResponse"),
        ({"protocols": []}, "incorrectResponse"),
    ],
    ids=str,
)
def test_another_certificate_proves_nothing(
    room: Any, make_server: Any, tls_host: TlsHost, changes: dict[str, Any], why: str
) -> None:
    server = make_server(room, tls_alpn01_port=tls_host.port)
    client = server.client()
    _, challenge = asked(server, client, "tls-alpn-01")
    given = dict(changes)
    tls_host.protocols = given.pop("protocols", tls_host.protocols)
    names = [x509.DNSName(name) for name in given.pop("names", [NAME])]
    tls_host.show(names, given.pop("digest", digest_of(client, challenge)), **given)
    found = look(server, client, challenge, times=1)
    assert (found["status"], kind_of(found["error"])) == ("processing", why)


def test_a_host_without_tls_proves_nothing(room: Any, make_server: Any, tls_host: TlsHost) -> None:
    server = make_server(room, tls_alpn01_port=tls_host.port)
    client = server.client()
    _, challenge = asked(server, client, "tls-alpn-01")
    assert kind_of(look(server, client, challenge, times=1)["error"]) in ("tls", "connection")


def test_nobody_at_the_tls_port_proves_nothing(room: Any, make_server: Any) -> None:
    server = make_server(room, tls_alpn01_port=free_port())
    client = server.client()
    _, challenge = asked(server, client, "tls-alpn-01")
    assert kind_of(look(server, client, challenge, times=1)["error"]) == "connection"
    server.names.records[NAME, "A"] = ["10.0.0.1"]
    with pytest.raises(EgressRefused):
        server.parts.challenges._validation._egress.addresses(f"https://{NAME}")


# CAA -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "records", "wanted"),
    [
        (NAME, [], "valid"),
        (NAME, ['0 issue "ca.example.mn"'], "valid"),
        (NAME, ['0 issue "CA.example.mn; accounturi=x"'], "valid"),
        ("agency.example", ['0 issue "ca.example.mn"'], "valid"),
        (NAME, ['0 iodef "mailto:a@agency.example"'], "valid"),
        (NAME, ['0 issue "other.example"'], "caa"),
        (NAME, ['0 issue ";"'], "caa"),
        ("agency.example", ['0 issue "other.example"'], "caa"),
        (NAME, ['128 tbs "x"'], "caa"),
    ],
    ids=str,
)
def test_caa_records_are_obeyed(room: Any, make_server: Any, where: str, records: list[str], wanted: str) -> None:
    server = make_server(room, caa_identities=("ca.example.mn",))
    assert server.http.get("/acme/directory").json["meta"]["caaIdentities"] == ["ca.example.mn"]
    client = server.client()
    if records:
        server.names.records[where, "CAA"] = records
    _, challenge = asked(server, client)
    server.host.serve(challenge["token"], client.proof(challenge))
    found = look(server, client, challenge, times=1)
    assert (kind_of(found["error"]) if "error" in found else found["status"]) == wanted


def test_issuewild_decides_over_wildcards(room: Any, make_server: Any) -> None:
    server = make_server(room, caa_identities=("ca.example.mn",))
    client = server.client()
    server.names.records["agency.example", "CAA"] = ['0 issue "ca.example.mn"', '0 issuewild "other.example"']
    _, challenge = asked(server, client, "dns-01", "*.agency.example")
    server.names.records["_acme-challenge.agency.example", "TXT"] = [client.dns_proof(challenge)]
    assert kind_of(look(server, client, challenge, times=1)["error"]) == "caa"


def test_what_caa_records_said_holds_for_eight_hours(room: Any, make_server: Any) -> None:
    server = make_server(room, caa_identities=("ca.example.mn",))
    client = server.client()
    server.issued(client)
    server.room.clock.advance(timedelta(hours=7))
    assert client.order(NAME).json["status"] == "ready"
    server.room.clock.advance(timedelta(hours=1))
    assert client.order(NAME).json["status"] == "pending"
