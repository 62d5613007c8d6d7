"""Two generations live: the new one certifies, the old one answers for what it signed; roots vouch for each other."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca import errors
from ca.ceremony.plan import Plan
from ca.ceremony.verification import verify
from ca.register import IssuedCertificate, Reason
from policies.names import read_name

pytestmark = pytest.mark.usefixtures("fresh_keys")


@pytest.fixture
def roll(room) -> Callable[[str], Plan]:
    """Holds the ceremony of a purpose's next generation, and verifies its transcript."""

    def hold(purpose: str) -> Plan:
        plan = room.parts.ceremony.read(room.parts.drafting.next_generation(purpose))
        transcript = room.parts.ceremony.hold(plan, actor="test")
        assert verify(transcript, plan_text=plan.text).plan.sha256 == plan.sha256
        return plan

    return hold


@pytest.fixture
def certify(room, citizen) -> Callable[[], IssuedCertificate]:
    return lambda: room.parts.issuance.certify(room.parts.registration.apply(**citizen()), actor="test")


def test_new_certificates_come_from_the_new_generation_and_old_ones_stand(room, roll, certify) -> None:
    old = certify()
    roll("citizen-sign")
    new = certify()
    assert (old.issuer, new.issuer) == ("citizen-sign-g1", "citizen-sign-g2")
    authority = room.parts.hierarchy.authority("citizen-sign-g2")
    assert dict(read_name(authority.name))["CN"] == "Tamga Citizen Signature CA G2"
    for certificate in (old, new):
        assert room.openssl_verify(certificate.der, "-crl_check_all").returncode == 0


def test_each_generation_signs_its_own_crl_and_has_its_own_responder(room, roll, certify) -> None:
    old = certify()
    roll("citizen-sign")
    new = certify()
    for certificate in (old, new):
        room.parts.revocation.revoke(certificate.id, actor="test", reason=Reason.KEY_COMPROMISE)
        crl = x509.load_der_x509_crl(room.parts.crls.publish(certificate.issuer, actor="test").der)
        assert [entry.serial_number for entry in crl] == [certificate.serial]
        assert crl.is_signature_valid(room.parts.hierarchy.authority(certificate.issuer).public_key)
        assert room.parts.hierarchy.responder(certificate.issuer).key_label == f"ocsp-{certificate.issuer}-1"
        assert room.openssl_verify(certificate.der, "-crl_check_all").returncode != 0


def test_generations_count_on_and_slugs_are_never_used_again(room, roll) -> None:
    assert roll("seal").authorities[0].slug == "seal-g2"
    assert roll("seal").authorities[0].slug == "seal-g3"
    assert room.parts.hierarchy.for_purpose("seal").slug == "seal-g3"


def test_responders_of_all_generations_are_renewed(room, roll) -> None:
    roll("seal")
    room.clock.advance(timedelta(days=8))
    renewed = {name for name, result in room.parts.renewals.renew_due(actor="test")}
    assert {"ocsp-seal-g1", "ocsp-seal-g2"} <= renewed
    assert room.parts.hierarchy.responder("seal-g2").key_label == "ocsp-seal-g2-2"


def test_the_next_unit_comes_from_the_new_generation(room, roll) -> None:
    roll("service")
    assert room.parts.renewals.renew("tsa", actor="test").certificate.issuer == "service-g2"


def test_the_tls_generation_keeps_its_profile(room, roll) -> None:
    roll("tls")
    certificate = room.parts.hierarchy.authority("tls-g2").certificate
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [usage.dotted_string for usage in usages] == ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]


def test_a_purpose_that_nobody_has_is_not_rolled_over(room) -> None:
    with pytest.raises(errors.AuthorityNotFound):
        room.parts.drafting.next_generation("no-such")


# Roots ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_roots(room, roll) -> Plan:
    """A second root with cross-certificates both ways, and a seal authority below it."""
    plan = roll("root")
    roll("seal")
    return plan


