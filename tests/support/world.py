"""People and organisations around an instance: a bank, citizens, a signed contract, a revoked certificate."""

from __future__ import annotations

import json
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography import x509

from tests.support.certificates import follow, serial_text
from tests.support.citizen import Citizen
from tests.support.instance import Instance
from tests.support.landing import Landing
from tests.support.pdf import contract
from tests.support.relying_party import RelyingParty, describe, new_jwk, public_jwks
from tests.support.web import Answer, Walker, until

# Synthetic: the project's own names, and civil numbers that begin with zeros and so belong to nobody.
NAMES = (("Болд", "Загвар"), ("Өлзийхүү", "Жишээ"), ("Үүр-Туяа", "Сорил"), ("Ёлк", "Загвар"))


def register_bank(instance: Instance, folder: Path, site: str) -> RelyingParty:
    """A bank that authenticates by its own key, may ask for signatures and for validations; `site` is its origin."""
    name = f"bank-{secrets.token_hex(4)}"
    jwk = new_jwk()
    keys = folder / f"{name}.jwks.json"
    keys.write_text(json.dumps(public_jwks(jwk)))
    instance.cli(
        "client", "create", "--client-id", name, "--name-mn", "Жишээ банк", "--name-en", "Example Bank",
        "--auth-method", "private_key_jwt", "--jwks", keys, "--redirect-uri", f"{site}/callback",
        "--post-logout-redirect-uri", f"{site}/goodbye", "--return-url", f"{site}/signed",
        "--webhook-uri", f"{site}/notices",
        "--scope", "openid", "--scope", "profile", "--scope", "sign.request", "--scope", "sign.validate",
    )  # fmt: skip
    return RelyingParty(
        instance.base_url, name, f"{site}/callback", jwk=jwk,
        post_logout_redirect_uri=f"{site}/goodbye", trust=instance.trust,
    )  # fmt: skip


def register_agency(instance: Instance) -> RelyingParty:
    """An agency that authenticates by a secret."""
    name = f"agency-{secrets.token_hex(4)}"
    made = instance.cli(
        "client", "create", "--client-id", name, "--name-mn", "Жишээ агентлаг", "--name-en", "Example Agency",
        "--auth-method", "client_secret_basic", "--redirect-uri", "http://localhost:9998/callback",
        "--scope", "openid", "--scope", "profile",
    )  # fmt: skip
    return RelyingParty(instance.base_url, name, "http://localhost:9998/callback", secret=made["client_secret"])


def register_citizen(instance: Instance, number: int = 0, *, language: str = "en") -> Citizen:
    """A person who can log in with a password and an authenticator."""
    given, family = NAMES[number % len(NAMES)]
    username, password = f"p{secrets.token_hex(5)}", secrets.token_urlsafe(12)
    civil_id = f"0000{secrets.randbelow(10**8):08d}"
    made = instance.cli(
        "person", "create", "--username", username, "--given-name", given, "--family-name", family,
        "--civil-id", civil_id, "--password-stdin", stdin=f"{password}\n".encode(),
    )  # fmt: skip
    return Citizen(
        instance.base_url, made["id"], username, password, made["totp_secret"], language=language, trust=instance.trust
    )


