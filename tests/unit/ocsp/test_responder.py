"""What the responder says, checked with the library's parser: statuses, times, identity, freshness, outages."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp as library
from cryptography.x509.oid import ExtendedKeyUsageOID

from ocsp.ports import Good, ResponderCredential, RevocationReason, Revoked
from ocsp.response import SEQUENCE, der

ALGORITHMS = [hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()]  # noqa: S303
EXTENDED_REVOKE = x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.9")
SUCCESSFUL = library.OCSPResponseStatus.SUCCESSFUL


def with_nonce(authority, serial, nonce=b"n" * 32, algorithm=None):
    builder = library.OCSPRequestBuilder().add_certificate(
        authority.leaf(serial), authority.certificate, algorithm or hashes.SHA256()
    )
    return builder.add_extension(x509.OCSPNonce(nonce), critical=False).build().public_bytes(Encoding.DER)


def verify(authority, response: library.OCSPResponse) -> None:
    authority.responder.public_key().verify(
        response.signature, response.tbs_response_bytes, ec.ECDSA(response.signature_hash_algorithm)
    )


def cert_id_of(request: bytes) -> bytes:
    """The CertID's bytes within the library's request: SEQUENCE { SEQUENCE { SEQUENCE { SEQUENCE { CertID."""
    body = request
    for _ in range(4):
        start = 2 + (body[1] & 0x7F if body[1] & 0x80 else 0)
        body = body[start:]
    return body[: 2 + body[1]] if not body[1] & 0x80 else body[: 2 + 1 + body[2]]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_live_certificate_is_good_under_every_hash(service, algorithm) -> None:
    reply = service.post(service.people.request(service.GOOD, algorithm))
    assert reply.ocsp.certificate_status is library.OCSPCertStatus.GOOD
    assert reply.ocsp.serial_number == service.GOOD
    verify(service.people, reply.ocsp)


def test_b9_a_revoked_certificate_keeps_its_time_and_reason(service) -> None:
    response = service.post(service.people.request(service.REVOKED)).ocsp
    assert response.certificate_status is library.OCSPCertStatus.REVOKED
    assert response.revocation_time_utc == datetime(2026, 11, 19, 9, 30, 15, tzinfo=UTC)
    assert response.revocation_reason is x509.ReasonFlags.key_compromise
    assert not list(response.single_extensions)  # the reason stands in the status, never as an extension


def test_a_suspended_certificate_is_revoked_on_hold(service) -> None:
    response = service.post(service.people.request(service.SUSPENDED)).ocsp
    assert response.revocation_reason is x509.ReasonFlags.certificate_hold


def test_an_unspecified_reason_is_left_out(service) -> None:
    service.register.statuses["citizen-sign-g1", 7] = Revoked(service.time() - timedelta(days=1))
    assert service.post(service.people.request(7)).ocsp.revocation_reason is None


def test_b7_a_never_issued_serial_is_revoked_since_1970_where_the_issuer_says_so(service) -> None:
    response = service.post(service.people.request(service.UNISSUED)).ocsp
    assert response.certificate_status is library.OCSPCertStatus.REVOKED
    assert response.revocation_time_utc == datetime(1970, 1, 1, tzinfo=UTC)
    assert response.revocation_reason is x509.ReasonFlags.certificate_hold
    extension = response.extensions.get_extension_for_oid(EXTENDED_REVOKE)
    assert extension.value.public_bytes() == b"\x05\x00"


def test_b7_a_never_issued_serial_of_another_issuer_is_unknown(service) -> None:
    response = service.post(service.infrastructure.request(service.UNISSUED)).ocsp
    assert response.certificate_status is library.OCSPCertStatus.UNKNOWN
    assert not list(response.extensions)


def test_b10_extended_revoke_stands_only_beside_a_never_issued_serial(service) -> None:
    for serial in (service.GOOD, service.REVOKED, service.SUSPENDED):
        assert not list(service.post(service.people.request(serial)).ocsp.extensions)


def test_a_serial_no_certificate_can_have_is_never_issued(service) -> None:
    request = service.people.request(0x7F)
    for serial in (b"\x00", b"\x80", b"\x01" + b"\x00" * 20, b"\x7f" * 300):
        cert_id = cert_id_of(request)
        prefix = cert_id[2 : cert_id.rindex(b"\x02\x01\x7f")]
        changed = der(SEQUENCE, prefix, der(2, serial))
        reply = service.post(der(SEQUENCE, der(SEQUENCE, der(SEQUENCE, der(SEQUENCE, changed)))))
        assert b"19700101000000Z" in reply.body


def test_b8_state_hash_path_and_nonce_change_nothing_about_the_status(service) -> None:
    serials = {
        service.GOOD: library.OCSPCertStatus.GOOD,
        service.REVOKED: library.OCSPCertStatus.REVOKED,
        service.SUSPENDED: library.OCSPCertStatus.REVOKED,
        service.UNISSUED: library.OCSPCertStatus.REVOKED,
    }
    for _cold_then_warm in range(2):
        for serial, algorithm in product(serials, ALGORITHMS):
            plain = service.people.request(serial, algorithm)
            nonced = with_nonce(service.people, serial, algorithm=algorithm)
            replies = [service.get(plain), service.post(plain), service.get(nonced), service.post(nonced)]
            assert {reply.ocsp.certificate_status for reply in replies} == {serials[serial]}


def test_b1_b2_the_answers_cert_id_is_the_requests_byte_for_byte_cold_and_warm(service) -> None:
    requests = [service.people.request(service.GOOD, algorithm) for algorithm in ALGORITHMS]
    cert_ids = [cert_id_of(request) for request in requests]
    # The same CertID as the library's, with its NULL parameters taken out.
    without_null = [der(SEQUENCE, cert_id[2:].replace(b"\x05\x00", b"", 1)) for cert_id in cert_ids]
    sha1 = der(SEQUENCE, bytes.fromhex("06052b0e03021a"))
    without_null[0] = der(SEQUENCE, sha1, cert_ids[0][2 + 11 :])
    for _cold_then_warm in range(2):
        for cert_id in (*cert_ids, without_null[0]):
            reply = service.post(der(SEQUENCE, der(SEQUENCE, der(SEQUENCE, der(SEQUENCE, cert_id)))))
            assert cert_id in reply.body
            assert reply.ocsp.certificate_status is library.OCSPCertStatus.GOOD


def test_b3_both_issuer_hashes_are_compared(service) -> None:
    request = service.people.request(service.GOOD)
    parsed = library.load_der_ocsp_request(request)
    for part in (parsed.issuer_name_hash, parsed.issuer_key_hash):
        reply = service.post(request.replace(part, bytes(20)))
        assert reply.response_status is library.OCSPResponseStatus.UNAUTHORIZED
    theirs = library.load_der_ocsp_request(service.infrastructure.request(service.GOOD))
    mixed = request.replace(parsed.issuer_key_hash, theirs.issuer_key_hash)
    assert service.post(mixed).response_status is library.OCSPResponseStatus.UNAUTHORIZED


def test_an_unknown_hash_algorithm_is_unauthorized(service) -> None:
    md5 = service.people.request(service.GOOD).replace(
        bytes.fromhex("300906052b0e03021a0500"), bytes.fromhex("300906052b0e0302190500")
    )
    assert service.post(md5).response_status is library.OCSPResponseStatus.UNAUTHORIZED


def test_b11_by_key_is_the_sha1_of_the_keys_bits_and_nothing_else(service) -> None:
    response = service.post(service.people.request(service.GOOD, hashes.SHA512())).ocsp
    point = service.people.responder_key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    digest = hashes.Hash(hashes.SHA1())  # noqa: S303
    digest.update(point)
    assert response.responder_key_hash == digest.finalize()
    assert response.responder_name is None
    assert response.certificates == [service.people.responder]


def test_b16_every_certificate_of_a_request_is_answered_in_order(service) -> None:
    serials = [service.GOOD, service.REVOKED, service.UNISSUED, service.SUSPENDED, service.GOOD]
    singles = [der(SEQUENCE, cert_id_of(service.people.request(serial))) for serial in serials]
    response = service.post(der(SEQUENCE, der(SEQUENCE, der(SEQUENCE, *singles)))).ocsp
    assert [single.serial_number for single in response.responses] == serials
    verify(service.people, response)


def test_one_request_about_two_issuers_is_unauthorized(service) -> None:
    singles = [
        der(SEQUENCE, cert_id_of(authority.request(service.GOOD)))
        for authority in (service.people, service.infrastructure)
    ]
    reply = service.post(der(SEQUENCE, der(SEQUENCE, der(SEQUENCE, *singles))))
    assert reply.response_status is library.OCSPResponseStatus.UNAUTHORIZED


@pytest.mark.parametrize("length", [16, 32, 33, 128])
def test_b15_a_nonce_comes_back_as_it_was(service, length: int) -> None:
    response = service.post(with_nonce(service.people, service.GOOD, b"\x01" * length)).ocsp
    assert response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"\x01" * length


def test_b18_the_interval_is_twelve_hours_and_the_times_are_whole_seconds(service) -> None:
    response = service.post(service.people.request(service.GOOD)).ocsp
    assert response.produced_at_utc == datetime(2026, 11, 21, 9, 30, 15, tzinfo=UTC)
    assert response.this_update_utc == datetime(2026, 11, 21, 9, 25, 15, tzinfo=UTC)
    assert response.next_update_utc == datetime(2026, 11, 21, 21, 25, 15, tzinfo=UTC)


def test_this_update_is_not_before_the_issue_nor_before_the_revocation(service) -> None:
    key = ("citizen-sign-g1", service.GOOD)
    just_now = service.time() - timedelta(seconds=40)
    for status in (Good(just_now), Revoked(just_now, RevocationReason.SUPERSEDED)):
        service.register.statuses[key] = status
        response = service.post(service.people.request(service.GOOD)).ocsp
        assert response.this_update_utc == just_now.replace(microsecond=0)


def test_this_update_is_never_in_the_future_even_if_another_clock_is_ahead(service) -> None:
    service.register.statuses["citizen-sign-g1", service.GOOD] = Good(service.time() + timedelta(seconds=90))
    response = service.post(service.people.request(service.GOOD)).ocsp
    assert response.this_update_utc == response.produced_at_utc


def test_next_update_is_not_beyond_the_responders_certificate(service) -> None:
    end = service.people.responder.not_valid_after_utc
    service.time.now = end - timedelta(hours=1)
    assert service.post(service.people.request(service.GOOD)).ocsp.next_update_utc == end


def test_archive_cutoff_stands_beside_what_was_issued(make_service) -> None:
    service = make_service()
    service.register.archive_cutoff = datetime(2026, 1, 1, tzinfo=UTC)
    single = next(service.post(service.people.request(service.REVOKED)).ocsp.responses)
    assert b"20260101000000Z" in service.post(service.people.request(service.REVOKED)).body
    assert b"20260101000000Z" not in service.post(service.people.request(service.UNISSUED)).body
    assert single.certificate_status is library.OCSPCertStatus.REVOKED


def test_a_signature_is_used_again_until_the_register_says_something_else(service) -> None:
    request = service.people.request(service.GOOD)
    first = service.post(request)
    service.time.advance(4 * 3600)
    assert service.post(request).body == first.body
    service.register.statuses["citizen-sign-g1", service.GOOD] = Revoked(service.time())
    assert service.post(request).ocsp.certificate_status is library.OCSPCertStatus.REVOKED


def test_b5_a_revocation_shows_with_the_next_question_on_a_warm_cache(service) -> None:
    for algorithm in ALGORITHMS:
        service.post(service.people.request(service.GOOD, algorithm))
    service.register.statuses["citizen-sign-g1", service.GOOD] = Revoked(service.time())
    for algorithm in ALGORITHMS:
        response = service.post(service.people.request(service.GOOD, algorithm)).ocsp
        assert response.certificate_status is library.OCSPCertStatus.REVOKED


def test_an_answer_is_made_anew_after_five_hours(service) -> None:
    request = service.people.request(service.GOOD)
    first = service.post(request).ocsp
    service.time.advance(5 * 3600)
    assert service.post(request).ocsp.produced_at_utc == first.produced_at_utc + timedelta(hours=5)


def test_without_the_register_unexpired_answers_go_on_and_nothing_else(service) -> None:
    request = service.people.request(service.GOOD)
    first = service.post(request)
    service.register.down = True
    assert service.post(request).body == first.body
    for unseen in (service.people.request(service.REVOKED), with_nonce(service.people, service.GOOD)):
        assert service.post(unseen).response_status is library.OCSPResponseStatus.TRY_LATER
    service.time.now = first.ocsp.next_update_utc
    assert service.post(request).response_status is library.OCSPResponseStatus.TRY_LATER


def test_without_the_keys_signed_answers_go_on_and_new_ones_wait(service) -> None:
    request = service.people.request(service.GOOD)
    service.register.keys_down = True
    assert service.post(request).response_status is library.OCSPResponseStatus.TRY_LATER
    service.register.keys_down = False
    first = service.post(request)
    service.register.keys_down = True
    assert service.post(request).body == first.body


def test_a_key_that_fails_while_signing_gives_try_later(service) -> None:
    class Broken(ec.EllipticCurvePrivateKey):
        curve = service.people.responder_key.curve
        key_size = 256
        broken = False

        def public_key(self):
            return service.people.responder_key.public_key()

        def sign(self, data, signature_algorithm):
            if self.broken:
                raise OSError("the token went away")
            return service.people.responder_key.sign(data, signature_algorithm)

        exchange = private_numbers = private_bytes = __copy__ = __deepcopy__ = None

    key = Broken()
    service.register.credentials["citizen-sign-g1"] = ResponderCredential(
        service.people.responder.public_bytes(Encoding.DER), key
    )
    assert service.post(service.people.request(service.GOOD)).response_status is SUCCESSFUL
    key.broken = True
    reply = service.post(service.people.request(service.REVOKED))
    assert reply.response_status is library.OCSPResponseStatus.TRY_LATER
    assert reply.status == 200


@pytest.fixture
def change_responder(service, responder_certificate):
    def change(key=None, **changes):
        key = key or service.people.responder_key
        authority = changes.pop("authority", service.people)
        certificate = responder_certificate(key, authority.key, authority.certificate, **changes)
        service.register.credentials["citizen-sign-g1"] = ResponderCredential(
            certificate.public_bytes(Encoding.DER), key
        )
        return service.post(service.people.request(service.GOOD))

    return change


def test_b12_a_responder_without_nocheck_is_never_used(change_responder) -> None:
    assert change_responder(nocheck=False).response_status is library.OCSPResponseStatus.TRY_LATER


def test_b12_an_expired_or_future_responder_is_never_used(service, change_responder) -> None:
    now = service.time()
    expired = change_responder(not_after=now - timedelta(seconds=1))
    future = change_responder(not_before=now + timedelta(minutes=1))
    assert {expired.response_status, future.response_status} == {library.OCSPResponseStatus.TRY_LATER}


@pytest.mark.parametrize(
    "usages", [(ExtendedKeyUsageOID.CLIENT_AUTH,), (ExtendedKeyUsageOID.OCSP_SIGNING, ExtendedKeyUsageOID.SERVER_AUTH)]
)
def test_a_responder_with_other_usages_is_never_used(change_responder, usages) -> None:
    assert change_responder(usages=usages).response_status is library.OCSPResponseStatus.TRY_LATER


def test_a_responder_of_another_authority_is_never_used(service, change_responder) -> None:
    reply = change_responder(authority=service.infrastructure)
    assert reply.response_status is library.OCSPResponseStatus.TRY_LATER


def test_a_certificate_with_a_foreign_key_is_never_used(service) -> None:
    service.register.credentials["citizen-sign-g1"] = ResponderCredential(
        service.people.responder.public_bytes(Encoding.DER), ec.generate_private_key(ec.SECP256R1())
    )
    reply = service.post(service.people.request(service.GOOD))
    assert reply.response_status is library.OCSPResponseStatus.TRY_LATER


def test_a_renewed_responder_is_taken_up_without_restart(service, change_responder) -> None:
    service.post(service.people.request(service.REVOKED))
    service.time.advance(31)
    renewed = change_responder(key=ec.generate_private_key(ec.SECP256R1()))
    assert renewed.ocsp.certificates != [service.people.responder]


def test_an_rsa_and_a_p384_responder_sign_with_their_own_algorithm(service, change_responder) -> None:
    rsa_key = rsa.generate_private_key(65537, 2048)
    response = change_responder(key=rsa_key).ocsp
    rsa_key.public_key().verify(
        response.signature, response.tbs_response_bytes, padding.PKCS1v15(), response.signature_hash_algorithm
    )
    service.time.advance(6 * 3600)
    p384 = ec.generate_private_key(ec.SECP384R1())
    response = change_responder(key=p384).ocsp
    p384.public_key().verify(response.signature, response.tbs_response_bytes, ec.ECDSA(hashes.SHA384()))


def test_a_new_issuer_is_known_after_the_refresh(service, make_authority) -> None:
    service.post(service.people.request(service.GOOD))
    third = make_authority("citizen-sign-g2")
    service.register.authorities.append(third)
    service.register.credentials[third.slug] = ResponderCredential(
        third.responder.public_bytes(Encoding.DER), third.responder_key
    )
    request = third.request(service.UNISSUED)
    assert service.post(request).response_status is library.OCSPResponseStatus.UNAUTHORIZED
    service.time.advance(31)
    assert service.post(request).ocsp.revocation_time_utc.year == 1970


def test_a_certificate_long_expired_keeps_its_status(service) -> None:
    service.register.statuses["citizen-sign-g1", 9] = replace(
        service.register.statuses["citizen-sign-g1", service.REVOKED], at=datetime(2017, 5, 1, tzinfo=UTC)
    )
    assert service.post(service.people.request(9)).ocsp.revocation_time_utc.year == 2017
