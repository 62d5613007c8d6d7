"""The power may fail at any moment: afterwards register, audit log and sign requests tell one story."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.citizen import Citizen
from tests.support.instance import Instance
from tests.support.pdf import signature_contents
from tests.support.world import World

SERVER_KILLS = 14
COMMAND_KILLS = 16
PAST_THE_END = 1.3  # kills fall between the decisive button and this many times what a whole signature takes
UNSETTLED = {"approved"}
DEAD_SERVER = (urllib3.exceptions.HTTPError, OSError, AssertionError, ValueError, KeyError)


def issue_command(folder: Path) -> list[str | Path]:
    """`tamga cert issue` for a client's key, with a request that proves possession of it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "crash")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    path = folder / f"{time.monotonic_ns()}.csr"
    path.write_bytes(request.public_bytes(serialization.Encoding.PEM))
    return [
        "cert", "issue", "--profile", "tls-client", "--csr", path, "--evidence", "crash test", "--holder", "crash",
        "--subject", "CN=crash", "--subject", "O=Crash", "--subject", "organizationIdentifier=NTRMN-0000017",
        "--san", "URI=https://crash.example.test",
    ]  # fmt: skip


def kill_commands(instance: Instance, folder: Path, lot: random.Random, seconds: float) -> None:
    """Start the command again and again, each time killed at another moment of its life."""
    for _ in range(COMMAND_KILLS):
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", *map(str, issue_command(folder))],
            cwd=instance.directory,
            env=instance.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # Most of its life is imports; the last part is where it signs and writes.
        time.sleep(seconds * lot.uniform(0.55, 1.05))
        process.kill()
        process.wait()


def seconds(act: Callable[[], object]) -> float:
    """How long it takes here and now."""
    begun = time.monotonic()
    act()
    return time.monotonic() - begun


@dataclass
class Round:
    """What citizens do while the server dies: confirm a signature, and ask for a certificate."""

    world: World
    signer: Citizen
    subject: str
    newcomers: list[Citizen]
    requests: list[str] = field(default_factory=list)

    def prepared(self) -> list[Callable[[], object]]:
        """Go through the pages to the last button; what is returned presses it."""
        asked = self.world.ask_to_sign(self.subject)
        self.requests.append(asked["id"])
        summary = self.signer.step_through(self.signer.open_request(asked["signers"][0]["signing_url"]))
        acts: list[Callable[[], object]] = [lambda: self.signer.confirm(summary)]
        for newcomer in self.newcomers:
            page = newcomer.browser.open("/me/credentials")
            if page.has_form("credential-create"):
                acts.append(partial(newcomer.create_certificate, page))
                break
        return acts


def kill_server(round_: Round, instance: Instance, moment: float) -> None:
    """One life of the server: citizens come to the decisive moment, and it is killed in it."""

    def attempt(act: Callable[[], object]) -> None:
        with suppress(*DEAD_SERVER):
            act()

    threads = [threading.Thread(target=attempt, args=(act,)) for act in round_.prepared()]
    for thread in threads:
        thread.start()
    time.sleep(moment)
    instance.kill()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.crash
def test_thirty_kills_leave_one_story(private_instance: Callable[..., Instance], tmp_path: Path) -> None:
    lot = random.Random()
    instance = private_instance("crash").create().start()
    world = World(instance, tmp_path)
    signer, newcomers = world.citizen, [world.new_citizen() for _ in range(6)]
    round_ = Round(world, signer, world.subject, newcomers)
    (confirm, *_) = round_.prepared()
    signature = seconds(confirm)
    for newcomer in newcomers:
        newcomer.log_in(newcomer.browser.open("/me/credentials"))
    life = seconds(lambda: instance.cli(*issue_command(tmp_path)))

    with ThreadPoolExecutor(1) as beside:
        commands = beside.submit(kill_commands, instance, tmp_path, random.Random(lot.random()), life)
        for _ in range(SERVER_KILLS):
            kill_server(round_, instance, lot.uniform(0, PAST_THE_END * signature))
            instance.start()
        commands.result()
    # Once more, so that what the last commands left is settled as well.
    instance.kill()
    instance.start()

    known = serials(instance)
    check_audit(instance, known)
    check_register(instance, known)
    check_requests(world, round_, known)
    # And life goes on.
    assert world.sign(signer, world.subject).startswith(b"%PDF-")
    world.close()


def serials(instance: Instance) -> set[str]:
    return {row["serial"] for row in instance.cli("cert", "list", "--limit", "1000")}


def check_audit(instance: Instance, known: set[str]) -> None:
    """The chain is whole, and tells of each certificate of the register exactly once."""
    assert instance.cli("audit", "verify")["entries"] > 0
    out = instance.directory / "audit.jsonl"
    instance.cli("audit", "export", "--out", out)
    entries: list[dict[str, Any]] = [json.loads(line) for line in out.read_text().splitlines()]
    issued = [entry["facts"]["serial"] for entry in entries if entry["event"] == "ca:certificate:issued"]
    assert len(issued) == len(set(issued))
    assert set(issued) == known


def check_register(instance: Instance, known: set[str]) -> None:
    """No intent is open, and every serial that was signed is in the register or counts as revoked."""
    connection = sqlite3.connect(f"file:{instance.directory / 'tamga.sqlite3'}?mode=ro", uri=True)
    with connection:
        states = dict(connection.execute("SELECT state, count(*) FROM ca_issuance_intents GROUP BY state").fetchall())
        signing = dict(connection.execute("SELECT outcome, count(*) FROM signing_intents GROUP BY outcome").fetchall())
        held = {row[0] for row in connection.execute("SELECT certificate_serial FROM signing_credentials") if row[0]}
    connection.close()
    assert set(states) <= {"issued", "abandoned", "withdrawn"}, states
    assert states["issued"] == len(known), (states, len(known))
    assert "open" not in signing, signing
    assert held <= known, "a credential holds a certificate that the register does not know"


def check_requests(world: World, round_: Round, known: set[str]) -> None:
    """Every request stands in a state that somebody can go on from, and what is signed can be fetched and passes."""
    states = {request: world.state(request)["state"] for request in round_.requests}
    assert not UNSETTLED & set(states.values()), states
    assert set(states.values()) <= {"created", "opened", "reviewed", "signed", "collected", "failed"}, states
    signed = [world.download(request) for request, state in states.items() if state in ("signed", "collected")]
    for document in signed:
        found = [each["indication"] for each in world.validate(document).json()["signatures"]]
        assert found == ["TOTAL-PASSED"]
        assert signer_serials(document) & known
    unfinished = [request for request, state in states.items() if state in ("created", "opened", "reviewed")]
    for request in unfinished[:3]:
        url = world.state(request)["signers"][0]["signing_url"]
        round_.signer.sign(url)
        assert world.download(request).startswith(world.document)


def signer_serials(document: bytes) -> set[str]:
    """The serials of the certificates inside a signature."""
    from asn1crypto import cms

    signed_data = cms.ContentInfo.load(signature_contents(document))["content"]
    return {f"{certificate.chosen.serial_number:036x}" for certificate in signed_data["certificates"]}
