from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from ca import errors as ca_errors
from ca.est import errors, wire
from ca.est.endpoints import blueprint
from ca.est.enrolment import MAX_RENEWALS_A_DAY, Caller, Pending
from ca.est.guesses import MAX_WRONG, MAX_WRONG_OF_ADDRESS
from ca.est.labels import Labels
from ca.est.permits import Permit
from ca.est.settings import EstSettings
from ca.est.tables import EnrolmentRow
from ca.register import IssuedCertificate, Reason, State
from ca.registration import proven_key
from ca.trust_list.errors import IssuerNotAccepted
from core.one_time import ProcessLocalStore
from tests.support.est import BANK, BANK_NAMES, body, certificates, new_key, request, request_like
from tests.support.tools import run

LABEL = "tls-client"


@dataclass
class Client:
    """A machine with its permit, and the service it talks to."""

    room: Any
    one_time: ProcessLocalStore

    def permit(self, **changes: Any) -> tuple[Permit, tuple[str, str]]:
        fields = {
            "label": LABEL, "holder": "bank-1", "subject": BANK, "alternative_names": BANK_NAMES,
            "evidence": "contract 7", "actor": "officer:a", **changes,
        }  # fmt: skip
        made, secret = self.room.parts.est.permits.make(**fields)
        return made, (made.id, secret or "")

    def enrol(self, caller: Caller, csr: bytes | None = None, label: str | None = LABEL) -> Any:
        csr = csr if csr is not None else request(new_key())
        return self.room.parts.est.enrolment.enrol(label, csr, caller, one_time=self.one_time)

    def renew(self, old: bytes | None, csr: bytes, label: str | None = LABEL) -> IssuedCertificate:
        return self.room.parts.est.enrolment.renew(label, csr, Caller(certificate=old), one_time=self.one_time)

    def enrolled(self) -> IssuedCertificate:
        _, secret = self.permit()
        return self.enrol(Caller(secret=secret))


@pytest.fixture
def client(room: Any) -> Client:
    return Client(room, ProcessLocalStore(room.clock))


# First enrolment ---------------------------------------------------------------------------------------------------


def test_a_secret_buys_the_certificate_its_permit_describes(client: Client) -> None:
    permit, secret = client.permit()
    issued = client.enrol(Caller(secret=secret))
    assert issued.profile == LABEL and issued.holder == "bank-1" and issued.evidence.endswith("contract 7")
    assert dict(permit.subject)["C"] == "MN"
    assert issued.subject_text == ("C=MN, O=Example Bank, organizationIdentifier=NTRMN-1234567, CN=api.bank.example.mn")
    names = issued.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["api.bank.example.mn"]
    assert client.room.openssl_verify(issued.der).returncode == 0


def test_permit_enrolment_and_certificate_are_linked_in_one_transaction(client: Client) -> None:
    permit, secret = client.permit()
    issued = client.enrol(Caller(secret=secret))
    with client.room.database.reading() as session:
        row = session.scalars(select(EnrolmentRow)).one()
    assert (row.certificate_id, row.permit_id, row.label) == (issued.id, permit.id, LABEL)
    assert client.room.parts.est.permits.get(permit.id).state == "spent"
    assert client.room.facts("ca:est:enrolled")["permit"] == permit.id
    assert client.room.check_audit()


def test_a_secret_is_accepted_once(client: Client) -> None:
    _, secret = client.permit()
    csr = request(new_key())
    client.enrol(Caller(secret=secret), csr)
    for again in (csr, request(new_key())):
        with pytest.raises(errors.SecretSpent):
            client.enrol(Caller(secret=secret), again)


