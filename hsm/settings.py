"""Where the token is and who may open it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

SOFTHSM_MODULE = "/usr/lib/softhsm/libsofthsm2.so"


@dataclass(frozen=True)
class HsmSettings:
    """One token of one PKCS#11 module."""

    pin_file: Path = field(repr=False)
    """Holds the user PIN on one line; must belong to this user with mode 0600 or less. The PIN itself is no setting."""

    module: str = SOFTHSM_MODULE
    """The PKCS#11 shared library, an absolute path."""

    token_label: str = "tamga"  # noqa: S105 - a token's name, not a secret
    """Tokens are found by label: slot numbers change when a module starts again."""

    softhsm_conf: Path | None = None
    """SoftHSM's own configuration file. Other modules, and a SOFTHSM2_CONF already set, need none."""

    lock_file: Path | None = None
    """Held while a process loads the module and logs in; all processes of one token must name the same file.
    Without it the file lies beside ``softhsm_conf``, or beside ``pin_file`` when there is none."""

    wait_seconds: float = 10.0
    """How long a call waits for the calls before it; one that would wait longer is refused with 503."""

    @property
    def start_lock(self) -> Path:
        """The file locked around load and login."""
        if self.lock_file is not None:
            return self.lock_file
        anchor = self.softhsm_conf or self.pin_file
        return anchor.with_name(anchor.name + ".lock")
