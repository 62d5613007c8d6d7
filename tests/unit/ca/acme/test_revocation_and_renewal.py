from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ca.acme.errors import ReplacementNotFound, ReplacementRefused
from ca.acme.renewal_information import certificate_identifier
from ca.register import Reason
from core.audit import export
from tests.support.acme import Client, b64, csr, jwk, problem

NAME = "www.agency.example"


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def revoke(client: Any, certificate: x509.Certificate, **more: Any) -> Any:
    given = {name: more.pop(name) for name in ("reason",) if name in more}
    return client.post(client.url("revoke-certificate"), {"certificate": b64(der(certificate)), **given}, **more)


def status(server: Any, certificate: x509.Certificate) -> Any:
    return server.room.parts.register.by_der(der(certificate)).status


# Revocation ----------------------------------------------------------------------------------------------------------


def test_an_account_revokes_what_it_ordered(server: Any, client: Any) -> None:
    _, certificate = server.issued(client)
    assert revoke(client, certificate, reason=4).status_code == 200
    assert (status(server, certificate).state, status(server, certificate).reason) == ("revoked", Reason.SUPERSEDED)
    crl = server.room.parts.crls.current("tls-g1")
    listed = x509.load_der_x509_crl(crl.der)
    assert listed.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
    with server.room.database.reading() as session:
        (actor,) = [entry["actor"] for entry in export(session) if entry["event"] == "ca:certificate:revoked"]
    assert actor == server.account(client).actor
    assert problem(revoke(client, certificate)) == "alreadyRevoked"


def test_the_certificates_key_revokes_it(server: Any, client: Any) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    _, certificate = server.issued(client, key=key)
    bearer = Client(server.http, key=key)
    assert revoke(bearer, certificate, reason=1).status_code == 200
    assert status(server, certificate).reason == Reason.KEY_COMPROMISE
    # The key is lost for ever.
    order = server.ready(client)
    assert problem(client.finalize(order, csr(key, NAME))) == "badPublicKey"


def test_nobody_else_revokes_it(server: Any, client: Any) -> None:
    _, certificate = server.issued(client)
    stranger, bare = server.client(), Client(server.http)
    assert problem(revoke(stranger, certificate)) == "unauthorized"
    assert problem(revoke(bare, certificate)) == "unauthorized"
    assert problem(revoke(stranger, certificate, jwk=jwk(stranger.key), kid=None)) == "unauthorized"
    # The order's account, but shown by jwk: an account is named by kid.
    assert problem(revoke(client, certificate, jwk=jwk(client.key), kid=None)) == "unauthorized"
    assert status(server, certificate).state == "good"


def test_who_controls_every_name_revokes_it(server: Any, client: Any) -> None:
    """RFC 8555 7.6: the names' new owner."""
    _, certificate = server.issued(client, NAME, "api.agency.example")
    owner = server.client()
    server.ready(owner)
    assert problem(revoke(owner, certificate)) == "unauthorized"
    server.ready(owner, "api.agency.example")
    assert revoke(owner, certificate).status_code == 200


def test_what_no_machine_ordered_is_not_revoked_here(server: Any, client: Any) -> None:
    responder = server.room.parts.hierarchy.responder("tls-g1").certificate
    authority = server.room.parts.hierarchy.authority("tls-g1")
    for octets in (responder.der, authority.der):
        answer = client.post(client.url("revoke-certificate"), {"certificate": b64(octets)})
        assert problem(answer) == "unauthorized"
    key = ec.generate_private_key(ec.SECP256R1())
    application = server.room.parts.registration.apply(
        profile="tls-server", csr=csr(key, NAME), subject={"O": "Example Agency"},
        alternative_names=[("DNS", NAME)], holder="h", evidence="e",
    )  # fmt: skip
    by_hand = server.room.parts.issuance.certify(application, actor="test")
    assert problem(revoke(Client(server.http, key=key), by_hand.certificate)) == "unauthorized"


@pytest.mark.parametrize("octets", [b"", b"x", b"\x30\x00", b"x" * 20_000])
def test_what_is_no_certificate_of_ours_is_refused(client: Any, octets: bytes) -> None:
    answer = client.post(client.url("revoke-certificate"), {"certificate": b64(octets)})
    assert problem(answer) == "malformed"


def test_a_reason_that_is_none_is_refused(server: Any, client: Any) -> None:
    _, certificate = server.issued(client)
    for reason in (2, 6, 7, 8, 10, 11, -1, "superseded", True, 1.5, []):
        assert problem(revoke(client, certificate, reason=reason)) == "badRevocationReason", reason
    assert status(server, certificate).state == "good"


# Renewal information -------------------------------------------------------------------------------------------------


def information(server: Any, certificate: x509.Certificate) -> Any:
    identifier = certificate_identifier(server.room.parts.register.by_der(der(certificate)))
    return server.http.get(f"/acme/renewal-information/{identifier}")


def window(answer: Any) -> tuple[datetime, datetime]:
    suggested = answer.json["suggestedWindow"]
    return datetime.fromisoformat(suggested["start"]), datetime.fromisoformat(suggested["end"])


