"""Serving with granian: worker processes that load the application, and with it the token, after the fork."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import threading
from functools import partial
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings

from app.settings import Settings
from core.errors import Conflict
from core.wsgi import WSGIApplication

PR_SET_PDEATHSIG = 1  # linux/prctl.h
WORKER_KILL_SECONDS = 30


def serve(settings: Settings) -> None:
    """Answer requests until a signal ends the process."""
    from app.wiring import build
    from core import logs

    logs.configure(settings.floor.log_level)
    services = build(settings)
    services.check_before_serving()
    services.close()
    check_free(settings.serve.host, settings.serve.port)
    server = Granian(
        "tamga",
        address=settings.serve.host,
        port=settings.serve.port,
        interface=Interfaces.WSGI,
        workers=settings.serve.workers,
        blocking_threads=settings.serve.threads,
        backpressure=max(64, settings.serve.threads * 16),
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=10_000),
        websockets=False,
        log_enabled=False,
        respawn_failed_workers=True,
        workers_kill_timeout=WORKER_KILL_SECONDS,
    )
    server.serve(target_loader=partial(_load, settings), wrap_loader=False)


def check_free(host: str, port: int) -> None:
    """Refuse a port that somebody serves already: sharing it would split logins over two processes unseen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Conflict(f"{host}:{port} cannot be served: {error.strerror}") from error


def _load(settings: Settings, *_: Any) -> WSGIApplication:
    """Build the application inside a worker."""
    _die_with_parent()
    from app.application import create_app
    from app.wiring import build
    from core import logs

    logs.configure(settings.floor.log_level)
    services = build(settings)
    services.settle_at_start()
    threading.Thread(target=services.warm_up, name="warm-up", daemon=True).start()
    return create_app(services)


def _die_with_parent() -> None:
    """A worker whose supervisor was killed must not go on holding the port (prctl(2), Linux)."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
