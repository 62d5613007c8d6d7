"""The client believes a token only after its own checks: one forgery for each thing it checks."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from asn1crypto import cms, tsp
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from core.egress import Answer
from signing import time_stamp_authority as authority_module
from signing.document_errors import TimeStampUnusable
from signing.time_stamp_authority import ClockGuard, TimeStampAuthority, TimeStampingUnit
from signing.timestamping import HttpAuthority, TimeStampClient
from tests.support.time_stamping import TimeStampingPki, build_time_stamping_pki

DIGEST = hashlib.sha256(b"a signature").digest()


@pytest.fixture(scope="module")
def pki() -> TimeStampingPki:
    return build_time_stamping_pki(datetime.now(UTC).replace(microsecond=0))


class Bench:
    """A client and an authority with clocks of their own, and a hand on the wire between them."""

    def __init__(self, pki: TimeStampingPki, unit: TimeStampingUnit | None = None, **options) -> None:
        self.pki = pki
        self.now = pki.now
        self.authority_now = None
        self.unit = unit or pki.unit()
        self.authority = TimeStampAuthority(
            lambda: self.unit, clock=self.authority_clock, guard=ClockGuard(self.authority_clock, elapsed=self.even)
        )
        self.change_request = self.change_response = lambda message: message
        self.requests: list[bytes] = []
        options.setdefault("anchors", lambda: [pki.anchor])
        self.client = TimeStampClient(self, clock=lambda: self.now, **options)

    def authority_clock(self) -> datetime:
        return self.authority_now or self.now

    def even(self) -> float:
        return self.authority_clock().timestamp()

    def respond(self, request: bytes) -> bytes:
        self.requests.append(request)
        return self.change_response(self.authority.respond(self.change_request(request)))


@pytest.fixture
def bench(pki) -> Bench:
    return Bench(pki)


def editing(edit):
    """A hand that opens the response, changes the signed data or signer info, and closes it again."""

    def change(response: bytes) -> bytes:
        opened = tsp.TimeStampResp.load(response)
        signed_data = opened["time_stamp_token"]["content"]
        edit(signed_data)
        return tsp.TimeStampResp(
            {
                "status": opened["status"],
                "time_stamp_token": cms.ContentInfo({"content_type": "signed_data", "content": signed_data.untag()}),
            }
        ).dump(force=True)

    return change


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize(
    "make_key",
    [
        lambda: ec.generate_private_key(ec.SECP256R1()),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: rsa.generate_private_key(65537, 2048),
    ],
    ids=["P-256", "P-384", "RSA"],
)
def test_a_token_that_holds_is_accepted(pki, algorithm: str, make_key) -> None:
    bench = Bench(pki, pki.unit(make_key()))
    digest = hashlib.new(algorithm, b"x").digest()
    stamp = bench.client.stamp(digest, algorithm)
    assert stamp.gen_time == bench.now
    assert stamp.accuracy == timedelta(seconds=1)
    assert stamp.policy == "0.4.0.2023.1.1"
    assert stamp.chain == (bench.unit.certificate, *bench.unit.chain, pki.anchor)
    info = cms.ContentInfo.load(stamp.token)["content"]["encap_content_info"]["content"].parsed
    assert info["message_imprint"]["hashed_message"].native == digest
    assert info["serial_number"].native == stamp.serial_number


def test_an_anchor_enclosed_in_the_token_changes_nothing(pki) -> None:
    unit = pki.unit()
    enclosed = replace(unit, chain=(*unit.chain, pki.anchor))
    assert Bench(pki, enclosed).client.stamp(DIGEST).chain == (unit.certificate, *unit.chain, pki.anchor)


def test_an_anchor_enclosed_in_a_strangers_token_is_not_believed(pki) -> None:
    stranger = build_time_stamping_pki(pki.now)
    unit = stranger.unit()
    with pytest.raises(TimeStampUnusable, match="trusted anchor"):
        Bench(pki, replace(unit, chain=(*unit.chain, stranger.anchor))).client.stamp(DIGEST)


def test_every_request_has_a_nonce_of_its_own_and_asks_for_certificates(bench) -> None:
    bench.client.stamp(DIGEST)
    bench.client.stamp(DIGEST)
    parsed = [tsp.TimeStampReq.load(request).native for request in bench.requests]
    assert parsed[0]["nonce"] != parsed[1]["nonce"]
    assert parsed[0]["cert_req"] and parsed[1]["cert_req"]


def test_p8_a_token_over_other_data_is_refused(bench) -> None:
    bench.change_request = lambda request: request.replace(DIGEST, bytes(32))
    with pytest.raises(TimeStampUnusable, match="other data"):
        bench.client.stamp(DIGEST)


def test_p8_a_token_with_another_hash_algorithm_is_refused(bench) -> None:
    def ask_for_sha384(request: bytes) -> bytes:
        parsed = tsp.TimeStampReq.load(request)
        imprint = {"hash_algorithm": {"algorithm": "sha384"}, "hashed_message": bytes(48)}
        return tsp.TimeStampReq(
            {"version": 1, "message_imprint": imprint, "nonce": parsed["nonce"].native, "cert_req": True}
        ).dump()

    bench.change_request = ask_for_sha384
    with pytest.raises(TimeStampUnusable, match="another hash"):
        bench.client.stamp(DIGEST)


def test_p8_a_replayed_or_missing_nonce_is_refused_in_words(bench) -> None:
    first = bench.authority.respond
    bench.client.stamp(DIGEST)
    replayed = first(bench.requests[0])
    bench.change_response = lambda _: replayed
    with pytest.raises(TimeStampUnusable, match="nonce"):
        bench.client.stamp(DIGEST)
    without = tsp.TimeStampReq.load(bench.requests[0])
    del without["nonce"]
    stripped = first(without.dump(force=True))
    bench.change_response = lambda _: stripped
    with pytest.raises(TimeStampUnusable, match="nonce"):
        bench.client.stamp(DIGEST)


def test_p8_a_wrong_signature_is_refused(bench) -> None:
    def spoil(signed_data) -> None:
        signer = signed_data["signer_infos"][0]
        other = bench.unit.key.sign(b"something else", ec.ECDSA(hashes.SHA256()))
        signer["signature"] = other

    bench.change_response = editing(spoil)
    with pytest.raises(TimeStampUnusable, match="signature is wrong"):
        bench.client.stamp(DIGEST)


def test_p8_changed_content_under_an_old_signature_is_refused(bench) -> None:
    def move_time(response: bytes) -> bytes:
        stamp = bench.now.strftime("%Y%m%d%H%M%SZ").encode()
        later = (bench.now + timedelta(seconds=1)).strftime("%Y%m%d%H%M%SZ").encode()
        return response.replace(stamp, later)

    bench.change_response = move_time
    with pytest.raises(TimeStampUnusable, match="message digest"):
        bench.client.stamp(DIGEST)


def test_p8_a_certificate_not_named_by_the_signer_is_refused(bench) -> None:
    """A second certificate for the same key: the signature verifies, the signed name does not."""
    twin = bench.pki.certify(bench.unit.key).public_bytes(Encoding.DER)

    def swap(signed_data) -> None:
        signed_data["certificates"] = [cms.CertificateChoices.load(twin)]

    bench.change_response = editing(swap)
    with pytest.raises(TimeStampUnusable, match="not enclosed"):
        bench.client.stamp(DIGEST)


def test_p8_a_token_of_a_strangers_authority_is_refused(pki) -> None:
    stranger = build_time_stamping_pki(pki.now)
    bench = Bench(pki, stranger.unit())
    with pytest.raises(TimeStampUnusable, match="trusted anchor"):
        bench.client.stamp(DIGEST)


def test_p8_an_expired_unit_is_refused(pki) -> None:
    """An authority that goes on after its certificate ended: our own refuses, so its check is lifted."""
    bench = Bench(pki, pki.unit(key := ec.generate_private_key(ec.SECP256R1()), pki.certify(key, days=1)))
    bench.client.stamp(DIGEST)
    bench.authority._prepared = replace(bench.authority._prepared, not_after=pki.now + timedelta(days=9))
    bench.now += timedelta(days=2)
    with pytest.raises(TimeStampUnusable, match="trusted anchor"):
        bench.client.stamp(DIGEST)


@pytest.mark.parametrize(
    "options",
    [
        {"usages": (ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.CODE_SIGNING)},
        {"usages": (ExtendedKeyUsageOID.CODE_SIGNING,)},
        {"critical": False},
    ],
)
def test_p8_a_certificate_not_for_time_stamping_alone_is_refused(pki, monkeypatch, options) -> None:
    monkeypatch.setattr(authority_module, "_check_unit", lambda certificate, key: None)
    key = ec.generate_private_key(ec.SECP256R1())
    bench = Bench(pki, pki.unit(key, pki.certify(key, **options)))
    with pytest.raises(TimeStampUnusable, match="not one for time-stamping"):
        bench.client.stamp(DIGEST)


@pytest.mark.parametrize("offset", [timedelta(minutes=-1), timedelta(seconds=4), timedelta(days=1)])
def test_p8_a_token_from_another_time_is_refused(bench, offset) -> None:
    bench.authority_now = bench.now + offset
    with pytest.raises(TimeStampUnusable, match="time is not that of the request"):
        bench.client.stamp(DIGEST)


def test_a_policy_that_is_not_accepted_is_refused(pki) -> None:
    with pytest.raises(TimeStampUnusable, match="policy"):
        Bench(pki, policies=["1.2.3.4"]).client.stamp(DIGEST)
    assert Bench(pki, policies=["1.2.3.4", "0.4.0.2023.1.1"]).client.stamp(DIGEST)


def test_two_signers_are_refused(bench) -> None:
    def double(signed_data) -> None:
        signer = signed_data["signer_infos"][0]
        second = signer.copy()
        second["signature"] = b"another"
        signed_data["signer_infos"] = [signer, second]

    bench.change_response = editing(double)
    with pytest.raises(TimeStampUnusable, match=r"signed once|not readable"):
        bench.client.stamp(DIGEST)


def test_a_refusal_is_told_with_its_bit(bench) -> None:
    bench.change_request = lambda request: request[:-1]
    with pytest.raises(TimeStampUnusable, match="status 2, failInfo 5"):
        bench.client.stamp(DIGEST)


@pytest.mark.parametrize("response", [b"", b"<html>busy</html>", b"\x30\x00", b"\x30\x05\x30\x03\x02\x01\x00"])
def test_an_answer_that_is_none_is_refused(bench, response: bytes) -> None:
    bench.change_response = lambda _: response
    with pytest.raises(TimeStampUnusable):
        bench.client.stamp(DIGEST)


def test_any_byte_of_the_token_changed_is_refused_or_changes_nothing_signed(bench) -> None:
    """Every byte of one token flipped: nothing but TimeStampUnusable comes out, or the token is still what it was."""
    base = bench.client.stamp(DIGEST)
    accepted = []
    for position in range(len(base.token)):

        def flip(response: bytes, at: int = position) -> bytes:
            return response[:at] + bytes([response[at] ^ 0x55]) + response[at + 1 :]

        bench.change_response = flip
        try:
            accepted.append(bench.client.stamp(DIGEST))
        except TimeStampUnusable:
            continue
    # What is left unprotected by the signature: sid, algorithm names and the order of enclosed certificates.
    assert all(stamp.chain == base.chain and stamp.gen_time == base.gen_time for stamp in accepted)


def test_no_anchor_no_trust(pki) -> None:
    with pytest.raises(TimeStampUnusable, match="no anchor"):
        Bench(pki, anchors=list).client.stamp(DIGEST)


def test_check_and_chain_use_a_recent_token_and_ask_again_later(bench) -> None:
    bench.client.check()
    bench.client.check()
    assert bench.client.chain()[0] == bench.unit.certificate
    assert len(bench.requests) == 1
    bench.now += timedelta(seconds=11)
    bench.client.check()
    assert len(bench.requests) == 2
    bench.change_response = lambda _: b""
    bench.now += timedelta(seconds=11)
    with pytest.raises(TimeStampUnusable):
        bench.client.check()


def test_a_digest_of_the_wrong_length_is_never_sent(bench) -> None:
    for digest, algorithm in ((bytes(20), "sha1"), (bytes(20), "sha256")):
        with pytest.raises(TimeStampUnusable, match="cannot be stamped"):
            bench.client.stamp(digest, algorithm)
    assert not bench.requests


class Post:
    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.sent: tuple[str, str] | None = None

    def post(self, url: str, body: bytes, content_type: str) -> Answer:
        self.sent = (url, content_type)
        return self.answer


def test_an_authority_over_http_is_asked_in_its_own_type() -> None:
    post = Post(Answer(200, {"content-type": "application/timestamp-reply; x=y"}, b"reply"))
    assert HttpAuthority(post, "https://tsa.example/tsa").respond(b"query") == b"reply"
    assert post.sent == ("https://tsa.example/tsa", "application/timestamp-query")


@pytest.mark.parametrize(("status", "kind"), [(503, "application/timestamp-reply"), (200, "text/html"), (302, "")])
def test_an_answer_that_is_no_reply_over_http_is_refused(status: int, kind: str) -> None:
    with pytest.raises(TimeStampUnusable, match=f"HTTP status {status}"):
        HttpAuthority(Post(Answer(status, {"content-type": kind}, b"")), "https://tsa.example/").respond(b"query")


def test_an_intermediate_that_may_not_sign_certificates_is_refused(pki) -> None:
    """A leaf of the trusted root certifies a stamping unit."""
    leaf_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    leaf = pki.certify(leaf_key)
    rogue = replace(pki, issuing_key=leaf_key, issuing=leaf)
    unit = TimeStampingUnit(
        rogue.certify(key).public_bytes(Encoding.DER),
        (leaf.public_bytes(Encoding.DER), pki.issuing.public_bytes(Encoding.DER)),
        key,
    )
    with pytest.raises(TimeStampUnusable, match="trusted anchor"):
        Bench(pki, unit).client.stamp(DIGEST)
