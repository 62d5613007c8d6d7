"""Linting: pkilint with the profile's type, then our own lints; what they call an error is never signed.

A full lint costs more than everything else of an issuance together. So a certificate whose octets differ from those
of a fully linted one in declared slots only (``policies.lints.shape``) is passed by its shape: every slot has its own
rule, which runs each time. The first of each shape, a random sample, what is not plain, and every certificate of a
profile that says ``full_lint`` are linted in full before they are signed.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import date

from ca import to_be_signed
from ca.errors import LintRefused
from ca.lint_validators import build, linter_version
from ca.lint_workers import LintWorkers
from ca.to_be_signed import PublicKey
from core.logs import get_logger
from policies.lints import Finding
from policies.lints.every import lint_certificate, lint_slots, lints_digest
from policies.lints.shape import ShapeUnreadable, dissect
from policies.profiles import CertificateProfile, load_profile, profile_names

log = get_logger("ca.linting")

FULL, BY_SHAPE = "full", "shape"
# How many shapes a process remembers: profiles times issuers times kinds of keys, and names with one part more or less.
MAX_SHAPES = 4096
# One certificate in so many is linted in full although its shape is known.
FULL_LINT_ONE_IN = 50
_BLOCKING = frozenset({"FATAL", "ERROR", "WARNING"})


class Linter:
    """Holds the validators and the shapes they passed. Threads may share it.

    pkilint runs in this process, under a lock that costs nothing because it is plain Python, or in ``workers``
    processes of its own. Nothing remembered here outlives the process, and another linter or profile is another shape.
    """

    def __init__(
        self,
        *,
        on_loopback: bool = False,
        workers: int = 0,
        full_lint_one_in: int = FULL_LINT_ONE_IN,
        draw: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        """``on_loopback`` says that the instance's addresses are on its own machine, which some waivers ask for;
        ``full_lint_one_in`` 1 never passes anything by its shape."""
        self._on_loopback = on_loopback
        self._version = linter_version()
        self._workers = LintWorkers(workers, version=self._version) if workers else None
        self._full_lint_one_in = full_lint_one_in
        self._draw = draw
        self._lock = threading.Lock()
        self._validators: dict[str, Callable[[bytes], list[Finding]]] = {}
        self._shapes: OrderedDict[bytes, None] = OrderedDict()
        self._shapes_lock = threading.Lock()

    def warm_up(self) -> None:
        """Load pkilint and build every validator that the profiles and CRLs name."""
        kinds = ["arl", "crl", *sorted({load_profile(name).linter for name in profile_names()})]
        if self._workers:
            self._workers.warm_up(kinds)
            return
        with self._lock:
            for kind in kinds:
                self._validator(kind)

    def close(self) -> None:
        """End the worker processes, if there are any."""
        if self._workers:
            self._workers.close()

    def certificate_findings(self, der: bytes, profile: CertificateProfile) -> tuple[Finding, ...]:
        """Everything both linters say about a certificate. Raises LinterUnavailable."""
        return (*self._findings(profile.linter, der), *lint_certificate(der, profile))

    def check_certificate(self, der: bytes, profile: CertificateProfile, today: date) -> tuple[Finding, ...]:
        """The findings that do not block. Raises LintRefused for an error, or a warning without a waiver in force."""
        return _passed(self.certificate_findings(der, profile), self._waived(profile, today))

    def check_to_be_signed(self, tbs: bytes, issuer_key: PublicKey, profile: CertificateProfile, today: date) -> str:
        """Whether these octets may be signed; how that was found: FULL or BY_SHAPE. Raises LintRefused."""
        try:
            shape, slots = dissect(tbs)
        except ShapeUnreadable:
            self._check_in_full(tbs, issuer_key, profile, today)
            return FULL
        _passed(lint_slots(slots, profile), set())
        key = self._shape_key(shape, profile, today)
        known = slots.is_plain() and not profile.full_lint and self._knows(key)
        if known and self._draw(self._full_lint_one_in):
            return BY_SHAPE
        try:
            self._check_in_full(tbs, issuer_key, profile, today)
        except LintRefused:
            if known:
                self._forget_all(profile)
            raise
        if slots.is_plain() and not profile.full_lint:
            self._remember(key)
        return FULL

    def check_crl(self, der: bytes, *, for_authorities: bool, last: bool = False) -> tuple[Finding, ...]:
        """The findings about a CRL that do not block. An authority's ``last`` one may be valid for ever.

        Raises LintRefused, LinterUnavailable.
        """
        kind = "arl" if for_authorities else "crl"
        waived = {("ERROR", f"cabf.{kind}_invalid_validity_period")} if last else set()
        return _passed(self._findings(kind, der), waived)

    def _findings(self, kind: str, der: bytes) -> list[Finding]:
        if self._workers:
            return self._workers.findings(kind, der)
        with self._lock:
            return self._validator(kind)(der)

    def _check_in_full(self, tbs: bytes, issuer_key: PublicKey, profile: CertificateProfile, today: date) -> None:
        self.check_certificate(to_be_signed.under_throw_away_key(tbs, issuer_key), profile, today)

    def _waived(self, profile: CertificateProfile, today: date) -> set[tuple[str, str]]:
        waivers = [waiver for waiver in profile.waivers if today <= waiver.until]
        waived = {("WARNING", waiver.finding) for waiver in waivers if not waiver.only_on_loopback}
        if self._on_loopback:
            waived |= {
                (severity, waiver.finding)
                for waiver in waivers
                if waiver.only_on_loopback
                for severity in ("ERROR", "WARNING")
            }
        return waived

    def _shape_key(self, shape: bytes, profile: CertificateProfile, today: date) -> bytes:
        """What was passed holds for this profile, these linters and these waivers, and for nothing else."""
        waived = ",".join(sorted(f"{severity} {finding}" for severity, finding in self._waived(profile, today)))
        under = f"{profile.name} {profile.version} {profile.digest} {self._version} {lints_digest()} {waived}"
        return hashlib.sha256(hashlib.sha256(under.encode()).digest() + shape).digest()

    def _knows(self, key: bytes) -> bool:
        with self._shapes_lock:
            if key not in self._shapes:
                return False
            self._shapes.move_to_end(key)
            return True

    def _remember(self, key: bytes) -> None:
        with self._shapes_lock:
            self._shapes[key] = None
            self._shapes.move_to_end(key)
            while len(self._shapes) > MAX_SHAPES:
                self._shapes.popitem(last=False)

    def _forget_all(self, profile: CertificateProfile) -> None:
        """The two ways disagree, which no rule foresees: nothing more is passed by its shape until linted anew."""
        log.error("lint_by_shape_disagrees", profile=profile.name, version=profile.version)
        with self._shapes_lock:
            self._shapes.clear()

    def _validator(self, kind: str) -> Callable[[bytes], list[Finding]]:
        if kind not in self._validators:
            self._validators[kind] = build(kind)
        return self._validators[kind]


def _passed(findings: Iterable[Finding], waived: set[tuple[str, str]]) -> tuple[Finding, ...]:
    kept = tuple(findings)
    blocking = [f for f in kept if f.severity in _BLOCKING and (f.severity, f.code) not in waived]
    if blocking:
        codes = sorted({finding.code for finding in blocking})
        raise LintRefused(f"the linters refuse it: {', '.join(codes)}", findings=codes)
    return kept