def test_the_identifier_is_that_of_the_rfc(server: Any, client: Any) -> None:
    """RFC 9773 4.1: the key identifier and the serial number's content octets, with a zero where the first bit is
    set."""
    _, certificate = server.issued(client)
    identifier = certificate_identifier(server.room.parts.register.by_der(der(certificate)))
    key_identifier = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    serial = certificate.serial_number
    octets = serial.to_bytes((serial.bit_length() + 8) // 8, "big")
    assert identifier == f"{b64(key_identifier)}.{b64(octets)}"


def test_a_certificate_is_renewed_in_the_last_third(server: Any, client: Any) -> None:
    _, certificate = server.issued(client)
    answer = information(server, certificate)
    start, end = window(answer)
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    begins = certificate.not_valid_before_utc
    assert begins + life * 0.6 < start < end < begins + life * 0.95
    assert answer.headers["Retry-After"] == "21600"
    assert "explanationURL" not in answer.json


def test_a_revoked_certificate_is_replaced_at_once(server: Any, client: Any) -> None:
    _, certificate = server.issued(client)
    revoke(client, certificate)
    start, end = window(information(server, certificate))
    assert start < end < server.room.clock()


def test_an_announced_replacement_moves_the_windows(server: Any, client: Any) -> None:
    _, certificate = server.issued(client)
    usual = window(information(server, certificate))
    now = server.room.clock()
    announced = server.parts.renewal_information.announce(
        issuer="tls-g1", issued_until=now, starts_at=now, ends_at=now + timedelta(days=3),
        explanation_url="https://example.mn/why", actor="test",
    )  # fmt: skip
    answer = information(server, certificate)
    start, end = window(answer)
    assert now - timedelta(seconds=1) <= start < end <= now + timedelta(days=3, seconds=1)
    assert (answer.json["explanationURL"], answer.headers["Retry-After"]) == ("https://example.mn/why", "3600")
    assert window(information(server, certificate)) == (start, end), "the same each time"
    # What is issued afterwards keeps its time, and so does everything once the announcement is withdrawn.
    _, later = server.issued(client)
    assert window(information(server, later))[0] > now + timedelta(days=30)
    server.parts.renewal_information.withdraw(announced.id, actor="test")
    assert window(information(server, certificate)) == usual
    with pytest.raises(ReplacementNotFound):
        server.parts.renewal_information.withdraw(announced.id, actor="test")


def test_an_announcement_must_make_sense(server: Any) -> None:
    now = server.room.clock()
    given = {"issuer": "tls-g1", "issued_until": now, "starts_at": now, "ends_at": now, "explanation_url": ""}
    with pytest.raises(ReplacementRefused):
        server.parts.renewal_information.announce(**given, actor="test")
    given |= {"ends_at": now + timedelta(days=1), "explanation_url": "javascript:alert()"}
    with pytest.raises(ReplacementRefused):
        server.parts.renewal_information.announce(**given, actor="test")


@pytest.mark.parametrize("identifier", ["x", "x.", ".x", "AAAA.", "AAAA.AAAA", "AAA=.AAAA", "AAAA.AAAA.AAAA", "%00.AA",
                                        "A" * 300, "AAAA." + "A" * 100])  # fmt: skip
def test_information_about_nothing_is_refused(server: Any, identifier: str) -> None:
    answer = server.http.get(f"/acme/renewal-information/{identifier}")
    assert answer.status_code in (400, 404)
    assert problem(answer) == "malformed"


def test_a_serial_number_in_another_form_is_refused(server: Any, client: Any) -> None:
    _, certificate = server.issued(client)
    identifier = certificate_identifier(server.room.parts.register.by_der(der(certificate)))
    key_identifier, _, serial = identifier.partition(".")
    padded = b64(b"\x00" + certificate.serial_number.to_bytes(18, "big"))
    for other in {padded, b64(b"\x00\x00" + certificate.serial_number.to_bytes(18, "big"))} - {serial}:
        assert problem(server.http.get(f"/acme/renewal-information/{key_identifier}.{other}")) == "malformed"


# Replacing -----------------------------------------------------------------------------------------------------------


def identifier_of(server: Any, certificate: x509.Certificate) -> str:
    return certificate_identifier(server.room.parts.register.by_der(der(certificate)))


def test_a_certificate_is_replaced_once(server: Any, client: Any) -> None:
    _, certificate = server.issued(client)
    old = identifier_of(server, certificate)
    rival = server.ready(client, replaces=old)
    order, _ = server.issued(client, replaces=old)
    assert order["replaces"] == old
    answer = client.order(NAME, replaces=old)
    assert (answer.status_code, problem(answer)) == (409, "alreadyReplaced")
    # Two were open at once: the slower one is refused when it is finalised, and nothing is issued for it.
    before = len(server.room.parts.register.certificates(profile="tls-server"))
    late = client.finalize(rival, csr(ec.generate_private_key(ec.SECP256R1()), NAME))
    assert (late.status_code, problem(late)) == (409, "alreadyReplaced")
    assert len(server.room.parts.register.certificates(profile="tls-server")) == before


def test_an_order_replaces_what_is_its_accounts_own(server: Any, client: Any) -> None:
    _, certificate = server.issued(client)
    old = identifier_of(server, certificate)
    assert problem(server.client().order(NAME, replaces=old)) == "unauthorized"
    assert problem(client.order("other.agency.example", replaces=old)) == "malformed"
    responder = server.room.parts.hierarchy.responder("tls-g1").certificate
    assert problem(client.order(NAME, replaces=certificate_identifier(responder))) == "unauthorized"
    for broken in ("x", 7, "", "AAAA.AAAA", old + "A", []):
        assert problem(client.order(NAME, replaces=broken)) == "malformed"
