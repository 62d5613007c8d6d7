"""The time-stamping authority, read by three strangers: openssl, asn1crypto and pyHanko."""

from __future__ import annotations

import asyncio
import hashlib
import io
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from asn1crypto import cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from pyhanko.sign.validation.generic_cms import validate_tst_signed_data
from pyhanko_certvalidator import ValidationContext

from core.errors import Unavailable
from hsm.keystore import KeyAlgorithm, KeyPurpose, initialise_token, open_keystore
from hsm.settings import HsmSettings
from signing.time_stamp_authority import (
    BadAlg,
    BadDataFormat,
    ClockGuard,
    TimeNotAvailable,
    TimeStampAuthority,
    TimeStampingUnit,
    TimeStampRefused,
    wsgi,
)
from tests.support.time_stamping import TimeStampingPki, build_time_stamping_pki

DATA = b"what was signed"
DIGEST = hashlib.sha256(DATA).digest()


class HandClock:
    """Wall and even clock, moved by hand: together, or the wall alone."""

    def __init__(self, now: datetime) -> None:
        self.now, self.even = now, 1000.0

    def __call__(self) -> datetime:
        return self.now

    def elapsed(self) -> float:
        return self.even

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.even += seconds

    def step(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture(scope="module")
def pki() -> TimeStampingPki:
    return build_time_stamping_pki(datetime.now(UTC))


@pytest.fixture
def clock(pki) -> HandClock:
    return HandClock(pki.now.replace(microsecond=430_700))


@pytest.fixture
def make(pki, clock):
    def build(unit: TimeStampingUnit | None = None, **options) -> TimeStampAuthority:
        chosen = unit or pki.unit()
        options.setdefault("guard", ClockGuard(clock, elapsed=clock.elapsed))
        return TimeStampAuthority(lambda: chosen, clock=clock, **options)

    return build


def query(*, algorithm="sha256", digest=None, nonce=7, certificates=True, **extra) -> bytes:
    fields = {
        "version": 1,
        "message_imprint": {
            "hash_algorithm": {"algorithm": algorithm},
            "hashed_message": hashlib.new(algorithm, DATA).digest() if digest is None else digest,
        },
        "cert_req": certificates,
    }
    if nonce is not None:
        fields["nonce"] = nonce
    return tsp.TimeStampReq({**fields, **extra}).dump()


def reply_of(response: bytes) -> tsp.TimeStampResp:
    return tsp.TimeStampResp.load(response, strict=True)


def info_of(response: bytes) -> tsp.TSTInfo:
    return reply_of(response)["time_stamp_token"]["content"]["encap_content_info"]["content"].parsed


def failure_of(response: bytes) -> set[str]:
    """The failInfo of a rejection; asn1crypto wants a token in every TimeStampResp, so its status is read alone."""
    (status,) = (tsp.PKIStatusInfo.load(child.dump()) for child in core.SequenceOf.load(response, spec=core.Sequence))
    assert status["status"].native == "rejection"
    assert status["status_string"].native
    return status["fail_info"].native


def openssl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def files(tmp_path, pki):
    (tmp_path / "root.pem").write_bytes(pki.root.public_bytes(Encoding.PEM))
    (tmp_path / "issuing.pem").write_bytes(pki.issuing.public_bytes(Encoding.PEM))
    (tmp_path / "data").write_bytes(DATA)
    return tmp_path


def openssl_verify(files, response: bytes, *, untrusted: bool = False) -> subprocess.CompletedProcess[str]:
    (files / "reply.tsr").write_bytes(response)
    more = ["-untrusted", f"{files}/issuing.pem"] if untrusted else []
    source = ["-queryfile", f"{files}/query.tsq"] if (files / "query.tsq").exists() else ["-data", f"{files}/data"]
    return openssl("ts", "-verify", *source, "-in", f"{files}/reply.tsr", "-CAfile", f"{files}/root.pem", *more)


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_openssl_verifies_what_openssl_asked_for(make, files, algorithm: str) -> None:
    asked = openssl("ts", "-query", f"-{algorithm}", "-cert", "-data", f"{files}/data", "-out", f"{files}/query.tsq")
    assert asked.returncode == 0, asked.stderr
    verdict = openssl_verify(files, make().respond((files / "query.tsq").read_bytes()))
    assert "Verification: OK" in verdict.stdout, verdict.stderr


@pytest.mark.parametrize(
    "make_key",
    [lambda: ec.generate_private_key(ec.SECP384R1()), lambda: rsa.generate_private_key(65537, 3072)],
    ids=["P-384", "RSA-3072"],
)
def test_openssl_verifies_tokens_of_every_kind_of_key(make, pki, files, make_key) -> None:
    verdict = openssl_verify(files, make(pki.unit(make_key())).respond(query()))
    assert "Verification: OK" in verdict.stdout, verdict.stderr


@pytest.fixture
def token_key(tmp_path):
    settings = HsmSettings(pin_file=tmp_path / "pin", softhsm_conf=tmp_path / "softhsm2.conf")
    initialise_token(settings, "6820-not-a-secret")
    keystore = open_keystore(settings)
    yield keystore.generate("tsa-1", KeyPurpose.TIME_STAMPING, KeyAlgorithm.P256)
    keystore.close()


def test_openssl_verifies_what_a_key_in_a_token_signed(make, pki, files, token_key) -> None:
    verdict = openssl_verify(files, make(pki.unit(token_key)).respond(query()))
    assert "Verification: OK" in verdict.stdout, verdict.stderr


def test_openssl_refuses_a_token_over_other_data(make, files) -> None:
    verdict = openssl_verify(files, make().respond(query(digest=bytes(32))))
    assert verdict.returncode != 0
    assert "message imprint mismatch" in verdict.stderr


def test_openssl_prints_the_token_as_the_standard_wants_it(make, files) -> None:
    (files / "reply.tsr").write_bytes(make().respond(query(nonce=0xABCDEF)))
    text = openssl("ts", "-reply", "-in", f"{files}/reply.tsr", "-text").stdout
    for line in (
        "Status: Granted.",
        "Version: 1",
        "Accuracy: 0x01 seconds, unspecified millis, unspecified micros",
        "Ordering: no",
        "Nonce: 0xABCDEF",
        "TSA: DirName:/C=MN/CN=Time-stamping unit",
    ):
        assert line in text


def test_pyhanko_finds_the_token_valid_and_trusted(make, pki, clock) -> None:
    context = ValidationContext(
        trust_roots=[asn1_x509.Certificate.load(pki.anchor)], moment=clock.now, allow_fetching=False
    )
    token = cms.ContentInfo.load(make().token(DIGEST))
    status = asyncio.run(validate_tst_signed_data(token["content"], context, lambda _: DIGEST))
    assert (status["intact"], status["valid"], status["trust_problem_indic"]) == (True, True, None)
    assert status["validation_path"].leaf.native["tbs_certificate"]["subject"]["common_name"] == "Time-stamping unit"


def test_the_token_says_what_the_standards_ask(make, pki, clock) -> None:
    unit = pki.unit()
    response = make(unit).respond(query(nonce=2**63))
    info = info_of(response)
    assert info["version"].native == "v1"
    assert info["policy"].native == "0.4.0.2023.1.1"
    assert info["nonce"].native == 2**63
    assert info["gen_time"].native == clock.now.replace(microsecond=430_000)
    assert info["accuracy"].native == {"seconds": 1, "millis": None, "micros": None}
    assert info["ordering"].native is False
    assert info["tsa"].chosen.native["common_name"] == "Time-stamping unit"
    assert info["extensions"].native is None
    signer = reply_of(response)["time_stamp_token"]["content"]["signer_infos"][0]
    attributes = {attribute["type"].native: attribute["values"][0] for attribute in signer["signed_attrs"]}
    assert set(attributes) == {"content_type", "message_digest", "signing_certificate_v2"}
    ess = attributes["signing_certificate_v2"]["certs"][0]
    assert ess["cert_hash"].native == hashlib.sha256(unit.certificate).digest()


def test_the_fraction_of_a_second_has_no_trailing_zero(make, clock) -> None:
    for microsecond, expected in ((0, b"Z"), (500_000, b".5Z"), (120_999, b".12Z")):
        clock.now = clock.now.replace(microsecond=microsecond)
        stamp = clock.now.strftime("%Y%m%d%H%M%S").encode() + expected
        assert stamp in make().token(DIGEST)


def test_certificates_come_only_when_asked_for(make, pki, files) -> None:
    with_them, without = make().respond(query()), make().respond(query(certificates=False))
    signed_data = reply_of(with_them)["time_stamp_token"]["content"]
    names = {certificate.chosen.subject.native["common_name"] for certificate in signed_data["certificates"]}
    assert names == {"Time-stamping unit", "Service authority"}
    assert reply_of(without)["time_stamp_token"]["content"]["certificates"].native is None
    assert len(without) < len(with_them) - 800


def test_no_nonce_asked_none_given(make) -> None:
    assert info_of(make().respond(query(nonce=None)))["nonce"].native is None


def test_serial_numbers_are_128_bits_and_never_alike(make) -> None:
    authority = make()
    serials = {info_of(authority.respond(query()))["serial_number"].native for _ in range(200)}
    assert len(serials) == 200
    assert {serial.bit_length() for serial in serials} == {128}


def test_a_request_with_null_parameters_gets_its_imprint_back_unchanged(make) -> None:
    for parameters in ("0500", ""):
        identifier = bytes.fromhex("0609608648016503040201" + parameters)
        imprint = b"\x30" + bytes([len(identifier) + 2 + 34]) + b"\x30" + bytes([len(identifier)]) + identifier
        imprint += b"\x04\x20" + DIGEST
        request = b"\x30" + bytes([len(imprint) + 3]) + b"\x02\x01\x01" + imprint
        assert imprint in make().respond(request)


def test_the_asked_policy_is_granted_and_another_refused(make) -> None:
    ours = make(policy="1.3.6.1.4.1.99999.1")
    assert info_of(ours.respond(query(req_policy="1.3.6.1.4.1.99999.1")))["policy"].native == "1.3.6.1.4.1.99999.1"
    assert failure_of(ours.respond(query(req_policy="1.2.3.4"))) == {"unaccepted_policy"}


@pytest.mark.parametrize(
    ("request_bytes", "failure"),
    [
        (b"", "bad_data_format"),
        (b"<html>", "bad_data_format"),
        (query() + b"\x00", "bad_data_format"),
        (query()[:-1], "bad_data_format"),
        (query(version=2), "bad_request"),
        (query(algorithm="sha1"), "bad_alg"),
        (query(algorithm="md5"), "bad_alg"),
        (query(digest=bytes(31)), "bad_data_format"),
        (query(algorithm="sha512", digest=bytes(32)), "bad_data_format"),
        (
            query(extensions=[{"extn_id": "2.5.29.17", "critical": False, "extn_value": b"\x30\x00"}]),
            "unaccepted_extensions",
        ),
        (b"\x30" * 4097, "bad_request"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_granted_is_a_rejection_with_its_own_bit(make, request_bytes: bytes, failure: str) -> None:
    assert failure_of(make().respond(request_bytes)) == {failure}


def test_openssl_reads_every_refusal(make, files) -> None:
    (files / "reply.tsr").write_bytes(make().respond(query(req_policy="1.2.3.4")))
    text = openssl("ts", "-reply", "-in", f"{files}/reply.tsr", "-text").stdout
    assert "Status: Rejected." in text
    assert "the requested TSA policy is not supported by the TSA" in text


def test_a_token_in_process_is_refused_by_class(make) -> None:
    with pytest.raises(BadAlg):
        make().token(bytes(20), "sha1")
    with pytest.raises(BadDataFormat):
        make().token(bytes(20), "sha256")


def test_accuracy_below_a_second_is_stated_in_milliseconds(make) -> None:
    info = info_of(make(accuracy=timedelta(milliseconds=250)).respond(query()))
    assert info["accuracy"].native == {"seconds": None, "millis": 250, "micros": None}


def test_an_accuracy_above_a_second_stops_the_start(make) -> None:
    with pytest.raises(ValueError, match="accuracy"):
        make(accuracy=timedelta(seconds=2))


@pytest.mark.parametrize(
    "options",
    [
        {"usages": (ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.CODE_SIGNING)},
        {"usages": (ExtendedKeyUsageOID.CLIENT_AUTH,)},
        {"critical": False},
    ],
    ids=["two-usages", "other-usage", "not-critical"],
)
def test_a_unit_not_certified_for_time_stamping_alone_never_stamps(make, pki, options) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    response = make(pki.unit(key, pki.certify(key, **options))).respond(query())
    assert failure_of(response) == {"system_failure"}


def test_a_unit_outside_its_validity_or_key_period_never_stamps(make, pki, clock) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    period = x509.PrivateKeyUsagePeriod(None, (pki.now + timedelta(days=30)).replace(microsecond=0, tzinfo=None))
    authority = make(pki.unit(key, pki.certify(key, extra=[period])))
    assert reply_of(authority.respond(query()))["status"]["status"].native == "granted"
    clock.pass_time(31 * 86400)
    assert failure_of(authority.respond(query())) == {"system_failure"}


def test_a_unit_with_a_foreign_key_never_stamps(make, pki) -> None:
    unit = pki.unit()
    foreign = TimeStampingUnit(unit.certificate, unit.chain, ec.generate_private_key(ec.SECP256R1()))
    assert failure_of(make(foreign).respond(query())) == {"system_failure"}


def test_a_missing_unit_is_a_system_failure(clock) -> None:
    def nobody() -> TimeStampingUnit:
        raise Unavailable("the token is gone")

    authority = TimeStampAuthority(nobody, clock=clock, guard=ClockGuard(clock, elapsed=clock.elapsed))
    assert failure_of(authority.respond(query())) == {"system_failure"}
    with pytest.raises(TimeStampRefused):
        authority.check()


def test_a_new_unit_takes_over_without_restart(pki, clock) -> None:
    units = [pki.unit(), pki.unit()]
    authority = TimeStampAuthority(lambda: units[0], clock=clock, guard=ClockGuard(clock, elapsed=clock.elapsed))
    first = authority.token(DIGEST)
    units.pop(0)
    second = authority.token(DIGEST)
    assert units[0].certificate in second and units[0].certificate not in first


@pytest.mark.parametrize("seconds", [1.1, -1.1, 86400, -86400])
def test_a_stepped_clock_gives_no_time_until_it_is_back(make, clock, seconds: float) -> None:
    authority = make()
    authority.check()
    clock.pass_time(5)
    clock.step(seconds)
    assert failure_of(authority.respond(query())) == {"time_not_available"}
    clock.pass_time(3)
    with pytest.raises(TimeNotAvailable):
        authority.check()
    clock.step(-seconds)
    authority.check()


def test_a_step_counts_once_the_clock_has_gone_evenly_for_a_minute(clock) -> None:
    guard = ClockGuard(clock, elapsed=clock.elapsed, settle=60)
    guard.now()
    clock.step(3600)
    with pytest.raises(TimeNotAvailable):
        guard.now()
    clock.pass_time(59)
    with pytest.raises(TimeNotAvailable):
        guard.now()
    clock.step(10)  # moved again: the minute begins anew
    clock.pass_time(2)
    with pytest.raises(TimeNotAvailable):
        guard.now()
    clock.pass_time(60)
    assert guard.now() == clock.now


def test_small_corrections_and_long_pauses_are_no_steps(clock) -> None:
    guard = ClockGuard(clock, elapsed=clock.elapsed)
    guard.now()
    clock.step(0.4)
    guard.now()
    clock.pass_time(7 * 86400)
    assert guard.now() == clock.now


def test_small_steps_do_not_add_up_unseen(clock) -> None:
    guard = ClockGuard(clock, elapsed=clock.elapsed)
    guard.now()
    clock.step(0.6)
    guard.now()
    clock.step(0.6)
    with pytest.raises(TimeNotAvailable):
        guard.now()


def test_the_real_clocks_agree_with_each_other(pki) -> None:
    unit = pki.unit()
    authority = TimeStampAuthority(lambda: unit, clock=lambda: datetime.now(UTC))
    authority.check()
    assert authority.token(DIGEST)


def call(authority, body: bytes = b"", method: str = "POST", **environ):
    seen = []
    environ = {
        "REQUEST_METHOD": method,
        "CONTENT_TYPE": "application/timestamp-query",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        **environ,
    }
    answer = b"".join(wsgi(authority)(environ, lambda status, headers: seen.extend((status, dict(headers)))))
    return int(seen[0].split()[0]), seen[1], answer


def test_a_grant_over_http(make) -> None:
    status, headers, body = call(make(), query())
    assert (status, headers["Content-Type"]) == (200, "application/timestamp-reply")
    assert headers["Cache-Control"] == "no-store"
    assert reply_of(body)["status"]["status"].native == "granted"


def test_refusals_over_http_are_200_and_broken_transport_is_not(make) -> None:
    authority = make()
    assert call(authority, b"rubbish")[0] == 200
    status, headers, body = call(authority, method="GET")
    assert (status, headers["Allow"], failure_of(body)) == (405, "POST", {"bad_request"})
    assert call(authority, query(), CONTENT_TYPE="text/plain")[0] == 415
    status, _, body = call(authority, b"\x30" * 4097)
    assert (status, failure_of(body)) == (413, {"bad_request"})
    assert call(authority, query(), CONTENT_LENGTH="9999")[0] == 413
    assert call(authority, query(), CONTENT_LENGTH="999")[0] == 400