def test_of_two_requests_at_once_one_gets_a_certificate_and_the_other_leaves_none(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    permit, secret = client.permit()
    enrolment = client.room.parts.est.enrolment
    certify = client.room.parts.issuance.certify
    met: list[IssuedCertificate] = []

    def overtaken(application: Any, **more: Any) -> Any:
        monkeypatch.setattr(client.room.parts.issuance, "certify", certify)
        met.append(enrolment.enrol(LABEL, request(new_key()), Caller(secret=secret), one_time=client.one_time))
        return certify(application, **more)

    monkeypatch.setattr(client.room.parts.issuance, "certify", overtaken)
    with pytest.raises(errors.SecretSpent):
        client.enrol(Caller(secret=secret))
    held = client.room.parts.register.certificates(holder="bank-1")
    assert [each.id for each in held] == [met[0].id]
    # What was signed and not delivered is settled as revoked: nothing exists that the register does not know.
    client.room.clock.advance(timedelta(minutes=5))
    client.room.parts.recovery.settle()
    assert client.room.events().count("ca:intent:withdrawn") == 1
    assert permit.id in client.room.facts("ca:est:enrolled")["permit"]


def test_the_secret_is_kept_as_a_digest_only(client: Client) -> None:
    _, (name, secret) = client.permit()
    stored = (client.room.folder / "tamga.sqlite").read_bytes() + b"".join(
        path.read_bytes() for path in client.room.folder.glob("tamga.sqlite-*")
    )
    assert name.encode() in stored and secret.encode() not in stored
    assert secret not in repr(client.room.parts.est.permits.get(name)) and secret not in repr(Caller((name, secret)))


@pytest.mark.parametrize("wrong", ["name", "secret"])
def test_a_wrong_name_and_a_wrong_secret_are_refused_alike(client: Client, wrong: str) -> None:
    _, (name, secret) = client.permit()
    shown = ("nobody", secret) if wrong == "name" else (name, secret + "x")
    with pytest.raises(errors.SecretRefused) as caught:
        client.enrol(Caller(secret=shown))
    assert caught.value.status == 401


def test_guessing_is_braked_for_the_permit_and_the_right_secret_waits_too(client: Client) -> None:
    _, (name, secret) = client.permit()
    for number in range(MAX_WRONG):
        with pytest.raises(errors.SecretRefused):
            client.enrol(Caller(secret=(name, "guess"), address=f"192.0.2.{number}"))
    with pytest.raises(errors.TooManyGuesses):
        client.enrol(Caller(secret=(name, secret), address="192.0.2.99"))
    client.room.clock.advance(timedelta(minutes=16))
    assert client.enrol(Caller(secret=(name, secret)))


def test_guessing_is_braked_for_the_address(client: Client) -> None:
    for number in range(MAX_WRONG_OF_ADDRESS):
        with pytest.raises(errors.SecretRefused):
            client.enrol(Caller(secret=(f"name-{number}", "guess"), address="192.0.2.1"))
    _, secret = client.permit()
    with pytest.raises(errors.TooManyGuesses):
        client.enrol(Caller(secret=secret, address="192.0.2.1"))
    assert client.enrol(Caller(secret=secret, address="192.0.2.2"))


def test_who_shows_nothing_is_asked_for_something(client: Client) -> None:
    with pytest.raises(errors.AuthenticationRequired) as caught:
        client.enrol(Caller())
    assert caught.value.status == 401


def test_a_permit_that_was_not_used_in_time_is_refused(client: Client) -> None:
    _, secret = client.permit(lifetime=timedelta(hours=1))
    client.room.clock.advance(timedelta(hours=1))
    with pytest.raises(errors.PermitExpired):
        client.enrol(Caller(secret=secret))


def test_a_withdrawn_permit_is_refused(client: Client) -> None:
    permit, secret = client.permit()
    client.room.parts.est.permits.withdraw(permit.id, actor="officer:b")
    with pytest.raises(errors.PermitWithdrawn):
        client.enrol(Caller(secret=secret))
    with pytest.raises(errors.PermitDecided):
        client.room.parts.est.permits.withdraw(permit.id, actor="officer:b")


def test_a_secret_opens_no_other_label(client: Client) -> None:
    _, secret = client.permit()
    with pytest.raises(errors.LabelRefused):
        client.enrol(Caller(secret=secret), label="tls-server")


@pytest.mark.parametrize("label", ["no-such", "citizen-signature", "citizen-authentication", "root", "", "tls_client"])
def test_a_label_that_is_not_open_is_unknown(client: Client, label: str) -> None:
    with pytest.raises(errors.LabelUnknown) as caught:
        client.enrol(Caller(), label=label)
    assert caught.value.status == 404


@pytest.mark.parametrize(
    "label",
    ["citizen-signature", "citizen-authentication", "organisation-seal", "issuing-ca", "ocsp-responder", "none"],
)
def test_a_label_that_is_not_for_machines_stops_the_start(label: str) -> None:
    with pytest.raises(errors.LabelUnfit):
        Labels(EstSettings(labels=(label,), default_label=label))


def test_the_request_may_name_what_the_permit_names_and_gets_all_of_it(client: Client) -> None:
    _, secret = client.permit()
    issued = client.enrol(Caller(secret=secret), request(new_key(), names=[("DNS", "API.bank.example.mn")]))
    names = issued.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert len(list(names)) == len(BANK_NAMES)


@pytest.mark.parametrize("name", [("DNS", "evil.example.mn"), ("IP", "192.0.2.1"), ("URI", "https://evil.example.mn/")])
def test_a_name_that_the_permit_lacks_is_refused(client: Client, name: tuple[str, str]) -> None:
    _, secret = client.permit()
    with pytest.raises(errors.NameNotPermitted):
        client.enrol(Caller(secret=secret), request(new_key(), names=[*BANK_NAMES, name]))
    assert client.enrol(Caller(secret=secret))  # a refusal does not spend the permit


def test_a_request_gives_key_and_proof_and_nothing_else(client: Client, make_csr: Callable[..., bytes]) -> None:
    _, secret = client.permit()
    wanted = (
        x509.BasicConstraints(ca=True, path_length=None),
        x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CODE_SIGNING]),
    )
    issued = client.enrol(Caller(secret=secret), make_csr(new_key(), *wanted, subject="somebody else"))
    usages = issued.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]
    assert "somebody else" not in issued.subject_text


