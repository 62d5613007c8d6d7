"""A server on loopback that answers octet for octet what a test wants a client to see."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress

Answer = Callable[[socket.socket, threading.Event], object]


class LoopbackServer:
    """Reads one request on each connection, then lets ``answer`` write to it; ``requests`` are kept as they came.

    ``answer`` also gets an event that is set when the test has seen enough.
    """

    def __init__(self, answer: Answer, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []
        self._answer = answer
        self._enough = threading.Event()
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> LoopbackServer:
        self._thread.start()
        return self

    def __exit__(self, *_failure: object) -> None:
        self._enough.set()
        # Shutting a listener down wakes its accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(30)
                if self._tls is None:
                    self._talk(connection)
                else:
                    with self._tls.wrap_socket(connection, server_side=True) as secured:
                        self._talk(secured)

    def _talk(self, connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            piece = connection.recv(65536)
            if not piece:
                return
            request += piece
        head, _, body = request.partition(b"\r\n\r\n")
        stated = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        missing = (int(stated[0].split(b":")[1]) if stated else 0) - len(body)
        while missing > 0 and (piece := connection.recv(65536)):
            request, missing = request + piece, missing - len(piece)
        self.requests.append(request)
        self._answer(connection, self._enough)


def says(octets: bytes) -> Answer:
    """An answer that is written at once."""
    return lambda connection, _enough: connection.sendall(octets)


def ok(body: bytes = b"", *headers: bytes) -> bytes:
    """A plain 200 with ``body``."""
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers, b"", body])
