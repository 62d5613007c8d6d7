from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca.acme.errors import OrderNotReady
from ca.acme.identifiers import Entitlement, Identifier
from hsm.errors import HsmUnavailable
from tests.support.acme import csr, problem

NAME = "www.agency.example"
WEAK_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is the point


def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def test_an_order_leads_to_a_certificate_of_the_organisation(server: Any, client: Any) -> None:
    order, certificate = server.issued(client, NAME, "api.agency.example")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [NAME, "api.agency.example"]
    assert [a.rfc4514_string() for a in certificate.subject] == ["C=MN", "O=Example Agency"]
    assert server.room.openssl_verify(certificate.public_bytes(Encoding.DER), "-purpose", "sslserver").returncode == 0
    kept = server.room.parts.register.by_der(certificate.public_bytes(Encoding.DER))
    assert kept.holder == "organisation:Example Agency"
    assert kept.evidence == f"acme:{client.kid.rpartition('/')[2]}/{order['certificate'].rpartition('/')[2]}"
    assert "ca:acme_order:fulfilled" in server.room.events()
    server.room.check_audit()


def test_a_client_certificate_names_the_client(server: Any) -> None:
    machine = server.client(
        Entitlement("Example Bank", "tls-client", ("*.bank.example",), "NTRMN-1234567", "https://bank.example/id")
    )
    _, certificate = server.issued(machine, "tps.bank.example")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["https://bank.example/id"]
    assert names.get_values_for_type(x509.DNSName) == ["tps.bank.example"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]


def test_an_address_is_proven_and_certified(server: Any, client: Any) -> None:
    _, certificate = server.issued(client, "127.0.0.1")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(value) for value in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_an_address_is_offered_no_proof_by_dns(client: Any) -> None:
    ((_, challenges),) = client.challenges(client.order("127.0.0.1").json)
    assert sorted(challenges) == ["http-01", "tls-alpn-01"]


def test_a_wildcard_is_proven_by_dns_only(server: Any, client: Any) -> None:
    order = client.order("*.agency.example").json
    authorization = client.post(order["authorizations"][0]).json
    assert authorization["wildcard"] is True
    assert authorization["identifier"]["value"] == "agency.example"
    assert [challenge["type"] for challenge in authorization["challenges"]] == ["dns-01"]
    _, certificate = server.issued(client, "*.agency.example")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["*.agency.example"]


def test_a_name_in_capitals_is_the_same_name(client: Any) -> None:
    assert client.order("WWW.Agency.Example", NAME).json["identifiers"] == [{"type": "dns", "value": NAME}]


@pytest.mark.parametrize(
    "asked",
    [
        (NAME,),
        (NAME, "api.agency.example", "more.agency.example"),
        (NAME, "bpi.agency.example"),
        (),
        (NAME, "api.agency.example", "127.0.0.1"),
    ],
    ids=["one fewer", "one more", "another one", "none", "an address more"],
)
def test_a_request_that_names_something_else_is_refused(server: Any, client: Any, asked: tuple[str, ...]) -> None:
    order = server.ready(client, NAME, "api.agency.example")
    assert problem(client.finalize(order, csr(key(), *asked))) == "badCSR"
    # The order stays ready for a better request.
    assert client.finalize(order, csr(key(), NAME, "api.agency.example")).json["status"] == "valid"


def test_names_of_another_kind_in_the_request_are_refused(server: Any, client: Any) -> None:
    order = server.ready(client)
    for name in (x509.RFC822Name("a@agency.example"), x509.UniformResourceIdentifier("https://agency.example")):
        assert problem(client.finalize(order, csr(key(), NAME, more=(name,)))) == "badCSR"
    assert problem(client.finalize(order, csr(key(), NAME, common_name="other.example"))) == "badCSR"
    assert problem(client.finalize(order, csr(key(), NAME, common_name="Bold Zagvar"))) == "badCSR"


def test_a_common_name_counts_as_a_name(server: Any, client: Any) -> None:
    order = server.ready(client)
    assert client.finalize(order, csr(key(), common_name=NAME)).json["status"] == "valid"


def test_the_accounts_own_key_is_not_certified(server: Any, client: Any) -> None:
    order = server.ready(client)
    assert problem(client.finalize(order, csr(client.key, NAME))) == "badCSR"
    other = server.client(key=rsa.generate_private_key(65537, 2048))
    assert problem(client.finalize(order, csr(other.key, NAME))) == "badCSR"


