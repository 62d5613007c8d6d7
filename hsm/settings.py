"""Where the token is and who may open it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

SOFTHSM_MODULE = "/usr/lib/softhsm/libsofthsm2.so"

MAX_WORKERS = 64
MAX_DEADLINE_SECONDS = 60.0

KeyRight = Literal["sign", "mac", "seal", "wrap", "make", "destroy", "list"]


@dataclass(frozen=True)
class HsmClient:
    """A user of this machine whom the broker lets use keys. Asking whether a key is there needs no right of its own."""

    user: str
    """The peer's user, by name or number; the kernel says which one is at the other end of the socket."""

    room: str
    """What logs and counters call it, such as ``ocsp``."""

    keys: tuple[str, ...]
    """Labels it may use; ``*`` stands for anything, ``ocsp-*`` for every responder's."""

    operations: tuple[KeyRight, ...] = ("sign",)
    """What it may do with them: sign, mac, seal (and unseal), wrap (all about wrapped keys), make, destroy, list."""


@dataclass(frozen=True)
class HsmSettings:
    """One token of one PKCS#11 module."""

    pin_file: Path = field(repr=False)
    """Holds the user PIN on one line; must belong to this user with mode 0600 or less. The PIN itself is no setting."""

    module: str = SOFTHSM_MODULE
    """The PKCS#11 shared library, an absolute path."""

    module_parameters: str | None = None
    """Handed to the module when it starts (``pReserved`` of C_Initialize). NSS's softoken asks for them."""

    token_label: str = "tamga"  # noqa: S105 - a token's name, not a secret
    """Tokens are found by label: slot numbers change when a module starts again."""

    softhsm_conf: Path | None = None
    """SoftHSM's own configuration file. Other modules, and a SOFTHSM2_CONF already set, need none."""

    lock_file: Path | None = None
    """Held while a process loads the module and logs in; all processes of one token must name the same file.
    Without it the file lies beside ``softhsm_conf``, or beside ``pin_file`` when there is none."""

    wait_seconds: float = 10.0
    """How long a call waits for the calls before it; one that would wait longer is refused with 503."""

    broker: Path | None = None
    """The broker's unix socket. With it, only ``tamga hsm broker`` loads the module and reads the PIN file."""

    broker_workers: int = 2
    """Processes of the broker, each with a session of its own: calls into one token that run side by side."""

    broker_group: str = ""
    """The group that may connect, by name or number; empty means the broker's own user only."""

    broker_deadline: float = 2.0
    """Seconds in which the broker answers. A request that would wait longer is refused, a call that hangs is ended."""

    broker_queue: int = 256
    """Requests that may wait in the broker."""

    clients: tuple[HsmClient, ...] = ()
    """Who may use which keys through the broker. Its own user may everything unless it is named here, too."""

    def __post_init__(self) -> None:
        if not 1 <= self.broker_workers <= MAX_WORKERS:
            raise ValueError(f"broker_workers must be 1 to {MAX_WORKERS}")
        if not 0 < self.broker_deadline <= MAX_DEADLINE_SECONDS:
            raise ValueError(f"broker_deadline must be above 0 and at most {MAX_DEADLINE_SECONDS:g} s")
        if self.broker_queue < 1:
            raise ValueError("broker_queue must be at least 1")

    @property
    def start_lock(self) -> Path:
        """The file locked around load and login."""
        if self.lock_file is not None:
            return self.lock_file
        anchor = self.softhsm_conf or self.pin_file
        return anchor.with_name(anchor.name + ".lock")
