"""Nobody acts alone: roles and second factors at the command line, four eyes, and an organisation's application."""

from __future__ import annotations

import base64
import os
import pwd
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.support.instance import Instance, Refused
from tests.support.officers_key import SHARED_ACCOUNT, OfficersKey, bootstrap, enrol, enrol_at_once, make_key
from tests.support.tools import require_tool, run

ACCOUNT = pwd.getpwuid(os.getuid()).pw_name
CITIZEN = ("SN=Жамъян", "GN=Өлзийхүү", "CN=Ж.Өлзийхүү", "serialNumber=PNOMN-000000000017")


@dataclass(frozen=True)
class House:
    """A running instance with its officers."""

    instance: Instance
    bold: OfficersKey  # security officer
    saran: OfficersKey  # security officer
    dorj: OfficersKey  # administrator
    naran: OfficersKey  # registration officer
    oyun: OfficersKey  # registration officer
    erdene: OfficersKey  # auditor

    def refused(self, *arguments: str | Path, officer: OfficersKey | None = None) -> tuple[str, int]:
        """The code and status of a command that must not succeed."""
        with pytest.raises(Refused) as caught:
            self.instance.cli(*arguments, officer=officer)
        return caught.value.code, caught.value.status


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    instance = Instance(tmp_path_factory.mktemp("dual") / "instance")
    instance.create(before_ceremony={"[serve]\n": f"[ca]\n{SHARED_ACCOUNT}\n\n[serve]\n"})
    first = bootstrap(instance, ACCOUNT)
    others = [enrol(instance, "dorj", "ca-administrator", account=ACCOUNT, by=first)]
    roles = {"naran": ["ra-officer"], "oyun": ["ra-officer"], "erdene": ["auditor"]}
    others += enrol_at_once(instance, roles, account=ACCOUNT, by=first)
    try:
        yield House(instance.start(), *first, *others)
    finally:
        instance.stop()


@pytest.fixture
def csr(tmp_path: Path) -> Path:
    path = tmp_path / "request.pem"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ignored")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name)
    made = request.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    path.write_bytes(made.public_bytes(Encoding.PEM))
    return path


# Officers ----------------------------------------------------------------------------------------------------------


def test_the_first_officers_are_enrolled_once(house: House) -> None:
    stranger = make_key(house.instance.directory, f"x{secrets.token_hex(4)}")
    other = make_key(house.instance.directory, f"x{secrets.token_hex(4)}")
    first = [f"{each.name}:{ACCOUNT}:{each.public_key}" for each in (stranger, other)]
    asked = ("officer", "bootstrap", "--officer", first[0], "--officer", first[1])
    assert house.refused(*asked) == ("officers_enrolled", 5)


def test_an_officer_acts_with_his_key_and_his_role_or_not_at_all(house: House) -> None:
    revoke = ("cert", "revoke", "00")
    assert house.refused(*revoke) == ("second_factor_missing", 3)
    assert house.refused(*revoke, officer=house.erdene) == ("role_missing", 3)
    assert house.refused(*revoke, officer=house.naran) == ("certificate_not_found", 4)
    # An auditor reads.
    assert house.instance.cli("cert", "list", officer=house.erdene)


def test_a_change_of_roles_takes_two_and_not_the_same_one_twice(house: House) -> None:
    propose = ("officer", "propose", "naran", "--role", "ra-officer", "--role", "ca-administrator")
    request = house.instance.cli(*propose, officer=house.bold)["request"]
    assert house.refused("officer", "apply", request, officer=house.bold) == ("approval_missing", 3)
    assert house.refused("approval", "approve", request, officer=house.bold) == ("own_request", 3)
    rejected = house.instance.cli("approval", "reject", request, "--reason", "not agreed", officer=house.saran)
    assert rejected["state"] == "rejected"


def test_an_officer_signs_on_a_machine_of_his_own(house: House, tmp_path: Path) -> None:
    require_tool("openssl", "openssl")
    request = house.instance.cli("officer", "propose", "erdene", "--retire", officer=house.bold)["request"]
    text, signature = tmp_path / "text", tmp_path / "signature"
    house.instance.cli("approval", "show", request, "--text-out", text)
    asked = ("approval", "approve", request, "--officer", "saran", "--signature", signature)
    signed = run(
        "openssl", "pkeyutl", "-sign", "-rawin", "-digest", "sha256", "-inkey", house.saran.file, "-passin",
        f"pass:{house.saran.passphrase}", "-in", text, "-out", signature,
    )  # fmt: skip
    assert signed.status == 0, signed.stderr
    genuine = signature.read_bytes()
    signature.write_bytes(genuine[:-1] + bytes([genuine[-1] ^ 1]))
    assert house.refused(*asked) == ("approval_signature_refused", 3)
    signature.write_bytes(base64.encodebytes(genuine))
    assert house.instance.cli(*asked)["valid"] == 1


# Applications ------------------------------------------------------------------------------------------------------


