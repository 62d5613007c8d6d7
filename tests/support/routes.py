"""Every door of an instance: what the Flask application lists, and the bare callables mounted beside it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

from tests.support.instance import Instance
from tests.support.tools import run
from tests.support.tree import ROOT

PROGRAM = """
import json, os, pathlib
from app.settings import load_settings
from app.wiring import build
from app.application import create_flask
services = build(load_settings(pathlib.Path(os.environ["TAMGA_CONFIG"]), os.environ))
rules = create_flask(services).url_map.iter_rules()
print(json.dumps([[rule.rule, sorted(rule.methods - {"HEAD", "OPTIONS"})] for rule in rules]))
"""


@dataclass(frozen=True, order=True)
class Route:
    """A path, with `<…>` where something is named, and its methods."""

    path: str
    methods: tuple[str, ...]


BARE = (
    Route("/aia/<issuer>.cer", ("GET",)),
    Route("/crl/<issuer>/<shard>.crl", ("GET",)),
    Route("/healthz", ("GET",)),
    Route("/ocsp", ("POST",)),
    Route("/ocsp/<request>", ("GET",)),
    Route("/readyz", ("GET",)),
    Route("/tsa", ("POST",)),
)


def routes(instance: Instance) -> list[Route]:
    """All of them, in order."""
    listed = run(sys.executable, "-c", PROGRAM, cwd=ROOT, env=instance.environment())
    assert listed.status == 0, listed.output
    rules = json.loads(listed.stdout.splitlines()[-1])
    return sorted([*BARE, *(Route(path, tuple(methods)) for path, methods in rules)])
