"""Three ACME clients of other people obtain, renew and revoke: certbot, dehydrated, lego (RFC 8555, 8737)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.acme import Client, Host, NameServer, OverHttp, csr, problem, unb64
from tests.support.certificates import Chain, follow, ocsp_address, pem, revocation_lists, serial_text
from tests.support.instance import Instance
from tests.support.processes import free_port
from tests.support.tools import Ran, require_tool, run
from tests.support.web import Walker, until

ZONE = "agency.example"
HOSTS = ("www.agency.example", "api.agency.example")


@pytest.fixture(scope="module")
def names() -> Iterator[NameServer]:
    """The agency's names, all of them on this machine."""
    with NameServer() as server:
        for host in HOSTS:
            server.records[host, "A"] = ["127.0.0.1"]
        yield server


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    """Where the clients answer; the real ports are not ours to take."""
    return {"http01_port": free_port(), "tls_alpn01_port": free_port()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, names: NameServer, ports: Mapping[str, int]) -> Iterator[Instance]:
    """An instance that looks names up at the agency's name server."""
    made = Instance(tmp_path_factory.mktemp("acme")).create()
    settings = [f'resolvers = ["{names.setting}"]', *(f"{name} = {port}" for name, port in ports.items())]
    text = made.configuration.read_text().replace("[floor]\n", '[floor]\negress_networks = ["127.0.0.0/8"]\n')
    made.configuration.write_text("\n".join([text, "[ca.acme]", *settings, ""]))
    try:
        yield made.start()
    finally:
        made.stop()


def key_for(server: Instance, *more: str) -> Any:
    """What the operator gives to an agency."""
    made = server.cli("acme", "key", "add", "--organisation", "Example Agency", "--allow", f"*.{ZONE}", *more)
    assert made["directory"] == f"{server.base_url}/acme/directory"
    return made