def test_a_weak_key_is_refused(server: Any, client: Any) -> None:
    order = server.ready(client)
    assert problem(client.finalize(order, csr(WEAK_RSA, NAME))) == "badPublicKey"
    assert problem(client.finalize(order, csr(ec.generate_private_key(ec.SECP521R1()), NAME))) == "badPublicKey"


def test_a_request_without_proof_of_possession_is_refused(server: Any, client: Any) -> None:
    order = server.ready(client)
    broken = bytearray(csr(key(), NAME))
    broken[-1] ^= 1
    for octets in (bytes(broken), b"", b"\x30\x00", b"x" * 100):
        assert problem(client.finalize(order, octets)) == "badCSR"
    assert problem(client.post(order["finalize"], {})) == "malformed"
    assert problem(client.post(order["finalize"], {"csr": "a=="})) == "malformed"


def test_an_order_is_fulfilled_once(server: Any, client: Any) -> None:
    order, request = server.ready(client), csr(key(), NAME)
    first = client.finalize(order, request).json
    assert client.finalize(order, request).json == first
    assert problem(client.finalize(order, csr(key(), NAME))) == "orderNotReady"
    assert len(server.room.parts.register.certificates(profile="tls-server")) == 1


def test_an_order_that_is_not_proven_is_not_finalised(client: Any) -> None:
    order = client.order(NAME).json
    assert order["status"] == "pending"
    assert problem(client.finalize(order, csr(key(), NAME))) == "orderNotReady"


def test_an_order_expires(server: Any, client: Any) -> None:
    order = server.ready(client)
    server.room.clock.advance(timedelta(days=1, seconds=1))
    assert client.post(order["url"]).json["status"] == "invalid"
    assert problem(client.finalize(order, csr(key(), NAME))) == "orderNotReady"


def test_a_name_that_may_no_longer_be_had_is_not_certified(server: Any) -> None:
    made = server.external_key()
    client = server.client()
    order = server.ready(client)
    account = server.account(client)
    server.parts.external_keys.revoke(account.external_key_id, actor="test")
    assert problem(client.finalize(order, csr(key(), NAME))) == "unauthorized"
    assert made.key.id != account.external_key_id


def test_a_proof_serves_further_orders_for_a_while(server: Any, client: Any) -> None:
    server.issued(client)
    again = client.order(NAME).json
    assert again["status"] == "ready"
    assert client.order(NAME, "api.agency.example").json["status"] == "pending"
    # Not the wildcard above it, and not for somebody else.
    assert client.order(f"*.{NAME}").json["status"] == "pending"
    assert server.client().order(NAME).json["status"] == "pending"
    server.room.clock.advance(timedelta(days=1))
    assert client.order(NAME).json["status"] == "pending"


def test_a_proof_that_was_given_up_serves_no_more(server: Any, client: Any) -> None:
    order = server.ready(client)
    given_up = client.post(order["authorizations"][0], {"status": "deactivated"})
    assert given_up.json["status"] == "deactivated"
    assert client.post(order["url"]).json["status"] == "invalid"
    assert problem(client.finalize(order, csr(key(), NAME))) == "orderNotReady"
    assert client.order(NAME).json["status"] == "pending"
    assert problem(client.post(order["authorizations"][0], {"status": "valid"})) == "malformed"


def test_proofs_can_be_asked_for_each_time(room: Any, make_server: Any) -> None:
    server = make_server(room, authorization_reuse=0)
    client = server.client()
    server.issued(client)
    assert client.order(NAME).json["status"] == "pending"


@pytest.mark.parametrize("member", ["notBefore", "notAfter"])
def test_beginning_and_end_are_not_the_clients_to_choose(client: Any, member: str) -> None:
    assert problem(client.order(NAME, **{member: "2026-12-01T00:00:00Z"})) == "malformed"


def test_the_certificate_comes_with_its_chain(server: Any, client: Any) -> None:
    order, _ = server.issued(client)
    answer = client.post(order["certificate"])
    assert answer.content_type == "application/pem-certificate-chain"
    below = x509.load_pem_x509_certificates(answer.data)
    (link,) = [each for each in answer.headers.getlist("Link") if 'rel="alternate"' in each]
    alternate = client.post(link[1 : link.index(">")])
    whole = x509.load_pem_x509_certificates(alternate.data)
    assert whole[:-1] == below
    assert whole[-1].issuer == whole[-1].subject
    for issued, issuer in pairwise(whole):
        issued.verify_directly_issued_by(issuer)


