"""The files in deploy/ make a service: PostgreSQL, Redis, two processes, nginx with TLS in front, timers."""

from __future__ import annotations

import base64
import os
import pwd
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tests.flows.test_code_redemption import redeem_at_once
from tests.support import nginx
from tests.support.certificates import follow, ocsp_address, revocation_lists
from tests.support.custodians import hold_first_ceremony
from tests.support.instance import Instance
from tests.support.officers_key import SHARED_ACCOUNT, staff
from tests.support.postgresql import PostgreSQL
from tests.support.redis import Redis
from tests.support.tools import require_tool, run
from tests.support.tree import ROOT
from tests.support.web import Walker, until
from tests.support.world import World

DEPLOY = ROOT / "deploy"


@pytest.fixture(scope="module")
def ports() -> nginx.Ports:
    return nginx.Ports.free()


@pytest.fixture(scope="module")
def deployed(
    tmp_path_factory: pytest.TempPathFactory, ports: nginx.Ports, postgresql_server: PostgreSQL, redis_server: Redis
) -> Iterator[World]:
    """An instance as deploy/README.md makes it, on this machine's ports."""
    folder = tmp_path_factory.mktemp("deployed")
    tls = nginx.certificate_for("localhost", folder / "tls")
    instance = Instance(folder, base_url=f"https://localhost:{ports.tls}")
    instance.trust = tls
    instance.cli("init", "--dir", folder, "--base-url", instance.base_url, "--port", str(instance.port))
    instance.configuration.write_text(configuration(instance, ports, postgresql_server.database(), redis_server.url))
    instance.cli("database", "upgrade")
    hold_first_ceremony(instance, tmp_path_factory.mktemp("ceremony"))
    instance.officer = staff(instance, pwd.getpwuid(os.getuid()).pw_name)
    instance.start()
    front = nginx.start(folder / "nginx", ports, instance.port, tls)
    world = World(instance, folder)
    try:
        yield world
    finally:
        world.close()
        front.stop()
        instance.stop()


def configuration(instance: Instance, ports: nginx.Ports, database: str, redis: str) -> str:
    """deploy/tamga.toml with everything that differs from machine to machine replaced."""
    text = (DEPLOY / "tamga.toml").read_text()
    replaced = {
        "https://id.example.mn": instance.base_url,
        "http://id.example.mn": f"http://localhost:{ports.plain}",
        "postgresql+psycopg://tamga@127.0.0.1:5432/tamga": database,
        "redis://127.0.0.1:6379/0": redis,
        "/var/lib/tamga/": f"{instance.directory}/",
        "port = 8080": f"port = {instance.port}",
        "[ca]\n": f"[ca]\n{SHARED_ACCOUNT}\n",
    }
    for old, new in replaced.items():
        assert old in text, f"{old!r} is no longer in deploy/tamga.toml"
        text = text.replace(old, new)
    return text


def test_the_example_configuration_is_right(deployed: World) -> None:
    checked = deployed.instance.cli("config", "check")
    assert {"database", "schema", "token", "one_time"} <= set(checked["checked"])


def test_a_citizen_signs_through_the_front(deployed: World) -> None:
    assert deployed.machine_token
    found = [each["indication"] for each in deployed.validate(deployed.signed).json()["signatures"]]
    assert found == ["TOTAL-PASSED"]
    assert deployed.instance.cli("audit", "verify")["entries"] > 0


def test_cookies_are_pinned_to_the_secure_host(deployed: World) -> None:
    assert deployed.signed
    sessions = [name for name in deployed.citizen.browser.cookies if name.startswith("__Host-")]
    assert sessions, deployed.citizen.browser.cookies.keys()


def test_two_processes_redeem_a_code_once(deployed: World) -> None:
    login = deployed.bank.begin()
    code = deployed.bank.code(login, deployed.citizen.authorize(login.url))
    answers = redeem_at_once(deployed.bank, code, login)
    # nginx may turn some of so many away; nobody but one may succeed.
    assert [answer.status for answer in answers].count(200) == 1
    assert {answer.status for answer in answers} <= {200, 400, 429}


def test_two_processes_write_one_audit_chain(deployed: World) -> None:
    subject = deployed.subject
    # nginx remembers the fifty of the test before for a while.
    until(lambda: deployed.bank.ask_to_sign(deployed.document, subject).status == 201, every=1)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: deployed.bank.ask_to_sign(deployed.document, subject), range(16)))
    # nginx turns away what comes too fast; whatever passed is in one unbroken chain.
    assert {answer.status for answer in answers} <= {201, 429}
    assert [answer.status for answer in answers].count(201) >= 4
    assert deployed.instance.cli("audit", "verify")["entries"] > 4


