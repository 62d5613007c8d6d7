"""openid-client, a certified relying-party library, logs a citizen in and out."""

from __future__ import annotations

import json
import subprocess
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.relying_party import RelyingParty
from tests.support.tools import missing, require_tool
from tests.support.tree import ROOT
from tests.support.world import World

PROJECT = ROOT / "tests" / "conformance" / "openid_client"


class Node:
    """The script, spoken with in lines of JSON."""

    def __init__(self, program: str) -> None:
        self._process = subprocess.Popen(
            [program, "relying_party.mjs"],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def say(self, what: dict[str, Any]) -> dict[str, Any]:
        """Tell it something and hear what it says next."""
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self._process.stderr.read()
        heard: dict[str, Any] = json.loads(line)
        return heard

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def test_openid_client_completes_login_userinfo_and_logout(world: World) -> None:
    program = require_tool("node", "nodejs")
    if not (PROJECT / "node_modules" / "openid-client").is_dir():
        missing("openid-client", f"cd {PROJECT.relative_to(ROOT)} && npm ci")
    bank: RelyingParty = world.bank
    citizen = world.new_citizen()
    node = Node(program)
    try:
        begun = node.say(
            {
                "issuer": world.instance.base_url,
                "client_id": bank.client_id,
                "jwk": bank.jwk,
                "redirect_uri": bank.redirect_uri,
                "post_logout_redirect_uri": bank.post_logout_redirect_uri,
                "scope": "openid profile",
            }
        )
        assert begun["issuer"] == world.instance.base_url
        came_back = citizen.authorize(begun["url"])
        done = node.say({"callback": came_back.location})
    finally:
        node.end()
    assert done["claims"]["acr"] == "urn:tamga:loa:substantial"
    assert {"pwd", "otp"} <= set(done["claims"]["amr"])
    assert done["userinfo"]["sub"] == done["claims"]["sub"]
    assert done["replayed"] == "invalid_grant"
    left = citizen.browser.open(done["logout"])
    if left.has_form("logout-confirm"):
        left = citizen.press(left, "logout-confirm")
    assert (left.location or "").startswith(str(bank.post_logout_redirect_uri)), left.words[:500]
    assert parse_qs(urlsplit(left.location or "").query)["state"] == [done["state"]]
    # Logged out: the next request asks who it is.
    assert citizen.browser.open(bank.begin().url).has_form("login-submit")
