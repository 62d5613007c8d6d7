"""A request in a GET path (RFC 6960 appendix A.1): base64, and what intermediaries make of it."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from itertools import combinations_with_replacement
from math import comb
from urllib.parse import unquote

from ocsp.errors import MalformedRequest
from ocsp.request import MAX_REQUEST_OCTETS

MAX_PATH_CHARACTERS = MAX_REQUEST_OCTETS * 4 // 3 + 4
MAX_LOST_SLASHES = 3
# A path whose lost slashes could be put back in more ways than these is refused: each way costs a parse.
MAX_READINGS = 256
_ALPHABET = re.compile(r"[A-Za-z0-9+/]+")


def readings(path: str) -> Iterator[bytes]:
    """What the path after the responder's address may have been before it was carried here; usually one reading.

    Tolerated: percent-encoding once more than the server undoes, ``+`` turned into a space, padding dropped, slashes
    doubled in front, and ``//`` within collapsed to ``/``. A slash lost is felt by the length that the DER states;
    every place it can be put back gives one reading, and the caller takes the one that makes sense.
    Raises MalformedRequest.
    """
    if len(path) > 3 * MAX_PATH_CHARACTERS:
        raise MalformedRequest(f"a request has at most {MAX_REQUEST_OCTETS} octets")
    # A DER SEQUENCE begins with M in base64, so slashes before it belong to the address.
    text = (unquote(path) if "%" in path else path).replace(" ", "+").lstrip("/").rstrip("=")
    if not _ALPHABET.fullmatch(text) or len(text) > MAX_PATH_CHARACTERS:
        raise MalformedRequest("the path is not base64 of a request")
    missing = _stated_characters(text) - len(text)
    if missing == 0:
        return iter((_decode(text),))
    runs = [match.end() for match in re.finditer("/+", text)]
    if not 0 < missing <= MAX_LOST_SLASHES or not 0 < comb(len(runs) + missing - 1, missing) <= MAX_READINGS:
        raise MalformedRequest("the path's length is not the request's")
    return map(_decode, _with_slashes(text, runs, missing))


def _stated_characters(text: str) -> int:
    """How many characters the base64 of this DER element should have, without padding."""
    head = _decode(text[:8].ljust(8, "A"))
    if head[0] != 0x30:
        raise MalformedRequest("the path is not base64 of a request")
    size = head[1] + 2
    if head[1] & 0x80:
        octets = head[1] & 0x7F
        if octets not in (1, 2):
            raise MalformedRequest(f"a request has at most {MAX_REQUEST_OCTETS} octets")
        size = int.from_bytes(head[2 : 2 + octets], "big") + 2 + octets
    return -(-size * 4 // 3)


def _with_slashes(text: str, runs: list[int], missing: int) -> Iterator[str]:
    """Every text that collapses to this one by losing ``missing`` slashes; ``runs`` are where its slashes end."""
    for places in combinations_with_replacement(runs, missing):
        whole, start = [], 0
        for place in places:
            whole += [text[start:place], "/"]
            start = place
        yield "".join(whole) + text[start:]


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise MalformedRequest("the path is not base64 of a request") from error
