"""Renewal of responders and of the time-stamping unit: in time, under fresh keys, and in use without a restart."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from app.adapters.time_stamps import HouseUnit
from ca import errors
from ca.issuance import Issuance
from ca.register import Reason
from ca.renewal import UNIT_MARGIN, ShortLived, next_label
from signing.time_stamp_authority import TimeStampAuthority

pytestmark = pytest.mark.usefixtures("fresh_keys")
ISSUING = {f"ocsp-{slug}" for slug in ("citizen-sign-g1", "seal-g1", "service-g1", "citizen-auth-g1", "tls-g1")}


def renewed(room) -> dict[str, ShortLived]:
    """Everything that was due, renewed without a failure."""
    results = dict(room.parts.renewals.renew_due(actor="test"))
    assert all(isinstance(result, ShortLived) for result in results.values()), results
    return results


def test_a_responder_is_renewed_at_half_life_and_both_overlap(room) -> None:
    old = room.parts.hierarchy.responder("seal-g1")
    assert renewed(room) == {}
    room.clock.advance(timedelta(days=8))
    assert set(renewed(room)) == ISSUING  # a root signs on an explicit command only
    new = room.parts.hierarchy.responder("seal-g1")
    assert new.key_label == "ocsp-seal-g1-2"
    assert new.certificate.subject_text == old.certificate.subject_text
    assert old.certificate.not_after > room.clock.moment
    assert room.openssl_verify(new.certificate.der, "-purpose", "ocsphelper").returncode == 0
    assert renewed(room) == {}


def test_a_roots_responder_is_renewed_by_name(room) -> None:
    assert room.parts.renewals.renew("ocsp-root-g1", actor="test").key_label == "ocsp-root-g1-2"
    assert room.parts.hierarchy.responder("root-g1").certificate.profile == "ocsp-responder-root"


def test_a_unit_gets_a_successor_sixty_days_before_its_key_stops_signing(room) -> None:
    old = room.parts.renewals.of_name("tsa")
    assert old.signs_until - old.certificate.not_before == timedelta(days=365)
    room.clock.moment = old.signs_until - UNIT_MARGIN - timedelta(hours=1)
    assert "tsa" not in renewed(room)
    room.clock.advance(timedelta(hours=2))
    new = renewed(room)["tsa"]
    assert new.key_label == "tsa-2"
    assert new.signs_until > old.signs_until + timedelta(days=300)
    assert room.keystore.key("tsa-2").public_key() != room.keystore.key("tsa-1").public_key()
    assert old.certificate.subject_text.endswith("CN=Tamga Time-Stamping Unit 1")
    assert new.certificate.subject_text.endswith("CN=Tamga Time-Stamping Unit 2")
    for slug in ("root-g1", "service-g1"):
        room.parts.crls.publish(slug, actor="test")
    assert room.openssl_verify(new.certificate.der, "-purpose", "timestampsign", "-crl_check").returncode == 0
    assert "tsa" not in renewed(room)
    room.check_audit()


def test_the_time_stamp_authority_goes_over_to_the_new_unit_without_a_restart(room) -> None:
    unit = HouseUnit(room.parts.hierarchy, room.keystore)
    authority = TimeStampAuthority(unit, clock=lambda: room.clock.moment)
    before = unit().certificate
    assert before in authority.token(bytes(32))
    new = room.parts.renewals.renew("tsa", actor="test")
    token = authority.token(bytes(32))
    assert new.certificate.der in token and before not in token


def test_a_unit_is_signed_by_the_newest_authority_for_units(room, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    original = Issuance.certify

    def certify(self: Issuance, application, *, actor: str, issuer: str | None = None, **more: object):
        asked.append(issuer)
        return original(self, application, actor=actor, issuer=issuer, **more)

    monkeypatch.setattr(Issuance, "certify", certify)
    room.parts.renewals.renew("tsa", actor="test")
    room.parts.renewals.renew("ocsp-seal-g1", actor="test")
    assert asked == [None, "seal-g1"]


def test_a_renewal_that_was_cut_short_takes_the_key_it_made(room, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: object, **__: object) -> None:
        raise RuntimeError("the process ends here")

    monkeypatch.setattr(Issuance, "_sign", cut)
    with pytest.raises(RuntimeError):
        room.parts.renewals.renew("tsa", actor="test")
    monkeypatch.undo()
    made = room.keystore.key("tsa-2").public_key()
    room.parts.recovery.settle(min_age=timedelta(0))
    assert room.parts.hierarchy.time_stamping_unit().key_label == "tsa-1"
    new = room.parts.renewals.renew("tsa", actor="test")
    assert isinstance(made, ec.EllipticCurvePublicKey)
    assert new.certificate.certificate.public_key() == made


def test_what_was_revoked_is_replaced_by_name_only(room) -> None:
    old = room.parts.renewals.of_name("tsa")
    room.parts.revocation.revoke(old.certificate.id, actor="test", reason=Reason.KEY_COMPROMISE)
    ((name, error),) = room.parts.renewals.renew_due(actor="test")
    assert name == "tsa" and isinstance(error, errors.RekeyAfterRevocation)
    assert room.parts.renewals.renew("tsa", actor="test").key_label == "tsa-2"
    assert renewed(room) == {}


def test_a_revoked_authority_gets_no_responder_and_stops_no_other(room) -> None:
    seal = room.parts.hierarchy.authority("seal-g1")
    room.parts.revocation.revoke(seal.certificate_id, actor="test", reason=Reason.CESSATION_OF_OPERATION)
    room.clock.advance(timedelta(days=8))
    assert set(renewed(room)) == ISSUING - {"ocsp-seal-g1"}


def test_one_failure_stops_no_other(room, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Issuance.certify

    def certify(self: Issuance, application, *, actor: str, issuer: str | None = None, **more: object):
        if issuer == "citizen-sign-g1":
            raise errors.SignatureRefused("broken")
        return original(self, application, actor=actor, issuer=issuer, **more)

    monkeypatch.setattr(Issuance, "certify", certify)
    room.clock.advance(timedelta(days=8))
    results = dict(room.parts.renewals.renew_due(actor="test"))
    assert set(results) == ISSUING
    assert [name for name, result in results.items() if isinstance(result, errors.SignatureRefused)] == [
        "ocsp-citizen-sign-g1"
    ]


def test_only_what_a_ceremony_began_is_renewed(room) -> None:
    with pytest.raises(errors.CertificateNotFound):
        room.parts.renewals.renew("ocsp-nobody-g1", actor="test")


@pytest.mark.parametrize(
    ("label", "following"), [("tsa-1", "tsa-2"), ("ocsp-root-g1-9", "ocsp-root-g1-10"), ("odd", "odd-2")]
)
def test_the_number_of_a_label_counts_on(label: str, following: str) -> None:
    assert next_label(label) == following


def test_the_last_responder_ends_with_its_authority(room) -> None:
    end = room.parts.hierarchy.authority("seal-g1").certificate.not_valid_after_utc
    room.clock.moment = end - timedelta(days=5, hours=3)
    last = room.parts.renewals.renew("ocsp-seal-g1", actor="test")
    assert end - timedelta(days=1) <= last.certificate.not_after <= end
    for moment in (end - timedelta(hours=1), end + timedelta(hours=1)):
        room.clock.moment = moment
        assert "ocsp-seal-g1" not in dict(room.parts.renewals.renew_due(actor="test"))
