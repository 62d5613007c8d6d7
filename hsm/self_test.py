"""Does this token do everything Tamga asks of one? Vendors differ; operators find out before the ceremony does.

Nothing is left in the token, no PIN is tried but the one in the PIN file, and failures are reported, not raised: only a
token that does not open at all ends the examination.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum

import pkcs11
from pkcs11 import Mechanism, MechanismFlag

from core.errors import CodedError
from hsm import probes
from hsm.errors import Condition
from hsm.keys import Scheme
from hsm.keystore import TokenStatus
from hsm.sessions import Sessions
from hsm.settings import HsmSettings
from hsm.templates import KeyAlgorithm
from hsm.token_keystore import TokenKeystore

RATE_SECONDS = 1.0


class Need(StrEnum):
    """What it means when a probe fails."""

    REQUIRED = "required"
    """Tamga does not work, or not safely, with this token."""
    OPTIONAL = "optional"
    """Something is not offered, or told unclearly; what it costs is in the documentation of modules."""


@dataclass(frozen=True)
class Probe:
    """One thing asked of the token."""

    name: str
    group: str
    need: Need
    passed: bool
    detail: str
    """What was seen, or why it failed."""


@dataclass(frozen=True)
class Rate:
    """How often a second one caller gets something done; None when the token cannot do it."""

    name: str
    per_second: float | None


@dataclass(frozen=True)
class Report:
    """What an examination found."""

    token: TokenStatus
    probes: tuple[Probe, ...]
    rates: tuple[Rate, ...]

    @property
    def passed(self) -> bool:
        """True when nothing required failed."""
        return all(probe.passed for probe in self.probes if probe.need is Need.REQUIRED)


_MECHANISMS, _ATTRIBUTES, _ERRORS, _PROCESSES = "mechanisms", "attributes", "errors", "processes"

QUESTIONS: tuple[tuple[str, str, Need, Callable[[TokenKeystore], str]], ...] = (
    ("ecdsa-p256", _MECHANISMS, Need.REQUIRED, probes.signs(KeyAlgorithm.P256, Scheme.ECDSA)),
    ("ecdsa-p384", _MECHANISMS, Need.REQUIRED, probes.signs(KeyAlgorithm.P384, Scheme.ECDSA)),
    ("hmac-sha-256", _MECHANISMS, Need.REQUIRED, probes.authenticates),
    ("aes-256-gcm", _MECHANISMS, Need.REQUIRED, probes.seals),
    ("aes-key-wrap-pad", _MECHANISMS, Need.REQUIRED, probes.wraps(KeyAlgorithm.P256)),
    ("aes-key-wrap-pad-rsa", _MECHANISMS, Need.OPTIONAL, probes.wraps(KeyAlgorithm.RSA3072)),
    ("rsa-3072", _MECHANISMS, Need.OPTIONAL, probes.signs(KeyAlgorithm.RSA3072, Scheme.RSA_PKCS1, Scheme.RSA_PSS)),
    ("eddsa", _MECHANISMS, Need.OPTIONAL, probes.offers(Mechanism.EDDSA, MechanismFlag.SIGN)),
    ("ml-dsa", _MECHANISMS, Need.OPTIONAL, probes.offers(Mechanism.ML_DSA, MechanismFlag.SIGN)),
    ("resident-keys", _ATTRIBUTES, Need.REQUIRED, probes.resident_keys_are_locked_in),
    ("locks", _ATTRIBUTES, Need.REQUIRED, probes.locks_hold),
    ("no-extraction", _ATTRIBUTES, Need.REQUIRED, probes.resident_keys_are_not_wrapped),
    ("wrapping-keys", _ATTRIBUTES, Need.REQUIRED, probes.wrapping_keys_only_wrap),
    ("unwrapped-keys", _ATTRIBUTES, Need.REQUIRED, probes.unwrapped_keys_only_sign),
    ("names", _ATTRIBUTES, Need.REQUIRED, probes.names_are_given_once),
    ("trusted-mark", _ATTRIBUTES, Need.OPTIONAL, probes.trusted_mark_is_the_officers),
    ("wrap-with-trusted", _ATTRIBUTES, Need.OPTIONAL, probes.wrap_with_trusted_holds),
    ("unknown-key", _ERRORS, Need.REQUIRED, probes.unknown_key_is_not_found),
    ("damaged-blob", _ERRORS, Need.REQUIRED, probes.damaged_blob_is_refused),
    ("destroyed-key", _ERRORS, Need.REQUIRED, probes.told(Condition.HANDLE_LOST, probes.sign_with_destroyed)),
    ("lost-session", _ERRORS, Need.REQUIRED, probes.lost_session_heals),
    ("restarted-module", _ERRORS, Need.REQUIRED, probes.restarted_module_heals),
    ("wrong-mechanism", _ERRORS, Need.OPTIONAL, probes.told(Condition.REFUSED, probes.sign_with_foreign_mechanism)),
    ("wrong-length", _ERRORS, Need.OPTIONAL, probes.told(Condition.REFUSED, probes.unwrap_too_little)),
    ("threads", _PROCESSES, Need.REQUIRED, probes.threads_take_turns),
    ("processes", _PROCESSES, Need.REQUIRED, probes.processes_work_side_by_side),
)

RATES: tuple[tuple[str, Callable[[TokenKeystore], AbstractContextManager[Callable[[], object]]]], ...] = (
    ("ecdsa-p256", lambda keystore: probes.signing(keystore, KeyAlgorithm.P256)),
    ("ecdsa-p384", lambda keystore: probes.signing(keystore, KeyAlgorithm.P384)),
    ("rsa-3072", lambda keystore: probes.signing(keystore, KeyAlgorithm.RSA3072)),
    ("hmac-sha-256", probes.authenticating),
    ("aes-256-gcm", probes.sealing),
    ("wrapped-p256", probes.wrapped_signing),
)


def examine(settings: HsmSettings, *, rate_seconds: float = RATE_SECONDS) -> Report:
    """Ask the token everything, one question after the other, then measure for ``rate_seconds`` each.

    Raises HsmUnavailable, PinIncorrect or PinFileUnsafe when the token does not open.
    """
    # Time flies for these sessions, so that the pause after one failed question is over before the next.
    keystore = TokenKeystore(Sessions(settings, monotonic=itertools.count(step=3600).__next__))
    try:
        status = keystore.status()
        probes.sweep(keystore)
        asked = tuple(_asked(keystore, *question) for question in QUESTIONS)
        rates = tuple(Rate(name, _rate(keystore, prepared, rate_seconds)) for name, prepared in RATES)
        return Report(status, (*asked, _left_nothing(keystore)), rates)
    finally:
        keystore.close()


def _asked(keystore: TokenKeystore, name: str, group: str, need: Need, ask: Callable[[TokenKeystore], str]) -> Probe:
    try:
        return Probe(name, group, need, True, ask(keystore))
    except (CodedError, probes.ProbeFailed, pkcs11.PKCS11Error) as error:
        return Probe(name, group, need, False, str(error) or type(error).__name__)


def _rate(
    keystore: TokenKeystore,
    prepared: Callable[[TokenKeystore], AbstractContextManager[Callable[[], object]]],
    seconds: float,
) -> float | None:
    try:
        with prepared(keystore) as act:
            act()
            begun, done = time.perf_counter(), 0
            while (passed := time.perf_counter() - begun) < seconds or done == 0:
                act()
                done += 1
            return round(done / passed, 1)
    except (CodedError, pkcs11.PKCS11Error):
        return None


def _left_nothing(keystore: TokenKeystore) -> Probe:
    """Also destroys what a failed question could not."""
    try:
        left = probes.sweep(keystore)
    except CodedError as error:
        return Probe("left-nothing", _ATTRIBUTES, Need.REQUIRED, False, str(error))
    return Probe("left-nothing", _ATTRIBUTES, Need.REQUIRED, left == 0, f"{left} keys were left over and are destroyed")