def test_a_request_that_its_key_did_not_sign_is_refused(client: Client) -> None:
    _, secret = client.permit()
    csr = bytearray(request(new_key()))
    csr[-1] ^= 1
    with pytest.raises(ca_errors.ProofOfPossessionFailed):
        client.enrol(Caller(secret=secret), bytes(csr))


def test_a_weak_key_is_refused(client: Client) -> None:
    _, secret = client.permit()
    with pytest.raises(ca_errors.KeyNotAccepted):
        client.enrol(Caller(secret=secret), request(ec.generate_private_key(ec.SECP521R1())))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"label": "no-such"}, errors.LabelUnknown),
        ({"subject": {"O": "Example Bank"}}, ca_errors.SubjectRefused),
        ({"alternative_names": [("DNS", "api.bank.example.mn")]}, ca_errors.SubjectRefused),
        ({"evidence": " "}, ca_errors.EvidenceMissing),
        ({"evidence": "x" * 121}, ca_errors.EvidenceMissing),
        ({"holder": ""}, ca_errors.EvidenceMissing),
        ({"bearer_certificate_id": "none"}, ca_errors.CertificateNotFound),
    ],
)
def test_a_permit_that_could_never_be_granted_is_not_made(client: Client, change: dict[str, Any], error: Any) -> None:
    with pytest.raises(error):
        client.permit(**change)


# A certificate instead of a secret ---------------------------------------------------------------------------------


def test_a_certificate_of_ours_opens_the_permit_that_names_it(client: Client) -> None:
    bearer = client.enrolled()
    permit, (_, secret) = client.permit(bearer_certificate_id=bearer.id)
    assert secret == ""
    issued = client.enrol(Caller(certificate=bearer.der))
    assert issued.id != bearer.id and client.room.parts.est.permits.get(permit.id).state == "spent"
    with pytest.raises(errors.NotPermitted):
        client.enrol(Caller(certificate=bearer.der))


def test_a_permit_for_a_certificate_opens_to_no_secret(client: Client) -> None:
    bearer = client.enrolled()
    permit, _ = client.permit(bearer_certificate_id=bearer.id)
    for guess in ("", "\0" * 32):
        with pytest.raises(errors.SecretRefused):
            client.enrol(Caller(secret=(permit.id, guess)))


def test_a_certificate_without_a_permit_enrols_nothing(client: Client) -> None:
    with pytest.raises(errors.NotPermitted):
        client.enrol(Caller(certificate=client.enrolled().der))


# Renewal -----------------------------------------------------------------------------------------------------------


def test_a_certificate_is_renewed_under_its_own_names(client: Client) -> None:
    old = client.enrolled()
    new = client.renew(old.der, request_like(new_key(), old.certificate))
    assert (new.subject_text, new.holder, new.profile) == (old.subject_text, old.holder, old.profile)
    assert new.serial != old.serial and new.evidence == f"renewal of {old.serial_text}"
    assert client.room.facts("ca:est:renewed")["renewed"] == old.serial_text
    with client.room.database.reading() as session:
        row = session.get_one(EnrolmentRow, new.id)
    assert row.renewed_certificate_id == old.id