def test_a_new_root_vouches_for_the_old_one_and_the_old_one_for_it(room, two_roots: Plan) -> None:
    further = {each.slug: each for each in room.parts.hierarchy.further_certificates()}
    assert set(further) == {"root-g2-by-root-g1", "root-g1-by-root-g2"}
    for each in further.values():
        target = room.parts.hierarchy.authority(each.authority)
        cross = x509.load_der_x509_certificate(each.der)
        # K40: the same subject, key and key identifier, octet for octet.
        assert cross.subject.public_bytes() == target.name
        assert cross.public_key() == target.public_key
        identifier = cross.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        assert identifier == target.subject_key_identifier
        cross.verify_directly_issued_by(room.parts.hierarchy.authority(each.issuer or "").certificate)
        assert room.parts.register.by_der(each.der).issuer == each.issuer
        assert room.parts.hierarchy.certificate_at(each.slug) == each.der


def verified(room, anchor: str, leaf: bytes, *between: bytes) -> subprocess.CompletedProcess[str]:
    """``openssl verify`` under one anchor only."""
    command = ["openssl", "verify", "-x509_strict", "-attime", str(int(room.clock.moment.timestamp()))]
    root = room.pem("anchor", room.parts.hierarchy.authority(anchor).der)
    command += ["-no-CApath", "-no-CAstore", "-CAfile", str(root)]
    command += ["-untrusted", str(room.pem("between", *between)), str(room.pem("leaf", leaf))]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_whoever_trusts_only_the_old_root_accepts_what_is_below_the_new_one(room, two_roots: Plan) -> None:
    leaf = room.parts.hierarchy.responder("seal-g2").certificate.der
    below = room.parts.hierarchy.authority("seal-g2").der
    cross = room.parts.hierarchy.certificate_at("root-g2-by-root-g1")
    assert verified(room, "root-g1", leaf, below, cross).returncode == 0
    assert verified(room, "root-g1", leaf, below).returncode != 0
    assert verified(room, "root-g2", leaf, below).returncode == 0


def test_whoever_trusts_only_the_new_root_accepts_what_is_below_the_old_one(room, two_roots: Plan) -> None:
    leaf = room.parts.hierarchy.responder("service-g1").certificate.der
    below = room.parts.hierarchy.authority("service-g1").der
    cross = room.parts.hierarchy.certificate_at("root-g1-by-root-g2")
    assert verified(room, "root-g2", leaf, below, cross).returncode == 0
    assert verified(room, "root-g2", leaf, below).returncode != 0


def test_new_authorities_come_under_the_new_root(room, two_roots: Plan) -> None:
    assert room.parts.hierarchy.authority("seal-g2").issuer == "root-g2"
    assert room.parts.hierarchy.for_purpose("root").slug == "root-g2"


def test_a_cross_certificate_is_revoked_like_any_other(room, two_roots: Plan) -> None:
    cross = room.parts.register.by_der(room.parts.hierarchy.certificate_at("root-g2-by-root-g1"))
    room.parts.revocation.revoke(cross.id, actor="test", reason=Reason.SUPERSEDED)
    crl = x509.load_der_x509_crl(room.parts.crls.publish("root-g1", actor="test").der)
    assert cross.serial in [entry.serial_number for entry in crl]
    assert room.parts.hierarchy.for_purpose("root").slug == "root-g2"  # its own certificate stands


# Retirement ----------------------------------------------------------------------------------------------------------


def test_a_retired_authority_certifies_nothing_and_keeps_its_status_service(room, roll, certify) -> None:
    certificate = certify()
    roll("citizen-sign")
    room.parts.retirement.retire("citizen-sign-g1", actor="test")
    with pytest.raises(errors.AuthorityRetired) as caught:
        room.parts.hierarchy.check_in_force("citizen-sign-g1")
    assert caught.value.code == "authority_retired"
    assert room.parts.retirement.living("citizen-sign-g1") == 1
    room.parts.revocation.revoke(certificate.id, actor="test", reason=None)
    assert room.parts.retirement.living("citizen-sign-g1") == 0
    assert room.parts.crls.publish("citizen-sign-g1", actor="test").entries == 1
    assert room.parts.renewals.renew("ocsp-citizen-sign-g1", actor="test").certificate.issuer == "citizen-sign-g1"


