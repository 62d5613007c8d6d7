"""Synthetic people and relying parties for demonstrations; no number here can belong to a person."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cli.files import write_private
from core.clock import utc_now

if TYPE_CHECKING:
    from app.wiring import Services

ACTOR = "demo"
BANK = "demo-bank"
AGENCY = "demo-agency"


@dataclass(frozen=True)
class DemoPerson:
    """A synthetic person with everything needed to act as that person."""

    username: str
    person_id: str
    name: str
    password: str
    totp_secret: str
    signing_pin: str

    def one_time_password(self) -> str:
        """The six digits that the person's phone shows now (RFC 6238)."""
        from sso.authentication import otp

        return otp.code_at(base64.b32decode(self.totp_secret), utc_now())


@dataclass(frozen=True)
class Seeds:
    """What a demonstration needs to know about its own people and relying parties."""

    people: tuple[DemoPerson, ...]
    bank: dict[str, Any]
    agency: dict[str, Any]


# Names, numbers and cases as in the project's list of synthetic citizens: clan `Туршилт`, civil ids from 000000000101.
PEOPLE = (
    ("t01", "Болд", "Загвар", "000000000101"),
    ("t02", "Өлзийхүү", "Жишээ", "000000000102"),
    ("t03", "Үүр-Туяа", "Сорил", "000000000103"),
)


def load_or_create(services: Services, folder: Path) -> Seeds:
    """The seeds of the instance in ``folder``; made on the first call, read back on every later one."""
    kept = folder / "demo.json"
    if kept.exists():
        document = json.loads(kept.read_text("utf-8"))
        people = tuple(DemoPerson(**person) for person in document["people"])
        return Seeds(people, document["bank"], document["agency"])
    seeds = Seeds(
        tuple(_person(services, *facts) for facts in PEOPLE), _bank(services, folder), _agency(services)
    )
    write_private(kept, json.dumps(asdict(seeds), ensure_ascii=False, indent=2))
    return seeds


def bank_key(seeds: Seeds) -> ec.EllipticCurvePrivateKey:
    """The bank's own key, which it keeps in its own file."""
    key = serialization.load_pem_private_key(Path(seeds.bank["private_key"]).read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - we wrote it below
    return key


def _person(services: Services, username: str, given_name: str, family_name: str, civil_id: str) -> DemoPerson:
    from sso.people import NewPerson

    # Seven digits never look like somebody's birthday, which signing would refuse.
    password, pin = secrets.token_urlsafe(12), "".join(secrets.choice("0123456789") for _ in range(7))
    new = NewPerson(username, given_name, family_name, civil_id, password)
    enrolled = services.sso.people.create(new, actor=ACTOR, totp=True)
    secret = base64.b32encode(enrolled.totp_secret or b"").decode()
    return DemoPerson(username, enrolled.person.id, enrolled.person.name, password, secret, pin)


def _bank(services: Services, folder: Path) -> dict[str, Any]:
    from sso.relying_parties import Registration

    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "bank").mkdir(exist_ok=True)
    write_private(folder / "bank" / "key.pem", pem.decode())
    public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    jwks = {"keys": [{**public, "kid": "bank-1", "use": "sig", "alg": "ES256"}]}
    services.sso.relying_parties.create(
        Registration(
            name_mn="Жишээ банк",
            name_en="Example Bank",
            jwks=jwks,
            redirect_uris=("https://bank.example.test/callback",),
            post_logout_redirect_uris=("https://bank.example.test/",),
            scopes=("openid", "profile", "sign.request", "sign.validate"),
            return_urls=("https://bank.example.test/signed",),
            client_id=BANK,
        ),
        actor=ACTOR,
    )
    return {
        "client_id": BANK,
        "auth_method": "private_key_jwt",
        "private_key": str(folder / "bank" / "key.pem"),
        "key_id": "bank-1",
        "redirect_uri": "https://bank.example.test/callback",
    }


def _agency(services: Services) -> dict[str, Any]:
    from sso.relying_parties import Registration

    registered = services.sso.relying_parties.create(
        Registration(
            name_mn="Жишээ агентлаг",
            name_en="Example Agency",
            auth_method="client_secret_basic",
            redirect_uris=("http://localhost:9090/callback",),
            post_logout_redirect_uris=("http://localhost:9090/",),
            scopes=("openid", "profile", "sign.request", "sign.validate"),
            client_id=AGENCY,
        ),
        actor=ACTOR,
    )
    return {
        "client_id": AGENCY,
        "auth_method": "client_secret_basic",
        "client_secret": registered.client_secret,
        "redirect_uri": "http://localhost:9090/callback",
    }