def test_a_renewal_may_keep_its_key(client: Client) -> None:
    key = new_key()
    _, secret = client.permit()
    old = client.enrol(Caller(secret=secret), request(key))
    new = client.renew(old.der, request_like(key, old.certificate))
    assert new.certificate.public_key() == old.certificate.public_key()


@pytest.mark.parametrize(
    ("subject", "names"),
    [
        ({**BANK, "C": "MN", "CN": "other.example.mn"}, BANK_NAMES),
        (BANK, BANK_NAMES),
        ({"C": "MN", **BANK}, [*BANK_NAMES, ("DNS", "more.example.mn")]),
        ({"C": "MN", **BANK}, BANK_NAMES[:1]),
        ({"C": "MN", **BANK}, ()),
    ],
)
def test_a_renewal_with_other_names_is_refused(client: Client, subject: dict[str, str], names: Any) -> None:
    old = client.enrolled()
    with pytest.raises(errors.SubjectChanged) as caught:
        client.renew(old.der, request(new_key(), subject=subject, names=names))
    assert caught.value.status == 403


def test_a_renewal_without_a_certificate_is_refused(client: Client) -> None:
    with pytest.raises(errors.CertificateRequired):
        client.renew(None, request(new_key()))


def test_a_foreign_certificate_is_told_that_its_issuer_is_not_accepted(client: Client, foreign_leaf: bytes) -> None:
    for act in (
        lambda: client.renew(foreign_leaf, request(new_key())),
        lambda: client.enrol(Caller(certificate=foreign_leaf)),
    ):
        with pytest.raises(IssuerNotAccepted) as caught:
            act()
        assert caught.value.code == "issuer_not_accepted"


def test_a_revoked_certificate_is_not_renewed(client: Client) -> None:
    old = client.enrolled()
    client.room.parts.revocation.revoke(old.id, actor="test", reason=Reason.SUPERSEDED)
    with pytest.raises(errors.CertificateRevoked):
        client.renew(old.der, request_like(new_key(), old.certificate))


