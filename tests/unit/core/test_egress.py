"""Outgoing requests reach public addresses or opened networks, and nothing that answers can hold or trick us."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from core.egress import MAX_ANSWER_OCTETS, Egress, EgressFailed, EgressRefused
from tests.support.processes import free_port
from tests.unit.core.loopback import Answer, LoopbackServer, ok, says

LOOPBACK = ("127.0.0.0/8", "::1/128")


@pytest.fixture
def opened() -> Egress:
    return Egress(allowed_networks=LOOPBACK)


@pytest.fixture
def trap() -> Iterator[LoopbackServer]:
    """A server that must never be asked."""
    with LoopbackServer(says(ok(b"internal"))) as server:
        yield server
        assert server.requests == []


def resolve_as(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name have these addresses, as a name server under a stranger's control would say."""
    genuine = socket.getaddrinfo

    def resolve(host: object, port: object, *_rest: object, **_named: object) -> list[object]:
        known = addresses if host == "rebinding.example" else [str(host)]
        return [entry for address in known for entry in genuine(address, int(str(port)), type=socket.SOCK_STREAM)]

    monkeypatch.setattr("socket.getaddrinfo", resolve)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",  # decimal
        "017700000001",  # octal
        "0177.0.0.1",
        "0x7f000001",  # hexadecimal
        "0x7f.1",
        "0.0.0.0",  # noqa: S104 - nothing is bound
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",  # mapped
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",  # compatible, deprecated
        "[64:ff9b::127.0.0.1]",  # NAT64
        "[2002:7f00:1::]",  # 6to4
        "[2001:0:7f00:1::1]",  # Teredo
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",  # shared address space
        "169.254.169.254",  # link-local: cloud metadata
        "[::ffff:169.254.169.254]",
        "[fe80::1]",
        "[fd00::1]",
        "[fec0::1]",
        "[ff02::1]",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "198.18.0.1",
        "240.0.0.1",
        "[2001:db8::1]",
    ],
)
def test_an_address_that_is_not_public_is_refused_in_every_spelling(trap: LoopbackServer, host: str) -> None:
    with pytest.raises(EgressRefused):
        Egress().get(f"http://{host}:{trap.port}/")
    with pytest.raises(EgressRefused):
        Egress().post(f"https://{host}:{trap.port}/", b"{}", "application/json")


@pytest.mark.parametrize(
    "url",
    [
        "http://user:word@127.0.0.1:{port}/",
        "http://user@127.0.0.1:{port}/",
        "http://@127.0.0.1:{port}/",
        "http://127.0.0.1:{port}\\@elsewhere.example/",
        "http://elsewhere.example@127.0.0.1:{port}/",
        "http://127.0.0.1:{port}/a b",
        "http://127.0.0.1:{port}/\r\nX-Injected: 1",
        "http://127.0.0.1:{port}/?a=\nb",
        "\thttp://127.0.0.1:{port}/",
        "http://127.0.0.1:{port}/ө",
        "http://тамга.example:{port}/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:port/",
        "http://[127.0.0.1:{port}/",
        "http:///{port}",
        "//127.0.0.1:{port}/",
        "ftp://127.0.0.1:{port}/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/",
        "",
    ],
)
def test_what_is_not_a_plain_http_address_is_refused_even_in_an_opened_network(
    opened: Egress, trap: LoopbackServer, url: str
) -> None:
    with pytest.raises(EgressRefused):
        opened.get(url.format(port=trap.port))


def test_one_private_address_among_public_ones_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_as(monkeypatch, "93.184.216.34", "10.0.0.1")
    with pytest.raises(EgressRefused):
        Egress().get("https://rebinding.example/")


