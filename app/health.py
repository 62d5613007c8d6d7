"""Whether this instance can do its work: alive, and ready."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from sqlalchemy import text

from app import schema
from core.errors import CodedError
from core.wsgi import Environ, StartResponse, WSGIApplication, respond

if TYPE_CHECKING:
    from app.wiring import Services


def checks(services: Services) -> dict[str, Callable[[], object]]:
    """What readiness rests on, by name; each raises when it does not hold."""
    return {
        "database": lambda: _reach(services),
        "schema": lambda: schema.check(services.database),
        "token": services.keystore.check,
        "one_time": lambda: services.one_time.peek("health", "ready"),
    }


def check_all(services: Services) -> list[str]:
    """Run every check and return their names. Raises the first failure."""
    names = []
    for name, check in checks(services).items():
        check()
        names.append(name)
    return names


def live() -> WSGIApplication:
    """``/healthz``: this process answers."""

    return _reading(lambda: (200, "text/plain", b"ok\n"))


def ready(services: Services) -> WSGIApplication:
    """``/readyz``: 200 when every check holds, else 503; the body names what fails and tells nothing more."""

    def answer() -> tuple[int, str, bytes]:
        states = {name: _state(check) for name, check in checks(services).items()}
        good = all(state == "ok" for state in states.values())
        return 200 if good else 503, "application/json", json.dumps({"ready": good, "checks": states}).encode()

    return _reading(answer)


def _reading(answer: Callable[[], tuple[int, str, bytes]]) -> WSGIApplication:
    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return respond(start_response, 405, [("Allow", "GET, HEAD"), *_headers("text/plain")])
        status, kind, body = answer()
        sent = respond(start_response, status, _headers(kind), body)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else sent

    return application


def _state(check: Callable[[], object]) -> str:
    try:
        check()
    except CodedError as error:
        return error.code
    except Exception as error:
        return type(error).__name__
    return "ok"


def _reach(services: Services) -> None:
    with services.database.connect() as connection:
        connection.execute(text("SELECT 1"))


def _headers(kind: str) -> list[tuple[str, str]]:
    return [("Content-Type", kind), ("Cache-Control", "no-store")]