def test_the_only_authority_of_a_purpose_is_retired_only_when_that_is_meant(room, citizen) -> None:
    with pytest.raises(errors.AuthorityLive):
        room.parts.retirement.retire("citizen-sign-g1", actor="test")
    room.parts.retirement.retire("citizen-sign-g1", actor="test", without_successor=True)
    with pytest.raises(errors.AuthorityRetired):
        room.parts.issuance.certify(room.parts.registration.apply(**citizen()), actor="test")
    assert room.facts("ca:authority:retired") == {"successor": ""}


def test_retiring_twice_is_recorded_once(room, roll) -> None:
    roll("seal")
    first = room.parts.retirement.retire("seal-g1", actor="test")
    assert room.parts.retirement.retire("seal-g1", actor="test").retired_at == first.retired_at
    assert room.events().count("ca:authority:retired") == 1


def test_the_last_crl_is_valid_for_ever_and_none_follows_it(room, roll, certify) -> None:
    certificate = certify()
    roll("citizen-sign")
    with pytest.raises(errors.AuthorityLive):
        room.parts.retirement.end("citizen-sign-g1", actor="test")
    room.parts.retirement.retire("citizen-sign-g1", actor="test")
    with pytest.raises(errors.AuthorityLive):
        room.parts.retirement.end("citizen-sign-g1", actor="test")
    room.parts.revocation.revoke(certificate.id, actor="test", reason=None)
    last = x509.load_der_x509_crl(room.parts.retirement.end("citizen-sign-g1", actor="test").der)
    assert last.next_update_utc is not None and last.next_update_utc.year == 9999
    assert [entry.serial_number for entry in last] == [certificate.serial]
    assert last.is_signature_valid(room.parts.hierarchy.authority("citizen-sign-g1").public_key)
    with pytest.raises(errors.CrlRefused):
        room.parts.crls.publish("citizen-sign-g1", actor="test")
    room.clock.advance(timedelta(days=2))
    published = dict(room.parts.crls.publish_all(actor="test", only_due=True))
    assert "citizen-sign-g2" in published and "citizen-sign-g1" not in published
    assert room.parts.crls.current("citizen-sign-g1").der == last.public_bytes(Encoding.DER)


def test_when_the_new_generation_is_revoked_the_old_one_certifies_again(room, roll, certify) -> None:
    roll("citizen-sign")
    new = room.parts.hierarchy.authority("citizen-sign-g2")
    room.parts.revocation.revoke(new.certificate_id, actor="test", reason=Reason.KEY_COMPROMISE)
    assert certify().issuer == "citizen-sign-g1"


def test_a_key_is_destroyed_only_when_nothing_depends_on_it(room, roll, tmp_path: Path) -> None:
    roll("seal")
    key_id = next(key.key_id for key in room.keystore.keys() if key.label == "seal-g2")  # noqa: SIM118
    text = f"""
name = "end-of-{{number}}"
kind = "destroy"
policy_url = "https://localhost/cps"
transcript_key = "root-g1"
[[destroy]]
label = "seal-g2"
key_id = "{key_id}"
"""

    def destroy(number: int, what: str = key_id) -> None:
        plan = room.parts.ceremony.read(text.replace("{number}", str(number)).replace(key_id, what))
        verify(room.parts.ceremony.hold(plan, actor="test"))

    with pytest.raises(errors.KeyInUse):
        destroy(1)
    room.parts.retirement.retire("seal-g2", actor="test")
    with pytest.raises(errors.KeyInUse):
        destroy(2)  # its responder's certificate has not expired
    room.clock.advance(timedelta(days=15))
    with pytest.raises(errors.CeremonyPlanRefused):
        destroy(3, "00" * 20)
    destroy(4)
    assert not room.keystore.has("seal-g2")
    assert room.events().count("ca:key:destroyed") == 1