@dataclass
class World:
    """Everything is made on first use and then shared; tests add, they do not change."""

    instance: Instance
    folder: Path
    document: bytes = field(default_factory=contract)
    _citizens: int = 0
    _machine_token: tuple[str, float] = ("", float("-inf"))

    @cached_property
    def landing(self) -> Landing:
        """The bank's web server."""
        return Landing()

    @property
    def site(self) -> str:
        """The bank's origin. An instance behind TLS takes https addresses only, which no test ever opens."""
        return self.landing.origin if self.instance.base_url.startswith("http:") else "https://bank.example.test"

    def close(self) -> None:
        if "landing" in self.__dict__:
            self.landing.close()

    # Who is there --------------------------------------------------------------------------------------------------

    @cached_property
    def bank(self) -> RelyingParty:
        return register_bank(self.instance, self.folder, self.site)

    @cached_property
    def agency(self) -> RelyingParty:
        return register_agency(self.instance)

    def new_citizen(self, *, language: str = "en") -> Citizen:
        """Somebody who has never been here."""
        self._citizens += 1
        return register_citizen(self.instance, self._citizens, language=language)

    @cached_property
    def citizen(self) -> Citizen:
        """Somebody logged in, with a signing certificate."""
        citizen = self.new_citizen()
        citizen.make_certificate()
        return citizen

    # What the bank learns ------------------------------------------------------------------------------------------

    def log_in_at_bank(self, citizen: Citizen) -> dict[str, Any]:
        """The verified claims of the citizen's ID token for the bank."""
        login = self.bank.begin()
        code = self.bank.code(login, citizen.authorize(login.url))
        answer = self.bank.redeem(code, login.verifier)
        assert answer.status == 200, describe(answer)
        tokens = answer.json()
        return self.bank.verified(tokens["id_token"], login, tokens["access_token"])

    @cached_property
    def subject(self) -> str:
        """What the bank calls the citizen."""
        return str(self.log_in_at_bank(self.citizen)["sub"])

    def api(self, method: str, path: str, **more: Any) -> Answer:
        """The bank asks a partner API."""
        return self.bank.with_token(self.machine_token, method, path, **more)

    @property
    def machine_token(self) -> str:
        """The bank's access token; a new one before the old one's ten minutes are over, as a bank would."""
        token, until_moment = self._machine_token
        if time.monotonic() > until_moment:
            answer = self.bank.token({"grant_type": "client_credentials", "scope": "sign.request sign.validate"})
            assert answer.status == 200, describe(answer)
            token = str(answer.json()["access_token"])
            self._machine_token = token, time.monotonic() + answer.json()["expires_in"] / 2
        return token

    # Signing and checking ------------------------------------------------------------------------------------------

    def ask_to_sign(self, subject: str, document: bytes | None = None, **fields: Any) -> dict[str, Any]:
        """A sign request of the bank's for a citizen."""
        answer = self.bank.ask_to_sign(document or self.document, subject, **fields)
        assert answer.status == 201, describe(answer)
        made: dict[str, Any] = answer.json()
        return made

    def state(self, request_id: str) -> dict[str, Any]:
        answer = self.api("GET", f"/api/v1/sign-requests/{request_id}")
        assert answer.status == 200, describe(answer)
        found: dict[str, Any] = answer.json()
        return found

    def download(self, request_id: str) -> bytes:
        """The signed document, when it is ready."""
        until(lambda: self.state(request_id)["state"] in ("signed", "collected"), seconds=30)
        answer = self.api("GET", f"/api/v1/sign-requests/{request_id}/document")
        assert answer.status == 200, describe(answer)
        return answer.body

    def sign(self, citizen: Citizen, subject: str, document: bytes | None = None, **fields: Any) -> bytes:
        """The whole way of one document."""
        asked = self.ask_to_sign(subject, document, **fields)
        page = citizen.sign(asked["signers"][0]["signing_url"])
        assert page.status == 200, page.words[:800]
        return self.download(asked["id"])

    @cached_property
    def signed(self) -> bytes:
        """The bank's contract, signed by the citizen."""
        placement = {"page": 1, "x": 72, "y": 90}
        signers = [{"sub": self.subject, "placements": [placement]}]
        return self.sign(self.citizen, self.subject, signers=signers, level="B-LT")

    @cached_property
    def signed_without_evidence(self) -> bytes:
        """The contract signed at level B-T: nothing follows the signature."""
        return self.sign(self.citizen, self.subject, level="B-T")

    def validate(self, document: bytes) -> Answer:
        return self.api("POST", "/api/v1/validations", body=document, headers={"Content-Type": "application/pdf"})

    # Certificates --------------------------------------------------------------------------------------------------

    def certificate(self, serial: str) -> x509.Certificate:
        shown = self.instance.cli("cert", "show", serial)
        return x509.load_pem_x509_certificate(shown["certificate"].encode())

    def certificates_of(self, citizen: Citizen) -> list[x509.Certificate]:
        """The citizen's signing certificates in the register, newest first."""
        listed = self.instance.cli("cert", "list", "--profile", "citizen-signature", "--holder", citizen.person_id)
        return [self.certificate(row["serial"]) for row in listed]

    @cached_property
    def citizen_certificate(self) -> x509.Certificate:
        return self.certificates_of(self.citizen)[0]

    @cached_property
    def revoked_certificate(self) -> x509.Certificate:
        """Of a second citizen, revoked by the administrator."""
        citizen = self.new_citizen()
        citizen.make_certificate()
        certificate = self.certificates_of(citizen)[0]
        self.instance.cli("cert", "revoke", serial_text(certificate), "--reason", "cessationOfOperation")
        return certificate

    @cached_property
    def _each_profile(self) -> dict[str, x509.Certificate]:
        assert self.citizen_certificate
        listed = {row["profile"]: row["serial"] for row in self.instance.cli("cert", "list", "--limit", "1000")}
        with ThreadPoolExecutor(2) as pool:
            found = dict(zip(listed, pool.map(self.certificate, listed.values()), strict=True))
        chain = follow(self.citizen_certificate, Walker(self.instance.base_url))
        return {"root": chain.root, "issuing-ca": chain.issuer, **found}

    def certificate_of_each_profile(self) -> dict[str, x509.Certificate]:
        """One certificate of every profile that the instance has issued under."""
        return self._each_profile
