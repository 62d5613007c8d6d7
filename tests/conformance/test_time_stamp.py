"""OpenSSL asks our time-stamping authority and verifies what it gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.certificates import follow
from tests.support.tools import require_tool, run
from tests.support.web import Walker
from tests.support.world import World


@pytest.fixture
def files(world: World, tmp_path: Path) -> Path:
    follow(world.certificate_of_each_profile()["tsa"], Walker(world.instance.base_url)).write(tmp_path)
    (tmp_path / "data").write_bytes(b"what existed at that time\n")
    return tmp_path


@pytest.mark.parametrize("digest", ["-sha256", "-sha384", "-sha512"])
@pytest.mark.parametrize("certificate", [True, False], ids=["with certificate", "without certificate"])
def test_openssl_verifies_our_time_stamp(world: World, files: Path, digest: str, certificate: bool) -> None:
    openssl = require_tool("openssl", "openssl")
    wanted = ["-cert"] if certificate else []
    run(openssl, "ts", "-query", "-data", "data", digest, *wanted, "-out", "query", cwd=files)
    answer = Walker(world.instance.base_url).post(
        "/tsa", body=(files / "query").read_bytes(), headers={"Content-Type": "application/timestamp-query"}
    )
    assert (answer.status, answer.content_type) == (200, "application/timestamp-reply")  # RFC 3161 3.4
    (files / "reply").write_bytes(answer.body)
    verified = run(
        openssl, "ts", "-verify", "-queryfile", "query", "-in", "reply", "-CAfile", "root.pem",
        "-untrusted", "chain.pem", cwd=files,
    )  # fmt: skip
    assert "Verification: OK" in verified.output, verified.output


def test_openssl_refuses_our_time_stamp_on_other_data(world: World, files: Path) -> None:
    openssl = require_tool("openssl", "openssl")
    run(openssl, "ts", "-query", "-data", "data", "-sha256", "-cert", "-out", "query", cwd=files)
    answer = Walker(world.instance.base_url).post(
        "/tsa", body=(files / "query").read_bytes(), headers={"Content-Type": "application/timestamp-query"}
    )
    (files / "reply").write_bytes(answer.body)
    (files / "data").write_bytes(b"what did not exist at that time\n")
    refused = run(
        openssl, "ts", "-verify", "-data", "data", "-in", "reply", "-CAfile", "root.pem", "-untrusted", "chain.pem",
        cwd=files,
    )  # fmt: skip
    assert "Verification: FAILED" in refused.output, refused.output
