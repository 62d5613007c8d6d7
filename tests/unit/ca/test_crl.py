"""CRLs: the register's revoked certificates and no other, before foreign tools, and never a step back."""

from __future__ import annotations

import subprocess
from datetime import timedelta

import pytest
from cryptography import x509

from ca import errors
from ca.crl import number_at
from ca.register import IssuedCertificate, Reason
from ca.to_be_signed import tbs_of

ISSUER = "citizen-sign-g1"


@pytest.fixture
def issued(room, citizen) -> IssuedCertificate:
    return room.parts.issuance.certify(room.parts.registration.apply(**citizen()), actor="test")


def publish(room, issuer: str = ISSUER) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(room.parts.crls.publish(issuer, actor="test").der)


def test_a_crl_has_the_form_of_rfc_5280(room, issued) -> None:
    room.parts.revocation.revoke(issued.id, actor="test", reason=Reason.SUPERSEDED)
    crl = publish(room)
    authority = room.parts.hierarchy.authority(ISSUER)
    assert crl.is_signature_valid(authority.public_key)
    identifier = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert identifier == authority.subject_key_identifier
    scope = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint)
    point = issued.certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value[0]
    assert scope.critical and scope.value.only_contains_user_certs and not scope.value.only_contains_ca_certs
    assert scope.value.full_name == point.full_name
    number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    assert number // 10**9 == int(crl.last_update_utc.timestamp())
    assert crl.next_update_utc - crl.last_update_utc <= timedelta(days=7)
    assert [entry.serial_number for entry in crl] == [issued.serial]


def test_openssl_reads_the_crl_and_refuses_what_it_lists(room, issued, tmp_path) -> None:
    publish(room)
    assert room.openssl_verify(issued.der, "-crl_check").returncode == 0
    room.parts.revocation.revoke(issued.id, actor="test", reason=Reason.KEY_COMPROMISE)
    (tmp_path / "crl.der").write_bytes(room.parts.crls.publish(ISSUER, actor="test").der)
    result = room.openssl_verify(issued.der, "-crl_check")
    assert result.returncode != 0
    assert "certificate revoked" in result.stderr
    command = ["openssl", "crl", "-inform", "DER", "-in", str(tmp_path / "crl.der"), "-noout", "-text"]
    command += ["-CAfile", str(room.pem("issuer", room.parts.hierarchy.authority(ISSUER).der)), "-verify"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "verify OK" in shown.stderr
    assert "Key Compromise" in shown.stdout
    assert issued.serial_text.upper() in shown.stdout


def test_a_reason_left_open_is_left_out(room, issued) -> None:
    room.parts.revocation.revoke(issued.id, actor="test")
    assert len(next(iter(publish(room))).extensions) == 0


def test_a_suspended_certificate_is_listed_on_hold_and_leaves_when_resumed(room, issued) -> None:
    room.parts.revocation.suspend(issued.id, actor="test")
    entry = next(iter(publish(room)))
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.certificate_hold
    room.parts.revocation.resume(issued.id, actor="test")
    assert list(publish(room)) == []


def test_the_roots_crl_covers_authorities_and_lives_long(room) -> None:
    crl = publish(room, "root-g1")
    scope = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    assert scope.only_contains_ca_certs and scope.full_name is None
    assert timedelta(days=300) < crl.next_update_utc - crl.last_update_utc <= timedelta(days=365)
    seal = room.parts.hierarchy.authority("seal-g1")
    room.parts.revocation.revoke(seal.certificate_id, actor="test")
    assert [entry.serial_number for entry in publish(room, "root-g1")] == [seal.certificate.serial_number]


def test_numbers_rise_and_a_clock_set_back_is_refused(room) -> None:
    first = room.parts.crls.publish(ISSUER, actor="test")
    second = room.parts.crls.publish(ISSUER, actor="test")
    assert second.number > first.number
    room.clock.advance(timedelta(minutes=-30))
    with pytest.raises(errors.CrlRefused):
        room.parts.crls.publish(ISSUER, actor="test")
    assert room.parts.crls.current(ISSUER) == second


def test_of_two_writers_one_publishes(room, monkeypatch: pytest.MonkeyPatch) -> None:
    crls = room.parts.crls
    original = crls._signed

    def overtaken(*args: object) -> bytes:
        monkeypatch.undo()
        crls.publish(ISSUER, actor="other")
        return original(*args)

    monkeypatch.setattr(crls, "_signed", overtaken)
    with pytest.raises(errors.CrlConflict):
        crls.publish(ISSUER, actor="test")
    crls.publish(ISSUER, actor="test")


def test_who_was_overtaken_may_try_again(room, monkeypatch: pytest.MonkeyPatch) -> None:
    crls = room.parts.crls
    original = crls._signed

    def overtaken(*args: object) -> bytes:
        monkeypatch.undo()
        crls.publish(ISSUER, actor="other")
        return original(*args)

    monkeypatch.setattr(crls, "_signed", overtaken)
    mine = crls.publish(ISSUER, actor="test", attempts=2)
    assert crls.current(ISSUER) == mine


def test_an_entry_that_would_vanish_is_refused(room, issued) -> None:
    from sqlalchemy import update

    from ca.tables import CertificateRow

    room.parts.revocation.revoke(issued.id, actor="test")
    publish(room)
    with room.database.transaction() as session:  # a row rewritten by somebody with access to the database
        session.execute(update(CertificateRow).where(CertificateRow.id == issued.id).values(issuer="elsewhere"))
    with pytest.raises(errors.CrlRefused):
        publish(room)


def test_an_expired_entry_stays_for_one_crl_past_expiry(room, issued) -> None:
    room.parts.revocation.revoke(issued.id, actor="test")
    publish(room)
    room.clock.advance(timedelta(days=1096))
    assert [entry.serial_number for entry in publish(room)] == [issued.serial]
    room.clock.advance(timedelta(days=1))
    assert list(publish(room)) == []


def test_one_broken_authority_does_not_stop_the_others(room, monkeypatch: pytest.MonkeyPatch) -> None:
    crls = room.parts.crls
    original = crls._signed

    def broken(authority, *args):
        if authority.slug == "seal-g1":
            raise errors.SignatureRefused("broken")
        return original(authority, *args)

    monkeypatch.setattr(crls, "_signed", broken)
    results = dict(crls.publish_all(actor="test"))
    assert isinstance(results.pop("seal-g1"), errors.SignatureRefused)
    assert len(results) == len(room.parts.hierarchy.authorities()) - 1
    assert not any(isinstance(result, Exception) for result in results.values())


def test_only_what_is_due_is_published_by_the_timer_and_no_roots(room) -> None:
    crls = room.parts.crls
    assert crls.publish_all(actor="test", only_due=True) == ()
    room.clock.advance(timedelta(hours=24))
    issuing = [authority.slug for authority in room.parts.hierarchy.authorities() if authority.slug != "root-g1"]
    assert ISSUER in issuing
    assert [slug for slug, _ in crls.publish_all(actor="test", only_due=True)] == issuing


def test_a_crl_that_was_never_published_is_not_found(room) -> None:
    with pytest.raises(errors.CrlNotFound):
        room.parts.crls.current(ISSUER, "7")
    with pytest.raises(errors.AuthorityNotFound):
        room.parts.crls.publish("nobody-g1", actor="test")


def test_the_number_is_this_update_in_nanoseconds(room) -> None:
    crl = room.parts.crls.publish(ISSUER, actor="test")
    assert number_at(room.clock.moment) >= crl.number > 1_700_000_000_000_000_000
    assert crl.number < 2**159
    assert tbs_of(crl.der) in crl.der
