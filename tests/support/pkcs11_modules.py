"""The PKCS#11 modules that the contract of key custody is tried on, and exactly what each of them cannot do.

A gap is a promise as well: its test fails when a newer module can do what this list denies, or fails in another way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from hsm.keystore import initialise_token
from hsm.pin import write_pin
from hsm.settings import SOFTHSM_MODULE, HsmSettings
from tests.support.tools import require_file, require_tool, run

SOFTOKEN_PATTERN = "/usr/lib/*/libsoftokn3.so"


class Gap(Enum):
    """Something a module cannot do; docs/pkcs11-modules.md has the table."""

    LOCAL = "does not keep CKA_LOCAL: nobody can tell a key made here from one brought along"
    EXTRACTION = "wraps keys although they say that they are not extractable"
    SEALING = "misjudges the length of AES-GCM output, which the binding asks for first"
    WRAPPED_CURVES = "does not unwrap EC keys without an attribute of its own"
    UNWRAPPED_ABILITIES = "lets an unwrapped RSA key do more than it was unwrapped for"


@dataclass(frozen=True)
class TestedModule:
    """A module, how a token is made in it, and its gaps."""

    __test__ = False  # not a test class, whatever its name

    name: str
    initialise: Callable[[Path, str, str], HsmSettings]
    """Makes a token in a folder, with a label and a PIN."""
    gaps: frozenset[Gap] = frozenset()

    def lacks(self, gap: Gap) -> bool:
        """True when this module cannot do that."""
        return gap in self.gaps


def softhsm_token(folder: Path, label: str, pin: str) -> HsmSettings:
    """A SoftHSM token, made as ``tamga init`` makes it."""
    # The one path that all tests of a process use: by another name the library would be started twice.
    module = require_file(SOFTHSM_MODULE, "softhsm2")
    settings = HsmSettings(
        module=str(module),
        pin_file=folder / "pin",
        token_label=label,
        softhsm_conf=folder / "softhsm2.conf",
        wait_seconds=60,
    )
    initialise_token(settings, pin)
    return settings


def softoken_token(folder: Path, label: str, pin: str) -> HsmSettings:
    """An NSS database with a password, made with NSS's own tool."""
    module = require_file(SOFTOKEN_PATTERN, "libnss3")
    certutil = require_tool("certutil", "libnss3-tools")
    pin_file = folder / "pin"
    write_pin(pin_file, pin)
    database = f"sql:{folder}"
    done = run(certutil, "-N", "-d", database, "-f", pin_file)
    assert done.status == 0, done.output
    return HsmSettings(
        module=str(module),
        module_parameters=f"configDir='{database}' certPrefix='' keyPrefix='' secmod='' "
        f"dbTokenDescription='{label}' flags=passwordRequired",
        pin_file=pin_file,
        token_label=label,
        wait_seconds=60,
    )


MODULES = (
    TestedModule("softhsm", softhsm_token),
    TestedModule("nss-softoken", softoken_token, frozenset(Gap)),
)
