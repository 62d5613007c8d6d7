"""Which authority signs: the newest of its purpose in force; what is revoked, ended or retired has its own code."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ca import errors
from ca.register import Reason


def test_a_purpose_without_an_authority_is_not_found(room) -> None:
    with pytest.raises(errors.AuthorityNotFound):
        room.parts.hierarchy.for_purpose("no-such")


def test_an_authority_below_a_revoked_one_signs_nothing(room) -> None:
    root = room.parts.hierarchy.authority("root-g1")
    room.parts.revocation.revoke(root.certificate_id, actor="test", reason=Reason.KEY_COMPROMISE)
    for slug in ("root-g1", "seal-g1"):
        with pytest.raises(errors.AuthorityRevoked) as caught:
            room.parts.hierarchy.check_in_force(slug, for_status=True)
        assert (caught.value.code, caught.value.exit_code) == ("authority_revoked", 3)


def test_an_authority_whose_certificate_has_ended_signs_nothing(room, citizen) -> None:
    authority = room.parts.hierarchy.authority("citizen-sign-g1")
    room.clock.moment = authority.certificate.not_valid_after_utc
    room.parts.hierarchy.check_in_force("citizen-sign-g1")  # notAfter is inclusive (RFC 5280 4.1.2.5)
    room.clock.advance(timedelta(seconds=1))
    with pytest.raises(errors.AuthorityExpired) as caught:
        room.parts.hierarchy.for_purpose("citizen-sign")
    assert caught.value.code == "authority_expired"
    with pytest.raises(errors.AuthorityExpired):
        room.parts.issuance.certify(room.parts.registration.apply(**citizen()), actor="test")
    room.parts.hierarchy.check_in_force("root-g1")


def test_what_has_ended_is_not_renewed_every_day_in_vain(room) -> None:
    authority = room.parts.hierarchy.authority("citizen-sign-g1")
    room.clock.moment = authority.certificate.not_valid_after_utc + timedelta(days=1)
    names = {name for name, _ in room.parts.renewals.renew_due(actor="test")}
    assert "ocsp-citizen-sign-g1" not in names


def test_the_served_chain_is_our_own_until_another_is_chosen(room) -> None:
    own = tuple(authority.der for authority in room.parts.hierarchy.chain("seal-g1"))
    assert room.parts.hierarchy.served_chain("seal-g1") == own
    assert room.parts.hierarchy.certificate_at("seal-g1") == own[0]
    with pytest.raises(errors.AuthorityNotFound):
        room.parts.hierarchy.certificate_at("seal-g1-own")
