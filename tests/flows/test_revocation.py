"""When a certificate is revoked: everybody hears it, no new signature is made, and the old ones stand."""

from __future__ import annotations

import contextlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tests.support.certificates import follow, ocsp_address, revocation_lists, serial_text
from tests.support.citizen import Citizen
from tests.support.web import Walker
from tests.support.world import World


@pytest.fixture(scope="module")
def citizen(world: World) -> Citizen:
    """With a certificate of his own, not the shared one."""
    citizen = world.new_citizen()
    citizen.make_certificate()
    return citizen


def status(world: World, citizen: Citizen) -> ocsp.OCSPCertStatus:
    http = Walker(world.instance.base_url)
    chain = follow(world.certificates_of(citizen)[0], http)
    question = ocsp.OCSPRequestBuilder().add_certificate(chain.leaf, chain.issuer, hashes.SHA256()).build()
    answer = http.post(
        str(ocsp_address(chain.leaf)),
        body=question.public_bytes(Encoding.DER),
        headers={"Content-Type": "application/ocsp-request"},
    )
    return ocsp.load_der_ocsp_response(answer.body).certificate_status


def refused(world: World, citizen: Citizen, subject: str) -> bool:
    """Whether the citizen cannot sign now."""
    asked = world.ask_to_sign(subject)
    page = citizen.open_request(asked["signers"][0]["signing_url"])
    if page.has_form("sign-next") or page.has_form("sign-review-done"):
        # The ceremony may end before the PIN is asked for.
        with contextlib.suppress(AssertionError):
            page = citizen.confirm(citizen.step_through(page))
    return world.state(asked["id"])["state"] not in ("signed", "collected")


def test_a_suspended_certificate_signs_nothing_until_it_is_resumed_and_a_revoked_one_never_again(
    world: World, citizen: Citizen
) -> None:
    subject = str(world.log_in_at_bank(citizen)["sub"])
    certificate = world.certificates_of(citizen)[0]
    serial = serial_text(certificate)
    signed = world.sign(citizen, subject)
    assert status(world, citizen) is ocsp.OCSPCertStatus.GOOD

    world.instance.cli("cert", "suspend", serial)
    assert status(world, citizen) is ocsp.OCSPCertStatus.REVOKED
    assert refused(world, citizen, subject)
    world.instance.cli("cert", "resume", serial)
    assert status(world, citizen) is ocsp.OCSPCertStatus.GOOD
    again = world.sign(citizen, subject)

    world.instance.cli("cert", "revoke", serial, "--reason", "keyCompromise")
    assert status(world, citizen) is ocsp.OCSPCertStatus.REVOKED
    assert refused(world, citizen, subject)
    for document in (signed, again):
        indications = [each["indication"] for each in world.validate(document).json()["signatures"]]
        assert indications == ["TOTAL-PASSED"]

    world.instance.cli("crl", "publish")
    listed = revocation_lists([certificate], Walker(world.instance.base_url))[0]
    assert listed.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
    assert world.instance.cli("audit", "verify")["entries"] > 0