def test_a_public_address_is_asked_over_tls_only(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_as(monkeypatch, "93.184.216.34")
    with pytest.raises(EgressRefused, match="https"):
        Egress().get("http://rebinding.example/")


def test_the_name_is_resolved_once_and_the_checked_address_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    genuine = socket.getaddrinfo

    def resolve(host: object, port: object, *_rest: object, **_named: object) -> list[object]:
        asked.append(host)
        address = "127.0.0.1" if host == "rebinding.example" else str(host)
        return [*genuine(address, int(str(port)), type=socket.SOCK_STREAM)]

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    with LoopbackServer(says(ok())) as server:
        Egress(allowed_networks=LOOPBACK).get(f"http://rebinding.example:{server.port}/")
    assert asked.count("rebinding.example") == 1


def test_an_opened_network_is_reached_and_the_answer_comes_back_as_it_is(opened: Egress) -> None:
    with LoopbackServer(says(ok("Ө".encode(), b"X-Mark: 1", b"Connection: close"))) as server:
        answer = opened.post(f"http://127.0.0.1:{server.port}/hook?a=1#part", b'{"n":1}', "application/json")
    assert (answer.status, answer.body, answer.headers["x-mark"]) == (200, "Ө".encode(), "1")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /hook?a=1 HTTP/1.1\r\n")
    assert b"Host: 127.0.0.1:%d\r\n" % server.port in head + b"\r\n"
    assert b"Content-Type: application/json" in head
    assert body == b'{"n":1}'


def test_a_network_is_opened_for_its_own_addresses_only(trap: LoopbackServer) -> None:
    with pytest.raises(EgressRefused):
        Egress(allowed_networks=("127.0.0.2/32", "10.0.0.0/8")).get(f"http://127.0.0.1:{trap.port}/")


def test_a_mapped_address_counts_as_the_one_it_means(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_as(monkeypatch, "::ffff:127.0.0.1")
    with LoopbackServer(says(ok(b"x"))) as server:
        egress = Egress(allowed_networks=("127.0.0.0/8",))
        assert egress.get(f"http://rebinding.example:{server.port}/").body == b"x"


def test_localhost_is_reached_whichever_of_its_addresses_listens(opened: Egress) -> None:
    with LoopbackServer(says(ok(b"x"))) as server:
        assert opened.get(f"http://localhost:{server.port}/").body == b"x"


def test_a_name_whose_first_address_does_not_listen_is_reached_at_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_as(monkeypatch, "127.0.0.2", "127.0.0.1")
    with LoopbackServer(says(ok(b"x"))) as server:
        assert Egress(allowed_networks=LOOPBACK).get(f"http://rebinding.example:{server.port}/").body == b"x"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_not_followed(opened: Egress, trap: LoopbackServer, status: int) -> None:
    moved = b"HTTP/1.1 %d Moved\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n" % (status, trap.port)
    with LoopbackServer(says(moved)) as server:
        assert opened.get(f"http://127.0.0.1:{server.port}/").status == status


def test_a_proxy_of_the_environment_is_not_used(
    opened: Egress, trap: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{trap.port}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{trap.port}")
    with LoopbackServer(says(ok(b"x"))) as server:
        assert opened.get(f"http://127.0.0.1:{server.port}/").body == b"x"


def test_a_body_of_exactly_the_limit_is_taken(opened: Egress) -> None:
    with LoopbackServer(says(ok(b"a" * MAX_ANSWER_OCTETS))) as server:
        assert len(opened.get(f"http://127.0.0.1:{server.port}/").body) == MAX_ANSWER_OCTETS


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_ANSWER_OCTETS + 1),
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    ],
)
def test_a_larger_body_is_refused_with_and_without_its_length(opened: Egress, head: bytes) -> None:
    larger = says(head + b"a" * (MAX_ANSWER_OCTETS + 1))
    with LoopbackServer(larger) as server, pytest.raises(EgressFailed, match="more than"):
        opened.get(f"http://127.0.0.1:{server.port}/")


