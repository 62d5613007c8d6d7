"""What ACME needs around it: a name server, an answering host, and a client that can also say everything wrong."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


class NameServer:
    """Answers questions over UDP on a loopback port. ``records`` maps (name, type) to a list of texts, or to a
    function that gives the list anew for each question; ``asked`` remembers the questions."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.records: dict[tuple[str, str], list[str] | Callable[[], list[str]]] = {}
        self.asked: list[tuple[str, str]] = []
        self.rcode = dns.rcode.NOERROR
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def forget(self) -> None:
        """Know nothing any more."""
        self.records.clear()
        self.asked.clear()
        self.rcode = dns.rcode.NOERROR

    @property
    def setting(self) -> str:
        """As ``ca.acme.resolvers`` takes it."""
        return f"127.0.0.1@{self.port}"

    def __enter__(self) -> NameServer:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            self._socket.settimeout(0.2)
            try:
                octets, peer = self._socket.recvfrom(4096)
            except TimeoutError:
                continue
            except OSError:
                return
            self._socket.sendto(self._answer(octets), peer)

    def _answer(self, octets: bytes) -> bytes:
        query = dns.message.from_wire(octets)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        answer.set_rcode(self.rcode)
        held = self.records.get((name, kind), [])
        texts = held() if callable(held) else held
        if texts:
            answer.answer.append(dns.rrset.from_text(question.name, 1, "IN", kind, *texts))
        elif self.rcode == dns.rcode.NOERROR and not any(known == name for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer.to_wire()


class Host:
    """A host on a loopback port that answers http-01. ``answers`` maps paths to status, headers and body."""

    def __init__(self, port: int = 0) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.asked.append(self.path)
                status, headers, body = host.answers.get(self.path, (404, {}, b"nothing"))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def forget(self) -> None:
        """Answer nothing any more."""
        self.answers.clear()
        self.asked.clear()

    def serve(self, token: str, text: str) -> None:
        """Answer a challenge."""
        self.answers[f"/.well-known/acme-challenge/{token}"] = (200, {}, text.encode())

    def __enter__(self) -> Host:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


# Signing requests ----------------------------------------------------------------------------------------------------


def b64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _number(value: int, octets: int | None = None) -> str:
    return b64(value.to_bytes(octets or (value.bit_length() + 7) // 8, "big"))


def jwk(key: PrivateKey) -> dict[str, str]:
    """The public half as JWK."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return {"kty": "OKP", "crv": "Ed25519", "x": b64(key.public_key().public_bytes_raw())}
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}
    point, octets = key.public_key().public_numbers(), (key.curve.key_size + 7) // 8
    curve = {256: "P-256", 384: "P-384", 521: "P-521"}[key.curve.key_size]
    return {"kty": "EC", "crv": curve, "x": _number(point.x, octets), "y": _number(point.y, octets)}


def thumbprint(key: PrivateKey) -> str:
    return b64(hashlib.sha256(json.dumps(jwk(key), sort_keys=True, separators=(",", ":")).encode()).digest())


def algorithm(key: PrivateKey) -> str:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "EdDSA"
    if isinstance(key, rsa.RSAPrivateKey):
        return "RS256"
    return {256: "ES256", 384: "ES384", 521: "ES512"}[key.curve.key_size]


def signature(key: PrivateKey, data: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    digest = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[key.curve.key_size]
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
    octets = (key.curve.key_size + 7) // 8
    return r.to_bytes(octets, "big") + s.to_bytes(octets, "big")


def flattened(header: Mapping[str, Any], payload: bytes, sign: Callable[[bytes], bytes]) -> dict[str, str]:
    """A JWS in flattened form over whatever header is given."""
    protected, content = b64(json.dumps(header).encode()), b64(payload)
    return {"protected": protected, "payload": content, "signature": b64(sign(f"{protected}.{content}".encode()))}


def binding(name: str, mac_key: bytes, target: str, key: PrivateKey, **header: Any) -> dict[str, str]:
    """An external account binding (RFC 8555 7.3.4). Members of its header that are given as None are left out."""
    members = {"alg": "HS256", "kid": name, "url": target, **header}
    kept = {member: value for member, value in members.items() if value is not None}

    def sign(data: bytes) -> bytes:
        mac = hmac.HMAC(mac_key, hashes.SHA256())
        mac.update(data)
        return mac.finalize()

    return flattened(kept, json.dumps(jwk(key)).encode(), sign)


def csr(key: PrivateKey, *names: str, common_name: str | None = None, more: tuple[x509.GeneralName, ...] = ()) -> bytes:
    """A request in DER for DNS names and addresses."""

    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    attributes = [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)] if common_name else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if found or more:
        builder = builder.add_extension(x509.SubjectAlternativeName([*found, *more]), critical=False)
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(Encoding.DER)


# A client that can also do everything wrong --------------------------------------------------------------------------


class Client:
    """Speaks ACME to a Flask application. Every part of a request can be replaced by something else."""

    def __init__(self, http: Any, base: str = "http://localhost/acme", key: PrivateKey | None = None) -> None:
        self.http = http
        self.base = base
        self.key: PrivateKey = key or ec.generate_private_key(ec.SECP256R1())
        self.kid: str | None = None

    def url(self, *parts: str) -> str:
        return "/".join((self.base, *parts))

    def nonce(self) -> str:
        return str(self.http.head(self.url("new-nonce")).headers["Replay-Nonce"])

    def message(self, target: str, payload: Any, *, key: PrivateKey | None = None, **header: Any) -> dict[str, str]:
        """A signed request. A payload of None reads; header members that are given as None are left out."""
        key = key or self.key
        shown: dict[str, Any] = {"kid": self.kid} if self.kid and "jwk" not in header else {"jwk": jwk(key)}
        members = {"alg": algorithm(key), "url": target, **shown, **header}
        if "nonce" not in members:
            members["nonce"] = self.nonce()
        content = b"" if payload is None else payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        kept = {name: value for name, value in members.items() if value is not None}
        return flattened(kept, content, lambda data: signature(key, data))

    def post(self, target: str, payload: Any = None, *, key: PrivateKey | None = None, **header: Any) -> Any:
        return self.send(target, self.message(target, payload, key=key, **header))

    def send(self, url: str, message: Any, content_type: str = "application/jose+json") -> Any:
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        return self.http.post(url, data=data, content_type=content_type)

    # The usual way -------------------------------------------------------------------------------------------------

    def register(self, kid: str, mac_key: str, **payload: Any) -> Any:
        """Open an account with an external account key."""
        url = self.url("new-account")
        bound = binding(kid, unb64(mac_key), url, self.key)
        answer = self.post(url, {"externalAccountBinding": bound, **payload}, kid=None, jwk=jwk(self.key))
        if answer.status_code < 300:
            self.kid = answer.headers["Location"]
        return answer

    def order(self, *names: str, **payload: Any) -> Any:
        """Ask for a certificate; names that are addresses are taken for such."""
        identifiers = [{"type": "ip" if _is_address(name) else "dns", "value": name} for name in names]
        return self.post(self.url("new-order"), {"identifiers": identifiers, **payload})

    def challenges(self, order: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """The value and the challenges by type of each pending authorization."""
        found = []
        for url in order["authorizations"]:
            authorization = self.post(url).json
            if authorization["status"] == "pending":
                kinds = {challenge["type"]: challenge for challenge in authorization["challenges"]}
                found.append((authorization["identifier"]["value"], kinds))
        return found

    def proof(self, challenge: Mapping[str, Any]) -> str:
        """The key authorization."""
        return f"{challenge['token']}.{thumbprint(self.key)}"

    def dns_proof(self, challenge: Mapping[str, Any]) -> str:
        return b64(hashlib.sha256(self.proof(challenge).encode()).digest())

    def finalize(self, order: Mapping[str, Any], request: bytes) -> Any:
        return self.post(order["finalize"], {"csr": b64(request)})


def problem(answer: Any) -> str:
    """The type of a problem document, without its namespace."""
    assert answer.content_type == "application/problem+json", answer.text
    assert answer.json["status"] == answer.status_code
    return str(answer.json["type"]).removeprefix("urn:ietf:params:acme:error:")


def _is_address(text: str) -> bool:

    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class OverHttp:
    """Asks a running instance, with as much of Flask's test client as ``Client`` needs."""

    class Answer:
        """What came back."""

        def __init__(self, answer: urllib3.BaseHTTPResponse) -> None:
            self.status_code, self.headers, self.data = answer.status, answer.headers, answer.data
            self.content_type = answer.headers.get("Content-Type", "")

        @property
        def text(self) -> str:
            return self.data.decode()

        @property
        def json(self) -> Any:
            return json.loads(self.data)

    def head(self, url: str) -> OverHttp.Answer:
        return OverHttp.Answer(urllib3.request("HEAD", url, retries=False, timeout=60))

    def get(self, url: str) -> OverHttp.Answer:
        return OverHttp.Answer(urllib3.request("GET", url, retries=False, timeout=60))

    def post(self, url: str, data: bytes, content_type: str) -> OverHttp.Answer:
        return OverHttp.Answer(
            urllib3.request("POST", url, body=data, headers={"Content-Type": content_type}, retries=False, timeout=60)
        )