def test_there_is_no_certificate_before_its_time(server: Any, client: Any) -> None:
    order = server.ready(client)
    url = client.url("certificate", order["url"].rpartition("/")[2])
    assert problem(client.post(url)) == "unauthorized"


def test_a_token_that_is_away_leaves_the_order_ready(server: Any, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    order, request = server.ready(client), csr(key(), NAME)
    with monkeypatch.context() as patched:

        def away(*_arguments: object, **_named: object) -> None:
            raise HsmUnavailable("the token does not answer")

        patched.setattr(type(server.room.parts.issuance), "issue", away)
        answer = client.finalize(order, request)
        assert (answer.status_code, problem(answer), answer.headers["Retry-After"]) == (503, "serverInternal", "30")
    assert client.post(order["url"]).json["status"] == "ready"
    assert client.finalize(order, request).json["status"] == "valid"


def test_an_order_whose_fulfilment_broke_off_is_taken_up_again(
    server: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies after the token signed and before the certificate is entered."""
    order, request = server.ready(client), csr(key(), NAME)
    issuance = server.room.parts.issuance

    class Died(BaseException):
        pass

    def die(*_arguments: object) -> None:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(type(issuance), "_enter", die)
        with pytest.raises(Died):
            client.finalize(order, request)
    # Nobody knows whether that process still lives: the order is held for as long as an issuance may take.
    held = client.post(order["url"])
    assert (held.json["status"], held.headers["Retry-After"]) == ("processing", "2")
    assert client.finalize(order, request).json["status"] == "processing"
    assert problem(client.finalize(order, csr(key(), NAME))) == "orderNotReady"
    server.room.clock.advance(timedelta(seconds=61))
    assert server.room.parts.recovery.settle().withdrawn == 1
    assert client.post(order["url"]).json["status"] == "ready"
    done = client.finalize(order, request)
    assert done.json["status"] == "valid"
    assert len(server.room.parts.register.certificates(profile="tls-server")) == 1


def test_a_process_that_is_alone_takes_up_the_orders_of_the_last_one(server: Any, client: Any) -> None:
    order = server.ready(client)
    taken = server.parts.orders.begin(server.account(client), order["url"].rpartition("/")[2], b"died")
    server.parts.release()
    assert client.finalize(order, csr(key(), NAME)).json["status"] == "valid"
    with server.room.database.transaction() as session, pytest.raises(OrderNotReady):
        server.parts.orders.fulfil(session, taken, "0", account=server.account(client))


def test_an_attempt_that_was_given_up_releases_nothing(server: Any, client: Any) -> None:
    order = server.ready(client)
    account = server.account(client)
    slow = server.parts.orders.begin(account, order["url"].rpartition("/")[2], b"slow")
    server.room.clock.advance(timedelta(seconds=61))
    assert client.finalize(order, csr(key(), NAME)).json["status"] == "valid"
    before = len(server.room.parts.register.certificates())
    issuing = server.parts.issuing
    application = server.room.parts.registration.apply(
        profile="tls-server", csr=csr(key(), NAME), subject={"O": "Example Agency"},
        alternative_names=[("DNS", NAME)], holder="h", evidence="e",
    )  # fmt: skip
    with pytest.raises(Exception, match="taken back"):
        issuing._certify(application, slow, account)
    assert len(server.room.parts.register.certificates()) == before


def test_orders_are_listed_page_by_page(server: Any, client: Any) -> None:
    made, account = [], server.account(client)
    for number in range(102):
        made.append(server.parts.orders.create(account, [Identifier("dns", f"a{number}.agency.example")]).id)
    first = client.post(f"{client.kid}/orders")
    (link,) = [each for each in first.headers.getlist("Link") if 'rel="next"' in each]
    second = client.post(link[1 : link.index(">")])
    listed = [url.rpartition("/")[2] for url in first.json["orders"] + second.json["orders"]]
    assert listed == made[::-1]


def test_too_many_orders_are_put_off(room: Any, make_server: Any) -> None:
    client = make_server(room, orders_per_hour=2).client()
    assert [client.order(NAME).status_code for _ in range(3)] == [201, 201, 429]
    answer = client.order(NAME)
    assert (problem(answer), answer.headers["Retry-After"]) == ("rateLimited", "3600")


def test_the_key_in_a_certificate_is_the_requests(server: Any, client: Any) -> None:
    mine = key()
    _, certificate = server.issued(client, key=mine)
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert certificate.public_key().public_bytes(*form) == mine.public_key().public_bytes(*form)
