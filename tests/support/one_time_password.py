"""The citizen's authenticator: RFC 6238 with SHA-1, six digits and 30 seconds, written apart from the service's own."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
import time
from urllib.parse import parse_qs, urlsplit


def totp(secret: str, at: float | None = None) -> str:
    """The code for a base32 secret at a Unix time."""
    key = base64.b32decode(secret.upper() + "=" * (-len(secret) % 8))
    counter = struct.pack(">Q", int(time.time() if at is None else at) // 30)
    digest = hmac.digest(key, counter, hashlib.sha1)
    offset = digest[-1] & 0x0F  # RFC 4226 5.3
    number = struct.unpack(">I", digest[offset : offset + 4])[0] & 0x7FFFFFFF
    return f"{number % 1_000_000:06d}"


def secret_of(uri: str) -> str:
    """The base32 secret in an otpauth:// address."""
    return parse_qs(urlsplit(uri).query)["secret"][0]