def loaded(path: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(path.read_bytes())


def check_chain(server: Instance, given: list[x509.Certificate], folder: Path, names: set[str]) -> Chain:
    """What a client was given leads to the root that the certificates name, and OpenSSL says so too."""
    chain = follow(given[0], Walker(server.base_url))
    assert given == list(chain.certificates[:-1]), "the certificate and what lies below the root, in order"
    found = given[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(found.get_values_for_type(x509.DNSName)) == names
    assert given[0].subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)[0].value == "Example Agency"
    written = chain.write(folder)
    (written / "given.pem").write_bytes(pem(*given[1:]))
    how = ("-x509_strict", "-purpose", "sslserver", "-verify_hostname", sorted(names)[-1])
    trust = ("-CAfile", written / "root.pem", "-untrusted", written / "given.pem")
    verified = run(require_tool("openssl", "openssl"), "verify", *how, *trust, written / "leaf.pem")
    assert verified.status == 0, verified.output
    return chain


def check_status(server: Instance, chain: Chain, folder: Path, state: str) -> None:
    """OpenSSL hears ``state`` from the responder, and the CRL agrees."""
    written = chain.write(folder)
    about = ("-issuer", written / "issuer.pem", "-cert", written / "leaf.pem", "-CAfile", written / "chain.pem")
    asked = run(require_tool("openssl", "openssl"), "ocsp", *about, "-url", str(ocsp_address(chain.leaf)))
    assert f"{written / 'leaf.pem'}: {state}" in asked.output, asked.output
    (listed,) = revocation_lists([chain.leaf], Walker(server.base_url))
    entry = listed.get_revoked_certificate_by_serial_number(chain.leaf.serial_number)
    assert (entry is not None) == (state == "revoked")


# certbot: http-01 ----------------------------------------------------------------------------------------------------


def test_certbot_obtains_renews_and_revokes(server: Instance, ports: Mapping[str, int], tmp_path: Path) -> None:
    program = require_tool("certbot", "certbot")
    key = key_for(server)
    folders = {f"--{name}-dir": tmp_path / name for name in ("config", "work", "logs")}
    shared = [*(str(part) for pair in folders.items() for part in pair), "--non-interactive",
              "--server", key["directory"]]  # fmt: skip
    answering = ["--http-01-port", str(ports["http01_port"]), "--http-01-address", "127.0.0.1"]

    def certbot(*arguments: str) -> Ran:
        ran = run(program, *arguments, *shared, timeout=180)
        assert ran.status == 0, ran.output
        return ran

    account = ["--agree-tos", "-m", f"ops@{ZONE}", "--eab-kid", key["id"], "--eab-hmac-key", key["mac_key"]]
    hosts = [part for host in HOSTS for part in ("-d", host)]
    certbot("certonly", "--standalone", *answering, *account, *hosts)
    live = tmp_path / "config" / "live" / HOSTS[0]
    first = check_chain(server, loaded(live / "fullchain.pem"), tmp_path / "first", set(HOSTS))
    check_status(server, first, tmp_path / "first", "good")

    certbot("renew", "--force-renewal", "--no-random-sleep-on-renew", *answering)
    second = check_chain(server, loaded(live / "fullchain.pem"), tmp_path / "second", set(HOSTS))
    assert second.leaf.serial_number != first.leaf.serial_number

    certbot("revoke", "--cert-name", HOSTS[0], "--reason", "superseded", "--no-delete-after-revoke")
    check_status(server, second, tmp_path / "second", "revoked")
    check_status(server, first, tmp_path / "first", "good")
    shown = server.cli("cert", "show", serial_text(second.leaf))
    assert (shown["reason"], shown["evidence"].partition(":")[0]) == ("superseded", "acme")


# dehydrated: dns-01, a wildcard --------------------------------------------------------------------------------------

HOOK = """#!/bin/sh
# deploy_challenge DOMAIN TOKEN VALUE ..., as often as there are names
case $1 in
    deploy_challenge) shift; while [ $# -ge 3 ]; do echo "$3" >>"{records}/_acme-challenge.$1"; shift 3; done ;;
    clean_challenge) rm -f "{records}/_acme-challenge.$2" ;;
esac
"""


def test_dehydrated_obtains_a_wildcard_by_dns_and_revokes_it(
    server: Instance, names: NameServer, tmp_path: Path
) -> None:
    program = require_tool("dehydrated", "dehydrated")
    key = key_for(server)
    records = tmp_path / "records"
    records.mkdir()
    hook = tmp_path / "hook"
    hook.write_text(HOOK.format(records=records))
    hook.chmod(0o700)
    held = records / f"_acme-challenge.shop.{ZONE}"
    names.records[held.name, "TXT"] = lambda: held.read_text().split() if held.exists() else []
    (tmp_path / "config").write_text(
        f'CA="{key["directory"]}"\nBASEDIR="{tmp_path}"\nCHALLENGETYPE="dns-01"\nHOOK="{hook}"\nHOOK_CHAIN="yes"\n'
        f'EAB_KID="{key["id"]}"\nEAB_HMAC_KEY="{key["mac_key"]}"\nKEY_ALGO="prime256v1"\n'
    )
    domain = f"shop.{ZONE}"

    def dehydrated(*arguments: str) -> None:
        ran = run(program, "--config", tmp_path / "config", *arguments, timeout=180, cwd=tmp_path)
        assert ran.status == 0, ran.output

    dehydrated("--register", "--accept-terms")
    dehydrated("--cron", "--domain", f"{domain} *.{domain}", "--alias", "shop")
    given = loaded(tmp_path / "certs" / "shop" / "fullchain.pem")
    chain = check_chain(server, given, tmp_path / "chain", {domain, f"*.{domain}"})
    assert (held.name, "TXT") in names.asked
    assert (domain, "A") not in names.asked, "nobody was connected to"
    dehydrated("--revoke", str(tmp_path / "certs" / "shop" / "cert.pem"))
    check_status(server, chain, tmp_path / "chain", "revoked")


# lego: tls-alpn-01 ---------------------------------------------------------------------------------------------------


def test_lego_obtains_by_tls_alpn_renews_and_revokes(
    server: Instance, ports: Mapping[str, int], tmp_path: Path
) -> None:
    program = require_tool("lego", "lego")
    key = key_for(server)
    shared = [program, "--server", key["directory"], "--path", str(tmp_path), "--email", f"ops@{ZONE}", "--accept-tos",
              "--eab", "--kid", key["id"], "--hmac", key["mac_key"], "--domains", HOSTS[1],
              "--tls", "--tls.port", f"127.0.0.1:{ports['tls_alpn01_port']}"]  # fmt: skip

    def lego(*arguments: str) -> None:
        # The agency's name servers are not on the Internet.
        ran = run(*shared, *arguments, timeout=180, env={**os.environ, "LEGO_DISABLE_CNAME_SUPPORT": "true"})
        assert ran.status == 0, ran.output

    lego("run")
    certificate = tmp_path / "certificates" / f"{HOSTS[1]}.crt"
    first = check_chain(server, loaded(certificate), tmp_path / "first", {HOSTS[1]})
    lego("renew", "--days", "400", "--no-random-sleep")
    second = check_chain(server, loaded(certificate), tmp_path / "second", {HOSTS[1]})
    assert first.leaf.serial_number != second.leaf.serial_number
    lego("revoke")
    check_status(server, second, tmp_path / "second", "revoked")


# A crash -------------------------------------------------------------------------------------------------------------


def test_a_challenge_survives_a_crash(server: Instance, names: NameServer, ports: Mapping[str, int]) -> None:
    key, http = key_for(server), OverHttp()
    client = Client(http, f"{server.base_url}/acme")
    assert client.register(key["id"], key["mac_key"]).status_code == 201
    made = client.order(HOSTS[0], f"dns.{ZONE}")
    (_, first), (_, second) = client.challenges(made.json)
    # Nobody answers http-01 yet, and the text record is not there: both are open when the power goes.
    for challenge in (first["http-01"], second["dns-01"]):
        assert client.post(challenge["url"], {}).json["status"] == "processing"
    server.kill()
    with Host(ports["http01_port"]) as host:
        host.serve(first["http-01"]["token"], client.proof(first["http-01"]))
        names.records[f"_acme-challenge.dns.{ZONE}", "TXT"] = [client.dns_proof(second["dns-01"])]
        server.start()
        # The client knows nothing of the crash: it goes on asking, and that is what starts the work again.
        until(lambda: client.post(made.headers["Location"]).json["status"] == "ready", seconds=60, every=0.2)
    done = client.finalize(made.json, csr(ec.generate_private_key(ec.SECP256R1()), HOSTS[0], f"dns.{ZONE}"))
    assert done.json["status"] == "valid"


def test_what_is_not_there_is_told_in_acmes_words(server: Instance) -> None:
    http = OverHttp()
    for path, status in (("new-order", 405), ("order/x", 405), ("nothing", 404), ("directory/", 404)):
        answer = http.get(f"{server.base_url}/acme/{path}")
        assert (answer.status_code, problem(answer)) == (status, "malformed"), path
    too_much = http.post(f"{server.base_url}/acme/new-order", b"x" * 300_000, "application/jose+json")
    assert (too_much.status_code, problem(too_much)) == (413, "malformed")


# What stays behind ---------------------------------------------------------------------------------------------------


def test_the_database_and_the_log_hold_no_external_key(server: Instance) -> None:
    key = key_for(server)

    octets = unb64(key["mac_key"])
    for path in server.directory.iterdir():
        if path.is_file():
            content = path.read_bytes()
            assert octets not in content, path
            assert key["mac_key"].encode() not in content, path
    assert server.cli("audit", "verify")["entries"] > 0
