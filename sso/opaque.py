"""Opaque values: random strings we hand out and afterwards know only by their SHA-256."""

from __future__ import annotations

import hashlib
import secrets

# RFC 6749 10.10 asks for 128 bits; 256 leave no question.
RANDOM_OCTETS = 32


def new_value() -> str:
    """A fresh secret: 256 random bits as 43 base64url characters."""
    return secrets.token_urlsafe(RANDOM_OCTETS)


def digest(value: str) -> str:
    """What we store in place of ``value``: its SHA-256 in hexadecimal.

    A plain hash is enough because the value itself has 256 random bits; it would not be for a password.
    """
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()
