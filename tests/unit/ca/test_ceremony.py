"""The ceremony: everything it makes stands before foreign tools, is held once, and goes on after a crash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca import errors
from ca.ceremony import DEFAULT_PLAN, Plan, read_plan
from ca.issuance import Issuance
from ca.linting import Linter
from ca.settings import CaSettings
from hsm.keystore import KeyAlgorithm, KeyPurpose, Keystore
from policies.profiles import load_profile

PLAN = DEFAULT_PLAN.read_text("utf-8")


def test_the_shipped_ceremony_makes_every_authority_and_credential(room) -> None:
    slugs = [authority.slug for authority in room.parts.hierarchy.authorities()]
    assert slugs == ["root-g1", "citizen-sign-g1", "seal-g1", "service-g1", "citizen-auth-g1", "tls-g1"]
    for slug in slugs:
        responder = room.parts.hierarchy.responder(slug)
        assert responder.key_label == f"ocsp-{slug}-1"
        assert responder.certificate.issuer == slug
    assert room.parts.hierarchy.time_stamping_unit().key_label == "tsa-1"
    assert [a.slug for a in room.parts.hierarchy.chain("seal-g1")] == ["seal-g1", "root-g1"]


def test_the_key_that_signs_tokens_is_made_without_a_certificate_and_is_on_record(room) -> None:
    public_key = room.keystore.key("token-signing-1").public_key()
    assert public_key.curve.name == "secp256r1"
    assert room.parts.register.certificates(profile="token-signing") == ()
    spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert room.facts("ca:ceremony:held")["keys"] == [f"token-signing-1 {hashlib.sha256(spki).hexdigest()}"]


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
        ('purpose = "token-signing"', 'purpose = "ocsp"'),
        ('label = "tsa-1"', 'label = "seal-g1"'),
        (PLAN[PLAN.index("[[authority]]") :], ""),
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


def test_a_plan_is_read_without_touching_anything() -> None:
    assert len(list(read_plan(PLAN, CaSettings()).lines())) == 20


LATER_PLAN = """
name = "later"
kind = "hierarchy"
policy_url = "https://localhost/cps"
[organisation]
O = "Test"
organizationIdentifier = "NTRMN-0000000"
[[authority]]
slug = "service-g2"
purpose = "service"
issuer = "root-g1"
profile = "issuing-ca"
key = "P-384"
subject = { CN = "Service CA G2" }
[[credential]]
label = "tsa-100"
issuer = "service-g2"
profile = "tsa"
key = "P-256"
purpose = "time-stamping"
subject = { CN = "Unit 100" }
[[credential]]
label = "token-signing-1"
issuer = "service-g1"
profile = "token-signing"
key = "P-256"
purpose = "token-signing"
subject = { CN = "{host}" }
alternative_names = [{ kind = "URI", value = "{issuer}" }]
[[key]]
label = "token-signing-2"
key = "P-256"
purpose = "token-signing"
"""


@pytest.fixture
def later(room, tmp_path: Path, fresh_keys: None) -> Plan:
    path = tmp_path / "later.toml"
    path.write_text(LATER_PLAN)
    return room.parts.ceremony.plan(path)


def test_a_later_ceremony_builds_on_the_authorities_of_an_earlier_one(room, later: Plan, linter: Linter) -> None:
    before = {certificate.id for certificate in room.parts.register.certificates()}
    room.parts.ceremony.hold(later, actor="test")
    assert [a.slug for a in room.parts.hierarchy.chain("service-g2")] == ["service-g2", "root-g1"]
    assert room.parts.hierarchy.for_purpose("service").slug == "service-g2"
    assert room.parts.hierarchy.time_stamping_unit().key_label == "tsa-100"
    made = [certificate for certificate in room.parts.register.certificates() if certificate.id not in before]
    assert {certificate.profile for certificate in made} == {"issuing-ca", "tsa", "token-signing"}
    for certificate in made:
        assert room.openssl_verify(certificate.der, "-crl_check_all").returncode == 0
        findings = linter.certificate_findings(certificate.der, load_profile(certificate.profile))
        assert not [finding for finding in findings if finding.severity in ("FATAL", "ERROR", "WARNING")]
    assert room.keystore.has("token-signing-2")
    with pytest.raises(errors.CeremonyHeld):
        room.parts.ceremony.hold(later, actor="test")
    room.check_audit()


@pytest.mark.parametrize("crash", [3, 5, 8, 9])
def test_a_later_ceremony_that_was_cut_short_goes_on_too(
    room, later: Plan, keystore: Keystore, monkeypatch: pytest.MonkeyPatch, crash: int
) -> None:
    cut_after(room, keystore, monkeypatch, crash)
    with pytest.raises(PowerCut):
        room.parts.ceremony.hold(later, actor="test")
    monkeypatch.undo()
    room.parts.recovery.settle(min_age=timedelta(0))
    room.parts.ceremony.hold(later, actor="test")
    assert len(room.parts.register.certificates(issuer="service-g2")) == 1
    assert len(room.parts.register.certificates(profile="token-signing")) == 1
    assert room.keystore.has("token-signing-2")
    room.check_audit()


def test_a_revoked_authority_signs_no_new_one(room, later: Plan) -> None:
    root = room.parts.register.get(room.parts.hierarchy.authority("root-g1").certificate_id)
    room.parts.revocation.revoke(root.id, actor="test", reason=None)
    with pytest.raises(errors.AuthorityNotInForce):
        room.parts.ceremony.hold(later, actor="test")
    assert [a.slug for a in room.parts.hierarchy.authorities()][-1] == "tls-g1"


def test_a_key_of_another_kind_is_not_taken_for_the_plans(room, later: Plan) -> None:
    room.keystore.generate("token-signing-2", KeyPurpose.OCSP, KeyAlgorithm.P256)
    with pytest.raises(errors.CeremonyPlanRefused):
        room.parts.ceremony.hold(later, actor="test")
    assert room.events().count("ca:ceremony:begun") == 1