def test_a_compressed_answer_nobody_asked_for_is_not_unpacked(opened: Egress) -> None:
    bomb = gzip.compress(b"\0" * 20_000_000)
    with LoopbackServer(says(ok(bomb, b"Content-Encoding: gzip"))) as server:
        assert opened.get(f"http://127.0.0.1:{server.port}/").body == bomb
    assert b"Accept-Encoding: identity" in server.requests[0]


def dripping(begin: bytes) -> Answer:
    """Octets that come often enough for a socket's timeout and would go on for minutes."""

    def drip(connection: socket.socket, enough: threading.Event) -> None:
        connection.sendall(begin)
        for _ in range(6000):
            connection.sendall(b"a")
            if enough.wait(0.02):
                return

    return drip


@pytest.mark.parametrize(
    "begin", [b"", b"HTTP/1.1 200 OK\r\nX-Endless: ", b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n"]
)
def test_a_server_that_drips_its_answer_is_cut_off(begin: bytes) -> None:
    egress = Egress(allowed_networks=LOOPBACK, timeout=0.3)
    with LoopbackServer(dripping(begin)) as server, pytest.raises(EgressFailed):
        egress.get(f"http://127.0.0.1:{server.port}/")


def test_a_server_that_says_nothing_is_given_up() -> None:
    egress = Egress(allowed_networks=LOOPBACK, timeout=0.2)
    with LoopbackServer(lambda _connection, enough: enough.wait(30)) as server, pytest.raises(EgressFailed):
        egress.get(f"http://127.0.0.1:{server.port}/")


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"\x00\xff\r\n\r\n",
        b"HTTP/1.1 banana\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\na",
        b"HTTP/1.1 200 OK\r\n" + b"X-Many: 1\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 70_000 + b"\r\n\r\n",
    ],
)
def test_an_answer_that_is_not_http_is_a_failure_of_the_other_side(opened: Egress, nonsense: bytes) -> None:
    with LoopbackServer(says(nonsense)) as server, pytest.raises(EgressFailed):
        opened.get(f"http://127.0.0.1:{server.port}/")


def test_an_address_where_nobody_listens_is_a_failure(opened: Egress) -> None:
    with pytest.raises(EgressFailed):
        opened.get(f"http://127.0.0.1:{free_port()}/")


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example", "."])
def test_a_name_that_cannot_be_resolved_is_a_failure(opened: Egress, host: str) -> None:
    with pytest.raises(EgressFailed):
        opened.get(f"http://{host}/")


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for ``localhost`` that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder


@pytest.fixture
def tls(certified: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certified / "certificate.pem", certified / "key.pem")
    return context


def test_tls_is_checked_against_the_name_that_was_registered(certified: Path, tls: ssl.SSLContext) -> None:
    egress = Egress(allowed_networks=LOOPBACK, ca_file=str(certified / "certificate.pem"))
    with LoopbackServer(says(ok(b"x")), tls=tls) as server:
        assert egress.get(f"https://localhost:{server.port}/").body == b"x"
        with pytest.raises(EgressFailed):  # the same server under a name that its certificate does not hold
            egress.get(f"https://127.0.0.1:{server.port}/")
    assert len(server.requests) == 1


def test_a_certificate_nobody_vouches_for_is_refused_before_anything_is_sent(tls: ssl.SSLContext) -> None:
    with LoopbackServer(says(ok(b"x")), tls=tls) as server, pytest.raises(EgressFailed):
        Egress(allowed_networks=LOOPBACK).post(f"https://localhost:{server.port}/", b"secret", "text/plain")
    assert server.requests == []


def test_a_server_that_drips_under_tls_is_cut_off(certified: Path, tls: ssl.SSLContext) -> None:
    egress = Egress(allowed_networks=LOOPBACK, ca_file=str(certified / "certificate.pem"), timeout=0.5)
    with LoopbackServer(dripping(b""), tls=tls) as server, pytest.raises(EgressFailed):
        egress.get(f"https://localhost:{server.port}/")