def test_what_one_registration_officer_asks_for_another_approves(house: House, csr: Path) -> None:
    subject = [part for item in CITIZEN for part in ("--subject", item)]
    made = house.instance.cli(
        "cert", "issue", "--profile", "citizen-signature", "--csr", csr, "--evidence", "visit:1", "--holder", "p-17",
        *subject, officer=house.naran,
    )  # fmt: skip
    assert (made["state"], made["applicant"]) == ("submitted", "officer:naran")
    approve = ("application", "approve", made["id"])
    assert house.refused(*approve, officer=house.naran) == ("own_application", 3)
    issued = house.instance.cli(*approve, officer=house.oyun)
    assert house.instance.cli("cert", "show", issued["serial"])["evidence"] == "visit:1"


class Organisation:
    """A client that asks over HTTP."""

    def __init__(self, house: House, *scopes: str) -> None:
        self.house = house
        wanted = [part for scope in scopes for part in ("--scope", scope)]
        made = house.instance.cli(
            "client", "create", "--client-id", f"org-{secrets.token_hex(4)}", "--name-mn", "Банк", "--name-en", "Bank",
            "--kind", "machine", "--auth-method", "client_secret_basic", *wanted, officer=house.dorj,
        )  # fmt: skip
        self.client_id, self._secret = made["client_id"], made["client_secret"]
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        basic = urllib3.util.make_headers(basic_auth=f"{self.client_id}:{self._secret}")
        answer = self._ask("POST", "/oauth2/token", body="grant_type=client_credentials", headers={**basic, **form})
        assert answer.status == 200, answer.data
        self.token = answer.json()["access_token"]

    def _ask(self, method: str, path: str, **more: Any) -> urllib3.BaseHTTPResponse:
        return urllib3.request(method, self.house.instance.base_url + path, retries=False, timeout=30, **more)

    def ask(self, method: str, path: str, body: Any = None, key: str | None = None) -> urllib3.BaseHTTPResponse:
        headers = {"Authorization": f"Bearer {self.token}", **({"Idempotency-Key": key} if key else {})}
        return self._ask(method, path, headers=headers, **({"json": body} if body is not None else {}))


def test_an_organisation_applies_fetches_and_revokes_over_http(house: House, csr: Path, tmp_path: Path) -> None:
    bank, shop = Organisation(house, "ca:apply", "ca:revoke"), Organisation(house, "ca:apply")
    body = {
        "profile": "tls-client",
        "csr": csr.read_text(),
        "subject": {"O": "Example Bank", "organizationIdentifier": "NTRMN-0000017", "CN": "example-bank"},
        "alternative_names": [{"kind": "URI", "value": "https://bank.example.test/"}],
        "evidence": "contract:17",
    }
    key = secrets.token_urlsafe(16)
    made = bank.ask("POST", "/ca/applications", body, key)
    assert made.status == 201, made.data
    assert bank.ask("POST", "/ca/applications", body, key).json() == made.json()
    changed = bank.ask("POST", "/ca/applications", {**body, "evidence": "contract:18"}, key)
    assert (changed.status, changed.json()["code"]) == (422, "idempotency_key_reused")
    assert changed.headers["Content-Type"] == "application/problem+json"
    own = made.headers["Location"].removeprefix(house.instance.base_url)
    assert (shop.ask("GET", own).status, bank.ask("GET", own).json()["state"]) == (404, "submitted")

    house.instance.cli("application", "approve", made.json()["id"], officer=house.naran)
    certificate = bank.ask("GET", own).json()["certificate"]["url"].removeprefix(house.instance.base_url)
    found = bank.ask("GET", certificate).json()
    (tmp_path / "leaf.pem").write_text(found["certificate"])
    (tmp_path / "chain.pem").write_text("".join(found["chain"][:-1]))
    (tmp_path / "root.pem").write_text(found["chain"][-1])
    require_tool("openssl", "openssl")
    checked = run(
        "openssl", "verify", "-x509_strict", "-CAfile", tmp_path / "root.pem", "-untrusted", tmp_path / "chain.pem",
        tmp_path / "leaf.pem",
    )  # fmt: skip
    assert checked.status == 0, checked.stderr

    assert shop.ask("POST", f"{certificate}/revoke").json()["code"] == "scope_missing"
    revoked = bank.ask("POST", f"{certificate}/revoke", {"reason": "cessationOfOperation"})
    assert (revoked.status, revoked.json()["state"]) == (200, "revoked")
    shown = house.instance.cli("cert", "show", found["serial"])
    assert (shown["state"], shown["reason"]) == ("revoked", "cessationOfOperation")


def test_errors_below_ca_are_problems_whatever_they_are(house: House) -> None:
    for method, path, status in (("GET", "/ca/nothing", 404), ("PUT", "/ca/applications", 405)):
        answer = urllib3.request(method, house.instance.base_url + path, retries=False)
        assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json")
    for token in (None, "Bearer nonsense"):
        headers = {"Authorization": token} if token else {}
        answer = urllib3.request("GET", house.instance.base_url + "/ca/applications/1", headers=headers, retries=False)
        assert answer.status == 401 and answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_the_audit_log_shows_who_did_what(house: House) -> None:
    exported = house.instance.cli("audit", "export")
    assert house.instance.cli("audit", "verify")["entries"] >= len(exported)
    actors = {entry["actor"] for entry in exported if entry["event"] == "ca:officer:authenticated"}
    assert {"officer:bold", "officer:saran"} <= actors
    assert all("passphrase" not in str(entry) for entry in exported)
