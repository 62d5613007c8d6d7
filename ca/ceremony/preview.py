"""A dry run: every TBSCertificate of a plan with placeholder keys, linted as it would be before it is signed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ca import serial_number, to_be_signed
from ca.ceremony.plan import AuthorityStep, CredentialStep, CrossStep, Plan
from ca.ceremony.rebuilding import CertificateStep, Drawn, Party, certificate_tbs, subject_of
from ca.hierarchy import Hierarchy
from ca.issuance import BACKDATE
from ca.linting import Linter
from ca.settings import CaSettings
from ca.to_be_signed import PublicKey
from core.clock import Clock
from hsm.keystore import KeyAlgorithm
from policies.lints import Finding
from policies.profiles import load_profile


@dataclass(frozen=True)
class Preview:
    """What would be signed for one step, but for the public key, and the serial number unless the plan names it."""

    name: str
    profile: str
    tbs: bytes = field(repr=False)
    findings: tuple[Finding, ...]


class Previews:
    """Shows plans."""

    def __init__(self, *, settings: CaSettings, clock: Clock, hierarchy: Hierarchy, linter: Linter) -> None:
        self._settings = settings
        self._clock = clock
        self._hierarchy = hierarchy
        self._linter = linter

    def of(self, plan: Plan) -> tuple[Preview, ...]:
        """Every certificate of the plan in its order. Raises LintRefused for the first that could not be signed."""
        parties = {slug: self._standing(slug) for slug in plan.standing()}
        for step in plan.authorities:
            parties[step.slug] = Party.to_be(step, placeholder(step.key))
        steps = [step for step in plan.steps if isinstance(step, AuthorityStep | CrossStep | CredentialStep)]
        return tuple(self._preview(step, parties) for step in steps)

    def _standing(self, slug: str) -> Party:
        return Party.of(slug, self._hierarchy.authority(slug).der)

    def _preview(self, step: CertificateStep, parties: dict[str, Party]) -> Preview:
        issuer, profile = parties[step.issuer], load_profile(step.terms.profile, step.terms.version)
        if isinstance(step, CrossStep):
            subject, key = parties[step.authority].name, parties[step.authority].public_key
        else:
            subject, key = subject_of(step), placeholder(step.key)
        if isinstance(step, AuthorityStep):
            key = parties[step.slug].public_key
        not_before = (self._clock() - BACKDATE).replace(microsecond=0)
        lasting = step.terms.lasting or profile.validity_on(not_before.date())
        drawn = Drawn(
            serial=step.terms.serial or serial_number.draw(self._settings.instance),
            not_before=not_before,
            not_after=not_before + lasting - timedelta(seconds=1),
        )
        names = step.alternative_names if isinstance(step, CredentialStep) else ()
        tbs = certificate_tbs(
            profile,
            self._settings,
            issuer=issuer,
            subject=subject,
            public_key=key,
            drawn=drawn,
            alternative_names=names,
        )
        linted = to_be_signed.under_throw_away_key(tbs, issuer.public_key)
        findings = self._linter.check_certificate(linted, profile, self._clock().date())
        return Preview(step.name, profile.name, tbs, findings)


@lru_cache(maxsize=8)
def placeholder(algorithm: KeyAlgorithm) -> PublicKey:
    """A public key of this kind whose private half nobody keeps."""
    curves: dict[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
    if algorithm.value in curves:
        return ec.generate_private_key(curves[algorithm.value]).public_key()
    return rsa.generate_private_key(65537, int(algorithm.value.removeprefix("RSA-"))).public_key()
