"""The file in which an officer keeps his private key: the second factor at the command line."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from core.errors import UsageError

if TYPE_CHECKING:
    from ca.officers.keys import OfficerPrivateKey

MAX_KEY_FILE_OCTETS = 16_384
MAX_PASSPHRASE_OCTETS = 1024

Passphrase = Callable[[], str]


def load(path: Path, passphrase: Passphrase, *, may_be_plain: bool) -> OfficerPrivateKey:
    """The key in an encrypted PEM file that only its owner can read. ``may_be_plain`` is for development instances.

    Raises OfficerKeyUnprotected, SecondFactorRefused, UsageError.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    from ca.officers.errors import OfficerKeyUnprotected, SecondFactorRefused

    data = _read(path)
    try:
        try:
            key = load_pem_private_key(data, None)
        except TypeError:  # encrypted, as it should be
            key = load_pem_private_key(data, passphrase().encode())
        else:
            if not may_be_plain:
                raise OfficerKeyUnprotected(f"the key in {path} is not encrypted")
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SecondFactorRefused(f"{path} does not open: wrong passphrase, or no private key") from error
    return _of_an_officer(key)


def passphrase_from(descriptor: int | None) -> Passphrase:
    """The first line of a file descriptor, or a prompt without echo; never an argument or a variable."""
    if descriptor is None:
        return lambda: str(click.prompt("Passphrase of the officer's key", hide_input=True, err=True))
    return lambda: _line(descriptor)


def _line(descriptor: int) -> str:
    if descriptor == 0:
        return sys.stdin.readline(MAX_PASSPHRASE_OCTETS).rstrip("\r\n")
    try:
        with os.fdopen(descriptor, encoding="utf-8", closefd=False) as stream:
            return stream.readline(MAX_PASSPHRASE_OCTETS).rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise UsageError(f"descriptor {descriptor} cannot be read") from error


def _read(path: Path) -> bytes:
    from ca.officers.errors import OfficerKeyUnprotected

    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise OfficerKeyUnprotected(f"{path} must be a file that only its owner can read (mode 0600)")
            return file.read(MAX_KEY_FILE_OCTETS)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _of_an_officer(key: object) -> OfficerPrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    from ca.officers.errors import SecondFactorRefused

    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise SecondFactorRefused("an officer's key is Ed25519 or P-256")