def test_a_suspended_certificate_is_not_renewed(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    old = client.enrolled()
    held = dataclasses.replace(old, status=dataclasses.replace(old.status, state=State.SUSPENDED))
    monkeypatch.setattr(client.room.parts.register, "by_der", lambda _: held)
    with pytest.raises(errors.CertificateSuspended):
        client.renew(old.der, request_like(new_key(), old.certificate))


def test_an_expired_certificate_is_not_renewed(client: Client) -> None:
    old = client.enrolled()
    client.room.clock.advance(timedelta(days=400))
    with pytest.raises(errors.CertificateExpired):
        client.renew(old.der, request_like(new_key(), old.certificate))


def test_a_certificate_is_renewed_under_its_own_label_only(client: Client) -> None:
    old = client.enrolled()
    with pytest.raises(errors.LabelRefused):
        client.renew(old.der, request_like(new_key(), old.certificate), label="tls-server")


def test_a_person_s_certificate_renews_nothing(client: Client, citizen: Callable[..., Any]) -> None:
    parts = client.room.parts
    person = parts.issuance.certify(parts.registration.apply(**citizen()), actor="test")
    with pytest.raises(errors.LabelRefused):
        client.renew(person.der, request(new_key()))


def test_a_certificate_has_so_many_successors_in_a_day(client: Client) -> None:
    old = client.enrolled()
    for _ in range(MAX_RENEWALS_A_DAY):
        client.renew(old.der, request_like(new_key(), old.certificate))
    with pytest.raises(errors.TooManyRenewals):
        client.renew(old.der, request_like(new_key(), old.certificate))
    client.room.clock.advance(timedelta(days=1, seconds=1))
    assert client.renew(old.der, request_like(new_key(), old.certificate))


# An officer decides ------------------------------------------------------------------------------------------------


def test_a_request_that_needs_approval_waits_and_is_granted_when_asked_again(client: Client) -> None:
    permit, secret = client.permit(needs_approval=True)
    csr = request(new_key())
    for _ in range(2):
        waiting = client.enrol(Caller(secret=secret), csr)
        assert isinstance(waiting, Pending) and waiting.retry_after == 300
    assert not client.room.parts.register.certificates(holder="bank-1")
    client.room.parts.est.permits.approve(permit.id, actor="officer:b")
    issued = client.enrol(Caller(secret=secret), csr)
    assert issued.certificate.public_key() == proven_key(csr)[0]
    with pytest.raises(errors.SecretSpent):
        client.enrol(Caller(secret=secret), csr)


def test_another_key_does_not_slip_under_an_approval(client: Client) -> None:
    permit, secret = client.permit(needs_approval=True)
    client.enrol(Caller(secret=secret), request(new_key()))
    with pytest.raises(errors.KeyChanged):
        client.enrol(Caller(secret=secret), request(new_key()))
    client.room.parts.est.permits.approve(permit.id, actor="officer:b")
    with pytest.raises(errors.KeyChanged):
        client.enrol(Caller(secret=secret), request(new_key()))


def test_who_made_a_permit_does_not_approve_its_request(client: Client) -> None:
    permit, secret = client.permit(needs_approval=True)
    client.enrol(Caller(secret=secret))
    with pytest.raises(errors.SelfApproval):
        client.room.parts.est.permits.approve(permit.id, actor="officer:a")


def test_what_waits_for_nobody_is_neither_approved_nor_rejected(client: Client) -> None:
    permit, _ = client.permit(needs_approval=True)
    for decide in (client.room.parts.est.permits.approve, client.room.parts.est.permits.reject):
        with pytest.raises(errors.PermitDecided):
            decide(permit.id, actor="officer:b")
        with pytest.raises(errors.PermitNotFound):
            decide("none", actor="officer:b")


def test_a_rejected_request_stays_refused(client: Client) -> None:
    permit, secret = client.permit(needs_approval=True)
    csr = request(new_key())
    client.enrol(Caller(secret=secret), csr)
    client.room.parts.est.permits.reject(permit.id, actor="officer:b")
    with pytest.raises(errors.PermitWithdrawn):
        client.enrol(Caller(secret=secret), csr)
    assert [each.id for each in client.room.parts.est.permits.listed(label=LABEL, state="withdrawn")] == [permit.id]


# Over HTTP ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def web(client: Client) -> FlaskClient:
    app = Flask(__name__)
    shown = lambda: None  # noqa: E731 - no front, no certificate
    app.register_blueprint(
        blueprint(client.room.parts.est.enrolment, one_time=client.one_time, client_certificate=shown)
    )
    return app.test_client()


def post(web: FlaskClient, sent: bytes, secret: tuple[str, str] | None = None, **headers: str) -> TestResponse:
    return web.post(
        f"/.well-known/est/{LABEL}/simpleenroll", data=sent, auth=secret,
        headers={"Content-Type": "application/pkcs10", **headers},
    )  # fmt: skip


@pytest.mark.parametrize(
    "line", [{}, {"width": 64}, {"width": 76, "line_end": "\r\n"}, {"width": 3, "line_end": " \t"}]
)
def test_bodies_are_read_with_and_without_line_breaks(client: Client, web: FlaskClient, line: dict[str, Any]) -> None:
    _, secret = client.permit()
    answer = post(web, body(request(new_key()), **line), secret)
    assert answer.status_code == 200, answer.text
    assert answer.content_type == "application/pkcs7-mime; smime-type=certs-only"
    assert b"\n" not in answer.data and "Content-Transfer-Encoding" not in answer.headers
    (issued,) = certificates(answer.data)
    assert client.room.parts.register.by_serial(issued.serial_number).holder == "bank-1"


def test_what_a_content_transfer_encoding_says_does_not_matter(client: Client, web: FlaskClient) -> None:
    _, secret = client.permit()
    sent = body(request(new_key()))
    assert post(web, sent, secret, **{"Content-Transfer-Encoding": "binary"}).status_code == 200


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"", 400, "est_body_refused"),
        (b"no base64!", 400, "est_body_refused"),
        (b"-----BEGIN CERTIFICATE REQUEST-----", 400, "est_body_refused"),
        (base64.b64encode(b"no request"), 400, "csr_malformed"),
        (b"A" * (wire.MAX_BODY_OCTETS + 1), 400, "est_body_refused"),
        (b"A" * wire.MAX_BODY_OCTETS, 400, "csr_malformed"),
    ],
)
def test_a_body_that_holds_no_request_is_refused(
    client: Client, web: FlaskClient, sent: bytes, status: int, code: str
) -> None:
    _, secret = client.permit()
    answer = post(web, sent, secret)
    assert (answer.status_code, answer.headers["X-Error-Code"]) == (status, code)
    assert answer.mimetype == "text/plain" and answer.text.count("\n") == 1


