"""Every door is in docs/http.md, and every door there exists."""

from __future__ import annotations

import re

from tests.support.instance import Instance
from tests.support.routes import routes
from tests.support.tree import ROOT

DOCUMENT = ROOT / "docs" / "http.md"
# | `GET`, `POST` | `/oauth2/authorize` | … |
ROW = re.compile(r"^\|\s*((?:`[A-Z]+`[, ]*)+)\|\s*`(/[^`]*)`\s*\|", re.MULTILINE)


def _shape(path: str) -> str:
    # What a parameter is called in the code is nobody's business.
    return re.sub(r"<[^>]+>|\{[^}]+\}", "<>", path)


def test_the_routes_are_those_documented(instance: Instance) -> None:
    served = {(method, _shape(route.path)) for route in routes(instance) for method in route.methods}
    written = ROW.findall(DOCUMENT.read_text())
    documented = {(method, _shape(path)) for methods, path in written for method in re.findall(r"[A-Z]+", methods)}
    assert sorted(served - documented) == []
    assert sorted(documented - served) == []
