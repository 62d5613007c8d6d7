"""``otp``: one-time codes of RFC 6238, SHA-1, six digits, steps of 30 seconds: what every phone app knows."""

from __future__ import annotations

import base64
import hmac
import secrets
from datetime import datetime
from hashlib import sha1
from urllib.parse import quote

METHOD = "otp"  # RFC 8176
STEP_SECONDS = 30
DIGITS = 6
SECRET_OCTETS = 20  # RFC 4226 4: 160 bits recommended
# RFC 6238 5.2: one step back for the network, one ahead for a phone whose clock is fast.
WINDOW = (0, -1, 1)


def new_secret() -> bytes:
    """A fresh shared secret."""
    return secrets.token_bytes(SECRET_OCTETS)


def code_at(secret: bytes, moment: datetime) -> str:
    """The code a phone shows at ``moment``."""
    return code_of(secret, step_of(moment))


def code_of(secret: bytes, step: int) -> str:
    """The code of one time step (RFC 4226 5.3)."""
    mac = hmac.digest(secret, step.to_bytes(8, "big"), sha1)
    offset = mac[-1] & 0x0F
    number = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFF_FFFF
    return str(number % 10**DIGITS).zfill(DIGITS)


def step_of(moment: datetime) -> int:
    """The time step ``moment`` lies in."""
    return int(moment.timestamp()) // STEP_SECONDS


def matching_step(secret: bytes, code: str, moment: datetime) -> int | None:
    """The step, near ``moment``, whose code was typed (spaces are forgiven), or None."""
    typed = code.replace(" ", "").encode("utf-8", "replace")
    now = step_of(moment)
    found = [now + drift for drift in WINDOW if hmac.compare_digest(code_of(secret, now + drift).encode(), typed)]
    return found[0] if found else None


def secret_text(secret: bytes) -> str:
    """The secret in the base32 that people type into a phone app."""
    return base64.b32encode(secret).decode().rstrip("=")


def provisioning_uri(secret: bytes, *, account: str, issuer: str) -> str:
    """The ``otpauth://`` address that phone apps read from a QR code."""
    label = f"{quote(issuer, safe='')}:{quote(account, safe='')}"
    return (
        f"otpauth://totp/{label}?secret={secret_text(secret)}&issuer={quote(issuer, safe='')}"
        f"&algorithm=SHA1&digits={DIGITS}&period={STEP_SECONDS}"
    )