def test_another_media_type_is_refused(client: Client, web: FlaskClient) -> None:
    answer = post(web, body(request(new_key())), client.permit()[1], **{"Content-Type": "text/plain"})
    assert (answer.status_code, answer.headers["X-Error-Code"]) == (415, "est_media_type_refused")


def test_who_is_not_recognised_is_challenged(web: FlaskClient) -> None:
    for secret in (None, ("nobody", "guess")):
        answer = post(web, body(request(new_key())), secret)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith('Basic realm="')


def test_a_request_that_waits_is_answered_202_with_a_time(client: Client, web: FlaskClient) -> None:
    _, secret = client.permit(needs_approval=True)
    answer = post(web, body(request(new_key())), secret)
    assert (answer.status_code, answer.headers["Retry-After"], answer.mimetype) == (202, "300", "text/plain")


def test_the_authorities_are_a_chain_to_the_root(client: Client, web: FlaskClient) -> None:
    answer = web.get(f"/.well-known/est/{LABEL}/cacerts")
    assert answer.content_type == "application/pkcs7-mime; smime-type=certs-only"
    hierarchy = client.room.parts.hierarchy
    chain = {authority.certificate for authority in hierarchy.chain(hierarchy.for_purpose("service").slug)}
    assert set(certificates(answer.data)) == chain and len(chain) == 2


def test_the_attributes_name_each_kind_of_key(web: FlaskClient) -> None:
    answer = web.get(f"/.well-known/est/{LABEL}/csrattrs")
    assert answer.content_type == "application/csrattrs"
    parsed = run("openssl", "asn1parse", "-inform", "DER", stdin=base64.b64decode(answer.data))
    values = [line.rsplit(":", 1)[1] for line in parsed.stdout.splitlines() if "prim:" in line]
    assert values == [
        "id-ecPublicKey", "prime256v1", "id-ecPublicKey", "secp384r1", "rsaEncryption", f"{3072:04X}",
    ]  # fmt: skip


@pytest.mark.parametrize("operation", ["serverkeygen", "fullcmc", "startssh"])
def test_what_is_not_offered_is_not_there(web: FlaskClient, operation: str) -> None:
    for path in (f"/.well-known/est/{operation}", f"/.well-known/est/{LABEL}/{operation}"):
        assert web.post(path, data=b"x").status_code == 404


@pytest.mark.parametrize("operation", ["cacerts", "csrattrs", "simpleenroll", "simplereenroll"])
def test_a_wrong_label_is_not_there(web: FlaskClient, operation: str) -> None:
    method = "GET" if operation in ("cacerts", "csrattrs") else "POST"
    sent = body(request(new_key())) if method == "POST" else b""
    answer = web.open(
        f"/.well-known/est/wrong/{operation}", method=method, data=sent, content_type="application/pkcs10"
    )
    assert (answer.status_code, answer.headers["X-Error-Code"]) == (404, "est_label_unknown")


def test_a_client_that_names_no_label_gets_the_default_one(web: FlaskClient) -> None:
    assert web.get("/.well-known/est/csrattrs").data == web.get("/.well-known/est/tls-server/csrattrs").data


def test_settings_that_cannot_be_served_are_refused() -> None:
    for wrong in ({"default_label": "other"}, {"permit_hours": 0}, {"retry_after_seconds": 0}):
        with pytest.raises(ValueError):
            EstSettings(**wrong)
    with pytest.raises(errors.LabelUnknown):
        Labels(EstSettings(default_label="")).profile(None)
    with pytest.raises(errors.LabelUnknown):
        Labels(EstSettings(labels=())).profile("tls-client")


@pytest.fixture
def foreign_leaf() -> bytes:
    """A certificate that somebody else issued, with our authority's very name in it."""
    import datetime

    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    key = new_key()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Tamga Service CA G1")])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