def test_status_lists_and_issuers_are_served_without_tls(deployed: World, ports: nginx.Ports) -> None:
    plain = Walker(f"http://localhost:{ports.plain}")
    chain = follow(deployed.citizen_certificate, plain)
    address = str(ocsp_address(chain.leaf))
    assert address.startswith("http://")
    assert address.endswith(f":{ports.plain}/ocsp")
    assert revocation_lists(chain.certificates[:-1], plain)
    # A question whose base64 holds slashes and plus signs: nginx passes it on as it came (RFC 6960 A.1).
    for algorithm in (hashes.SHA1(), hashes.SHA256()):  # noqa: S303 - RFC 9919 still lets clients ask with SHA-1
        question = ocsp.OCSPRequestBuilder().add_certificate(chain.leaf, chain.issuer, algorithm).build()
        encoded = base64.b64encode(question.public_bytes(Encoding.DER)).decode()
        for path in (quote(encoded, safe=""), encoded):
            answer = plain.get(f"{address}/{path}")
            said = ocsp.load_der_ocsp_response(answer.body)
            assert said.certificate_status is ocsp.OCSPCertStatus.GOOD


def test_everything_else_is_sent_to_tls(deployed: World, ports: nginx.Ports) -> None:
    sent = Walker(f"http://localhost:{ports.plain}").get("/oauth2/authorize?client_id=x")
    assert (sent.status, sent.location) == (301, f"{deployed.instance.base_url}/oauth2/authorize?client_id=x")


def test_what_is_too_large_stops_at_the_front(deployed: World) -> None:
    http = Walker(deployed.instance.base_url, trust=deployed.instance.trust)
    refused = http.post("/oauth2/token", body=b"a" * 300_000, headers={"Content-Type": "text/plain"})
    assert (refused.status, refused.headers["server"][:5]) == (413, "nginx")


def test_a_caller_cannot_say_where_it_comes_from(deployed: World) -> None:
    http = Walker(deployed.instance.base_url, trust=deployed.instance.trust)
    forged = {"X-Forwarded-For": "10.9.8.7", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "evil.example"}
    answer = http.get("/.well-known/openid-configuration", headers=forged)
    assert answer.json()["issuer"] == deployed.instance.base_url
    assert "10.9.8.7" not in deployed.instance.log.read_text()


# systemd -----------------------------------------------------------------------------------------------------------

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
LASTING = ("tamga", "tamga-hsm-broker")  # the others are commands that timers run


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_each_unit_starts_a_command_that_exists(unit: Path, instance: Instance) -> None:
    commands = re.findall(r"^Exec\w+=/opt/tamga/\.venv/bin/tamga (.*)$", unit.read_text(), re.MULTILINE)
    assert commands
    for command in commands:
        words = [word for word in command.split() if not word.startswith("--")]
        helped = instance.command(*words, "--help")
        assert helped.status == 0, helped.output
        assert not [word for word in command.split() if word.startswith("--") and word not in helped.stdout]


@pytest.mark.parametrize("unit", [each for each in UNITS if each.stem not in LASTING], ids=lambda unit: unit.name)
def test_each_timers_command_does_its_work_again_and_again(unit: Path, instance: Instance) -> None:
    assert unit.with_suffix(".timer").exists()
    (command,) = re.findall(r"^ExecStart=/opt/tamga/\.venv/bin/tamga (.*)$", unit.read_text(), re.MULTILINE)
    for _ in range(2):
        ran = instance.command(*command.split())
        assert ran.status == 0, ran.output


def test_systemd_has_nothing_against_the_units(tmp_path: Path) -> None:
    analyze = require_tool("systemd-analyze", "systemd")
    for source in (DEPLOY / "systemd").iterdir():
        # The paths and the user of a real machine are not on this one.
        text = re.sub(r"^(ExecStart(?:Pre)?)=.*$", r"\1=/bin/true", source.read_text(), flags=re.MULTILINE)
        (tmp_path / source.name).write_text(re.sub(r"^(User|Group)=.*$", r"\1=root", text, flags=re.MULTILINE))
    verified = run(analyze, "verify", *sorted(tmp_path.glob("*.service")), *sorted(tmp_path.glob("*.timer")))
    complaints = [line for line in verified.output.splitlines() if "tamga" in line and "Documentation" not in line]
    assert not complaints
