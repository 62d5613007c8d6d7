"""A foreign signature is judged by the trust list: an unlisted issuer is "not accepted", nothing is "invalid"."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from joserfc import jws
from joserfc.jwk import KeySet

from tests.support.foreign_authority import ForeignAuthority, signed_document
from tests.support.web import Walker
from tests.support.world import World

ENGLISH = "The certificate comes from an issuer that is not accepted here."
MONGOLIAN = "Гэрчилгээг энд хүлээн зөвшөөрдөггүй байгууллага олгосон байна."


@pytest.fixture(scope="module")
def foreign(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignAuthority]:
    made = ForeignAuthority(tmp_path_factory.mktemp("foreign"), "Elsewhere")
    yield made
    for authority in (made.issuing, made.root):
        world.instance.command("trust", "remove", fingerprint(authority.der), "--reason", "the test is over")


@pytest.fixture(scope="module")
def document(world: World, foreign: ForeignAuthority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("signed") / "foreign.pdf"
    path.write_bytes(signed_document(world.document, foreign.leaf(), foreign.issuing, foreign.root))
    return path


def fingerprint(der: bytes) -> str:
    return hashlib.sha256(der).hexdigest()


def verdict(world: World, document: Path, language: str = "en") -> dict[str, Any]:
    """What the running service says."""
    address = f"/api/v1/validations?policy=foreign&lang={language}"
    headers = {"Content-Type": "application/pdf"}
    answer = world.api("POST", address, body=document.read_bytes(), headers=headers)
    found: dict[str, Any] = answer.json()["signatures"][0]
    return found


def not_accepted(found: dict[str, Any]) -> bool:
    codes = [finding["code"] for finding in found["findings"]]
    return found["sub_indication"] == "NO_CERTIFICATE_CHAIN_FOUND" and "ISSUER_NOT_ACCEPTED" in codes


def test_an_unlisted_issuer_is_said_to_be_not_accepted_in_both_languages(world: World, document: Path) -> None:
    english, mongolian = verdict(world, document), verdict(world, document, "mn")
    assert not_accepted(english) and not_accepted(mongolian)
    assert (english["indication"], english["sentence"]) == ("INDETERMINATE", ENGLISH)
    assert mongolian["sentence"] == MONGOLIAN
    ran = world.instance.command("verify", document, "--policy", "foreign", "--language", "mn", "--json")
    assert ran.status == 2 and json.loads(ran.stdout)["result"]["signatures"][0]["sentence"] == MONGOLIAN


def test_a_change_of_the_list_counts_at_once_and_is_told_to_everybody(
    world: World, document: Path, foreign: ForeignAuthority
) -> None:
    tamga = world.instance.cli
    chain = foreign.chain_file()
    tamga("trust", "import", "--chain", chain, "--purpose", "tls", "--reason", "a partner's servers")
    assert not_accepted(verdict(world, document))  # for another purpose only

    accepted = tamga("trust", "import", "--chain", chain, "--purpose", "signature", "--reason", "treaty of 2026")
    found = verdict(world, document)
    assert not not_accepted(found) and found["sub_indication"] != "NO_CERTIFICATE_CHAIN_FOUND"
    assert served(world)["number"] == accepted["number"]

    tamga("trust", "reject", fingerprint(foreign.issuing.der), "--reason", "audit failed")
    assert not_accepted(verdict(world, document))  # although its root stands
    entry = next(each for each in served(world)["entries"] if each["sha256"] == fingerprint(foreign.issuing.der))
    assert (entry["accepted"], entry["reason"], entry["ours"]) == (False, "audit failed", False)


def served(world: World) -> dict[str, Any]:
    """The list as a stranger gets it: verified with the key at jwks_uri, and named by the XML."""
    http = Walker(world.instance.base_url)
    answer = http.get("/trust-list.json")
    assert answer.status == 200 and answer.content_type == "application/jose+json"
    flattened = json.loads(answer.body)
    keys = KeySet.import_key_set(http.get("/oauth2/jwks").json())
    payload = jws.deserialize_json(flattened, keys, algorithms=["ES256"]).payload
    root = ElementTree.fromstring(http.get("/trust-list.xml").body)  # noqa: S314 - our own
    assert root.get("payloadSha256") == hashlib.sha256(payload).hexdigest()
    assert base64.urlsafe_b64decode(flattened["payload"] + "==") == payload
    listed: dict[str, Any] = json.loads(payload)
    assert listed["issuer"] == world.instance.base_url.replace("localhost", "127.0.0.1")
    return listed
