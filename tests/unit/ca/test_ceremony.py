"""The ceremony: everything it makes stands before foreign tools, is held once, and goes on after a crash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta

import pytest

from ca import errors
from ca.ceremony import DEFAULT_PLAN, read_plan
from ca.hierarchy import key_bits
from ca.issuance import Issuance
from ca.linting import Linter
from ca.settings import CaSettings
from hsm.keystore import Keystore
from policies.profiles import load_profile

PLAN = DEFAULT_PLAN.read_text("utf-8")


def test_the_shipped_ceremony_makes_every_authority_and_credential(room) -> None:
    slugs = [authority.slug for authority in room.parts.hierarchy.authorities()]
    assert slugs == ["root-g1", "citizen-sign-g1", "seal-g1", "service-g1"]
    for slug in slugs:
        responder = room.parts.hierarchy.responder(slug)
        assert responder.key_label == f"ocsp-{slug}-1"
        assert responder.certificate.issuer == slug
    assert room.parts.hierarchy.time_stamping_unit().key_label == "tsa-1"
    assert room.parts.hierarchy.token_signing().key_label == "token-signing-1"
    assert [a.slug for a in room.parts.hierarchy.chain("seal-g1")] == ["seal-g1", "root-g1"]


def test_every_certificate_of_the_ceremony_is_free_of_findings(room, linter: Linter) -> None:
    found = {
        (certificate.profile, finding.code, finding.severity)
        for certificate in room.parts.register.certificates()
        for finding in linter.certificate_findings(certificate.der, load_profile(certificate.profile))
        if finding.severity in ("FATAL", "ERROR", "WARNING")
    }
    assert found == set()


def test_openssl_accepts_every_certificate_of_the_ceremony(room) -> None:
    for certificate in room.parts.register.certificates():
        # A responder carries nocheck and no distribution point; its issuers' CRLs are looked at all the same.
        checks = "-crl_check_all" if load_profile(certificate.profile).crl_distribution_point else "-policy_check"
        result = room.openssl_verify(certificate.der, checks)
        assert result.returncode == 0, (certificate.profile, result.stdout, result.stderr)


@pytest.mark.parametrize(("slug", "purpose"), [("tsa", "timestampsign"), ("ocsp-responder", "ocsphelper")])
def test_openssl_accepts_the_units_for_their_purpose(room, slug: str, purpose: str) -> None:
    unit = room.parts.register.certificates(profile=slug, limit=1)[0]
    assert room.openssl_verify(unit.der, "-purpose", purpose).returncode == 0


def test_an_issuer_is_found_by_either_hash_pair_and_not_by_half_of_one(room) -> None:
    hierarchy = room.parts.hierarchy
    seal = hierarchy.authority("seal-g1")
    other = hierarchy.authority("service-g1")
    for algorithm in ("sha1", "sha256", "sha384", "sha512"):
        name = hashlib.new(algorithm, seal.name).digest()
        key = hashlib.new(algorithm, key_bits(seal.public_key)).digest()
        found = hierarchy.by_hashes(algorithm, name, key)
        assert found is not None and found.slug == "seal-g1"
        wrong = hashlib.new(algorithm, key_bits(other.public_key)).digest()
        assert hierarchy.by_hashes(algorithm, name, wrong) is None


def test_a_ceremony_is_held_once(room) -> None:
    with pytest.raises(errors.CeremonyHeld):
        room.parts.ceremony.run_default(actor="test")
    assert room.events().count("ca:ceremony:begun") == 1


def test_an_authority_is_never_made_a_second_time_under_another_plan(room) -> None:
    again = read_plan(PLAN.replace("first-generation", "again"), CaSettings())
    with pytest.raises(errors.CeremonyHeld):
        room.parts.ceremony.hold(again, actor="test")


@pytest.mark.parametrize(
    ("what", "into"),
    [
        ('profile = "root"', 'profile = "no-such"'),
        ('key = "P-384"', 'key = "P-999"'),
        ('kind = "hierarchy"', 'kind = "destroy"'),
        ('policy_url = "https://localhost/cps/en.pdf"', ""),
        ('CN = "Tamga Root G1"', 'CN = ""'),
        ('CN = "Tamga Root G1"', f'CN = "{"Ө" * 33}"'),
        ('issuer = "seal-g1"', 'issuer = "nobody-g1"'),
        ("name =", "name ="[:3]),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(what: str, into: str) -> None:
    with pytest.raises(errors.CeremonyPlanRefused):
        read_plan(PLAN.replace(what, into), CaSettings())


SMALL_PLAN = """
name = "small"
kind = "hierarchy"
policy_url = "https://localhost/cps"
[organisation]
O = "Test"
organizationIdentifier = "NTRMN-0000000"
[[authority]]
slug = "small-root-g1"
purpose = "root"
profile = "root"
key = "P-384"
subject = { CN = "Small Root" }
[[authority]]
slug = "small-g1"
purpose = "small"
issuer = "small-root-g1"
profile = "issuing-ca"
key = "P-384"
subject = { CN = "Small CA" }
[[credential]]
label = "ocsp-small-g1-1"
issuer = "small-g1"
profile = "ocsp-responder"
key = "P-256"
purpose = "ocsp"
subject = { CN = "Small OCSP" }
"""


class PowerCut(Exception):
    """The process ends here."""


@pytest.mark.parametrize("crash", range(1, 8))
def test_a_ceremony_that_was_cut_short_goes_on_where_it_stopped(
    room, keystore: Keystore, monkeypatch: pytest.MonkeyPatch, crash: int
) -> None:
    text = SMALL_PLAN.replace("small", f"small{crash}")
    plan = read_plan(text, CaSettings())
    cut_after(room, keystore, monkeypatch, crash)
    with pytest.raises(PowerCut):
        room.parts.ceremony.hold(plan, actor="test")
    monkeypatch.undo()
    room.parts.recovery.settle(min_age=timedelta(0))
    room.parts.ceremony.hold(plan, actor="test")
    slugs = [a.slug for a in room.parts.hierarchy.authorities()]
    assert slugs[-2:] == [f"small{crash}-root-g1", f"small{crash}-g1"]
    assert len(room.parts.register.certificates(issuer=f"small{crash}-g1")) == 1
    assert room.parts.crls.current(f"small{crash}-g1").entries <= 1
    with pytest.raises(errors.CeremonyHeld):
        room.parts.ceremony.hold(plan, actor="test")
    room.check_audit()


def cut_after(room, keystore: Keystore, monkeypatch: pytest.MonkeyPatch, crash: int) -> None:
    """Let the process end at the ``crash``-th of: key made, intent recorded, signed, … through the ceremony."""
    passed = 0

    def counted(original: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal passed
            result = original(*args, **kwargs)
            passed += 1
            if passed == crash:
                raise PowerCut
            return result

        return call

    monkeypatch.setattr(keystore, "generate", counted(keystore.generate))
    monkeypatch.setattr(Issuance, "_take", counted(Issuance._take))
    monkeypatch.setattr(Issuance, "_sign", counted(Issuance._sign))


def test_a_responder_is_renewed_at_half_life_and_both_overlap(room) -> None:
    responders = room.parts.responders
    old = room.parts.hierarchy.responder("seal-g1")
    assert responders.renew_due(actor="test") == ()
    room.clock.advance(timedelta(days=8))
    renewed = {certificate.issuer: certificate for certificate in responders.renew_due(actor="test")}
    assert set(renewed) == {"citizen-sign-g1", "seal-g1", "service-g1"}  # a root signs on an explicit command only
    new = room.parts.hierarchy.responder("seal-g1")
    assert new.key_label == "ocsp-seal-g1-2"
    assert new.certificate.subject_text == old.certificate.subject_text
    assert old.certificate.not_after > room.clock.moment
    assert room.openssl_verify(new.certificate.der, "-purpose", "ocsphelper").returncode == 0
    for label in (f"ocsp-{slug}-2" for slug in renewed):
        room.keystore.destroy(label)


def test_a_plan_is_read_without_touching_anything() -> None:
    assert len(list(read_plan(PLAN, CaSettings()).lines())) == 14
