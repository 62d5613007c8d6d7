"""ACME over HTTP (RFC 8555 7): each resource is a signed POST, checked the same way before anything is looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from flask import Blueprint, Response, jsonify, request

from ca.acme import jws
from ca.acme.accounts import DEACTIVATED, Account, read_contact
from ca.acme.errors import (
    AccountDoesNotExist,
    ExternalAccountRequired,
    KeyInUse,
    Malformed,
    RateLimited,
    Unauthorized,
    UserActionRequired,
    WrongMediaType,
)
from ca.acme.identifiers import Identifier, read_identifiers
from ca.acme.jws import AccountKey, Unverified
from ca.acme.orders import PENDING, PROCESSING, VALID, Authorization, Challenge, Order
from ca.acme.parts import Parts
from ca.acme.problems import in_acmes_words, problem
from ca.acme.resource_id import is_resource_id
from core.errors import CodedError

ROOT = "/acme"
PEM_CHAIN = "application/pem-certificate-chain"
HOUR_SECONDS = 3600
# How long a client waits before it asks again; the pauses between our own looks are longer.
RETRY_SECONDS = 2
_CERTIFICATE_ID = re.compile(r"[A-Za-z0-9_.-]{3,120}")


@dataclass(frozen=True)
class Signed:
    """A request whose signature, nonce and address were checked."""

    payload: bytes = field(repr=False)
    key: AccountKey
    account: Account | None

    def object(self) -> dict[str, Any]:
        """The payload as a JSON object. Raises Malformed."""
        return jws.read_object(self.payload, "the payload")

    def nothing(self) -> None:
        """A resource is read with an empty payload (RFC 8555 6.3). Raises Malformed."""
        if self.payload:
            raise Malformed("a resource is read with an empty payload")


def blueprint(parts: Parts, *, base_url: str) -> Blueprint:
    """Everything below ``/acme``. ``base_url`` is the public origin, without a slash at its end."""
    return Endpoints(parts, base_url).blueprint()


class Endpoints:
    """The resources of RFC 8555 7.1 and RFC 9773."""

    def __init__(self, parts: Parts, base_url: str) -> None:
        self._parts = parts
        self._base = base_url + ROOT

    def blueprint(self) -> Blueprint:
        doors = Blueprint("acme", __name__, url_prefix=ROOT)
        doors.add_url_rule("/directory", "directory", self.directory)
        doors.add_url_rule("/new-nonce", "new_nonce", self.new_nonce)
        doors.add_url_rule("/renewal-information/<certificate>", "renewal", self.renewal_information)
        for path, act in (
            ("/new-account", self.new_account),
            ("/account/<identifier>", self.account),
            ("/account/<identifier>/orders", self.orders),
            ("/key-change", self.key_change),
            ("/new-order", self.new_order),
            ("/order/<identifier>", self.order),
            ("/order/<identifier>/finalize", self.finalize),
            ("/authorization/<identifier>", self.authorization),
            ("/challenge/<identifier>", self.challenge),
            ("/certificate/<identifier>", self.certificate),
            ("/certificate/<identifier>/with-root", self.certificate_with_root),
            ("/revoke-certificate", self.revoke_certificate),
        ):
            doors.add_url_rule(path, act.__name__, act, methods=["POST"])
        doors.register_error_handler(CodedError, lambda error: problem(in_acmes_words(error)))
        doors.after_request(self._complete)
        return doors

    # Without a signature -------------------------------------------------------------------------------------------

    def directory(self) -> Response:
        """RFC 8555 7.1.1."""
        settings = self._parts.settings
        meta: dict[str, Any] = {"externalAccountRequired": True}
        if settings.terms_url:
            meta["termsOfService"] = settings.terms_url
        if settings.website:
            meta["website"] = settings.website
        if settings.caa_identities:
            meta["caaIdentities"] = list(settings.caa_identities)
        return jsonify(
            newNonce=self._url("new-nonce"),
            newAccount=self._url("new-account"),
            newOrder=self._url("new-order"),
            revokeCert=self._url("revoke-certificate"),
            keyChange=self._url("key-change"),
            renewalInfo=self._url("renewal-information"),
            meta=meta,
        )

    def new_nonce(self) -> Response:
        """RFC 8555 7.2: the nonce is in the header, as everywhere."""
        return Response(status=200 if request.method == "HEAD" else 204)

    def renewal_information(self, certificate: str) -> Response:
        """RFC 9773 4: when to replace a certificate; asked without a signature."""
        if not _CERTIFICATE_ID.fullmatch(certificate):
            raise Malformed("a certificate's identifier is two parts of base64url with a dot between")
        window = self._parts.renewal_information.window(certificate)
        document: dict[str, Any] = {"suggestedWindow": {"start": _stamp(window.start), "end": _stamp(window.end)}}
        if window.explanation_url:
            document["explanationURL"] = window.explanation_url
        response = jsonify(document)
        response.headers["Retry-After"] = str(int(window.retry_after.total_seconds()))
        return response

    # Accounts ------------------------------------------------------------------------------------------------------

    def new_account(self) -> Response:
        """RFC 8555 7.3."""
        signed = self._signed_by_key()
        payload = signed.object()
        there = self._parts.accounts.by_key(signed.key)
        if there is not None:
            return self._account(there, 200)  # RFC 8555 7.3.1
        if _flag(payload, "onlyReturnExisting"):
            raise AccountDoesNotExist("no account has this key")
        terms_agreed = _flag(payload, "termsOfServiceAgreed")
        terms_url = self._parts.settings.terms_url
        if terms_url and not terms_agreed:
            raise UserActionRequired("the terms of service must be agreed to", instance=terms_url)
        contact = read_contact(payload)
        external_key_id = self._bound(payload.get("externalAccountBinding"), signed.key)
        account, new = self._parts.accounts.create(
            signed.key, external_key_id=external_key_id, contact=contact, terms_agreed=terms_agreed
        )
        return self._account(account, 201 if new else 200)

    def account(self, identifier: str) -> Response:
        """RFC 8555 7.3.2, 7.3.6: read, change the contacts, deactivate."""
        account, signed = self._signed_by_account()
        if _resource(identifier) != account.id:
            raise Unauthorized("this is another account")
        payload = signed.object() if signed.payload else {}
        if "status" in payload:
            if payload["status"] != DEACTIVATED:
                raise Malformed("an account's status can be changed to deactivated only")
            return self._account(self._parts.accounts.deactivate(account), 200)
        if "contact" in payload:
            account = self._parts.accounts.update(account, contact=read_contact(payload))
        return self._account(account, 200)

    def orders(self, identifier: str) -> Response:
        """RFC 8555 7.1.2.1."""
        account, signed = self._signed_by_account()
        signed.nothing()
        if _resource(identifier) != account.id:
            raise Unauthorized("these are another account's orders")
        cursor = request.args.get("cursor")
        found, following = self._parts.orders.of(account, after=_resource(cursor) if cursor else None)
        response = jsonify(orders=[self._url("order", each) for each in found])
        if following:
            page = f"{self._url('account', account.id, 'orders')}?cursor={following}"
            response.headers.add("Link", f'<{page}>;rel="next"')
        return response

    def key_change(self) -> Response:
        """RFC 8555 7.3.5: the old key says so outside, the new one inside."""
        account, signed = self._signed_by_account()
        inner = jws.message_of(signed.object())
        new = self._new_key(inner)
        payload = jws.read_object(inner.verify(new), "the inner payload")
        if payload.get("account") != self._url("account", account.id):
            raise Malformed("the inner payload names another account")
        if jws.read_key(payload.get("oldKey")).thumbprint != account.thumbprint:
            raise Malformed("oldKey is not the account's key")
        try:
            return self._account(self._parts.accounts.change_key(account, new), 200)
        except KeyInUse as error:
            other = error.facts.pop("account", None)
            if other is not None:
                error.headers["Location"] = self._url("account", str(other))
            raise

    # Orders --------------------------------------------------------------------------------------------------------

    def new_order(self) -> Response:
        """RFC 8555 7.4; ``replaces`` is of RFC 9773 5."""
        account, signed = self._signed_by_account()
        payload = signed.object()
        entitlement = self._parts.external_keys.entitlement(account.external_key_id)
        identifiers = read_identifiers(payload.get("identifiers"), entitlement)
        if payload.get("notBefore") is not None or payload.get("notAfter") is not None:
            # RFC 8555 7.4: what cannot be given exactly as asked for is refused.
            raise Malformed("the profile decides when a certificate begins and ends; leave notBefore and notAfter out")
        replaces = self._replaced(account, payload.get("replaces"), identifiers)
        settings = self._parts.settings
        if self._parts.one_time.count("acme-orders", account.id, ttl=HOUR_SECONDS) > settings.orders_per_hour:
            raise RateLimited(
                f"an account makes at most {settings.orders_per_hour} orders an hour",
                headers={"Retry-After": str(HOUR_SECONDS)},
            )
        order = self._parts.orders.create(account, identifiers, replaces=replaces)
        return self._order(order, 201)

    def order(self, identifier: str) -> Response:
        """RFC 8555 7.4: an order as it stands."""
        account, signed = self._signed_by_account()
        signed.nothing()
        order = self._parts.orders.get(account, _resource(identifier))
        if order.status == PENDING:
            self._parts.worker.wake()
        return self._order(order, 200)

    def finalize(self, identifier: str) -> Response:
        """RFC 8555 7.4: the request names exactly what was ordered; the answer has the certificate's address."""
        account, signed = self._signed_by_account()
        csr = jws.decode(signed.object().get("csr"), "csr")
        return self._order(self._parts.issuing.finalise(account, _resource(identifier), csr), 200)

    def certificate(self, identifier: str) -> Response:
        """RFC 8555 7.4.2: the certificate and what lies between it and the root."""
        response = self._chain(identifier, with_root=False)
        response.headers.add("Link", f'<{self._url("certificate", identifier, "with-root")}>;rel="alternate"')
        return response

    def certificate_with_root(self, identifier: str) -> Response:
        """The same with the root at the end, for clients that keep a private root beside the certificate."""
        response = self._chain(identifier, with_root=True)
        response.headers.add("Link", f'<{self._url("certificate", identifier)}>;rel="alternate"')
        return response

    def authorization(self, identifier: str) -> Response:
        """RFC 8555 7.5, 7.5.2: read or give up."""
        account, signed = self._signed_by_account()
        orders = self._parts.orders
        payload = signed.object() if signed.payload else {}
        if payload:
            if payload.get("status") != DEACTIVATED:
                raise Malformed("an authorization's status can be changed to deactivated only")
            return self._authorization(orders.deactivate(account, _resource(identifier)))
        found = orders.authorization(account, _resource(identifier))
        if any(challenge.status == PROCESSING for challenge in found.challenges):
            self._parts.worker.wake()
        return self._authorization(found)

    def challenge(self, identifier: str) -> Response:
        """RFC 8555 7.5.1: an empty object says that the client is ready, nothing at all reads."""
        account, signed = self._signed_by_account()
        challenges = self._parts.challenges
        if signed.payload:
            signed.object()
            found = challenges.answer(account, _resource(identifier))
        else:
            found = challenges.get(account, _resource(identifier))
        if found.status == PROCESSING:
            self._parts.worker.wake()
        response = jsonify(self._challenge(found))
        response.headers.add("Link", f'<{self._url("authorization", found.authorization_id)}>;rel="up"')
        if found.status == PROCESSING:
            response.headers["Retry-After"] = str(RETRY_SECONDS)
        return response

    def revoke_certificate(self) -> Response:
        """RFC 8555 7.6: signed by an account, or by the certificate's own key."""
        message = self._message()
        if "jwk" in message.header:
            signed = self._verified(message, jws.read_key(message.header["jwk"]), None)
        else:
            account = self._account_of(message)
            signed = self._verified(message, account.key, account)
        payload = signed.object()
        certificate = jws.decode(payload.get("certificate"), "certificate")
        key = signed.key if signed.account is None else None
        self._parts.issuing.revoke(certificate, payload.get("reason"), account=signed.account, key=key)
        return Response(status=200)

    # Signed requests -----------------------------------------------------------------------------------------------

    def _signed_by_account(self) -> tuple[Account, Signed]:
        message = self._message()
        account = self._account_of(message)
        return account, self._verified(message, account.key, account)

    def _signed_by_key(self) -> Signed:
        message = self._message()
        if "jwk" not in message.header:
            raise Malformed("this request is signed by a key that it shows as jwk")
        return self._verified(message, jws.read_key(message.header["jwk"]), None)

    def _message(self) -> Unverified:
        """The request, as far as it can be judged without a key (RFC 8555 6.2, 6.4, 6.5)."""
        if request.mimetype != jws.CONTENT_TYPE:
            raise WrongMediaType(f"requests are {jws.CONTENT_TYPE}")
        message = jws.read_message(request.get_data(cache=False))
        message.check_algorithm()
        if ("jwk" in message.header) == ("kid" in message.header):
            raise Malformed("the protected header has either jwk or kid")
        query = f"?{request.query_string.decode('ascii', 'replace')}" if request.query_string else ""
        if message.url != f"{self._base}{request.path.removeprefix(ROOT)}{query}":
            raise Unauthorized("the protected header names another url")
        self._parts.nonces.check(message.header.get("nonce"))
        return message

    def _verified(self, message: Unverified, key: AccountKey, account: Account | None) -> Signed:
        payload = message.verify(key)
        # Only now: who cannot sign uses up no nonce, and fills no memory of used ones.
        self._parts.nonces.use(str(message.header["nonce"]))
        return Signed(payload, key, account)

    def _account_of(self, message: Unverified) -> Account:
        prefix, kid = self._url("account", ""), message.header.get("kid")
        if not isinstance(kid, str) or not kid.startswith(prefix):
            raise AccountDoesNotExist("kid is the address of an account of this server")
        identifier = kid.removeprefix(prefix)
        if not is_resource_id(identifier):
            raise AccountDoesNotExist("there is no such account")
        return self._parts.accounts.by_id(identifier)

    def _bound(self, binding: object, key: AccountKey) -> str:
        """RFC 8555 7.3.4: the external key's id, if the binding is its word about this very account key."""
        if binding is None:
            raise ExternalAccountRequired("an account needs an external account key of this authority")
        message = jws.message_of(binding)
        identifier = message.header.get("kid")
        if message.url != self._url("new-account") or "nonce" in message.header or not isinstance(identifier, str):
            raise Malformed("the binding's protected header has alg, kid and the url of newAccount, and no nonce")
        if not is_resource_id(identifier):
            raise Unauthorized("the external account key is unknown, used, expired or revoked")
        payload = message.verify_mac(self._parts.external_keys.mac_key(identifier))
        if jws.read_key(jws.read_object(payload, "the binding's payload")).thumbprint != key.thumbprint:
            raise Unauthorized("the binding is for another account key")
        return identifier

    def _new_key(self, inner: Unverified) -> AccountKey:
        inner.check_algorithm()
        if "kid" in inner.header or "nonce" in inner.header or "jwk" not in inner.header:
            raise Malformed("the inner protected header has jwk and url, neither kid nor nonce")
        if inner.url != self._url("key-change"):
            raise Malformed("both headers name the same url")
        return jws.read_key(inner.header["jwk"])

    def _replaced(self, account: Account, given: object, identifiers: tuple[Identifier, ...]) -> str | None:
        """RFC 9773 5: a certificate of this account that shares a name with the new order."""
        if given is None:
            return None
        if not isinstance(given, str) or not _CERTIFICATE_ID.fullmatch(given):
            raise Malformed("replaces is the identifier of a certificate")
        certificate = self._parts.renewal_information.certificate(given)
        order = self._parts.orders.by_certificate(certificate.id)
        if order is None or order.account_id != account.id:
            raise Unauthorized("the certificate to be replaced is not of this account")
        if not set(order.identifiers) & set(identifiers):
            raise Malformed("the order names nothing that stands in the certificate to be replaced")
        return given

    # Objects -------------------------------------------------------------------------------------------------------

    def _account(self, account: Account, status: int) -> Response:
        response = jsonify(
            status=account.status,
            contact=list(account.contact),
            termsOfServiceAgreed=account.terms_agreed_at is not None,
            orders=self._url("account", account.id, "orders"),
        )
        response.status_code = status
        response.headers["Location"] = self._url("account", account.id)
        return response

    def _order(self, order: Order, status: int) -> Response:
        document: dict[str, Any] = {
            "status": order.status,
            "expires": _stamp(order.expires_at),
            "identifiers": [each.document() for each in order.identifiers],
            "authorizations": [self._url("authorization", each) for each in order.authorization_ids],
            "finalize": self._url("order", order.id, "finalize"),
        }
        if order.replaces is not None:
            document["replaces"] = order.replaces
        if order.error is not None:
            document["error"] = order.error
        if order.status == VALID:
            document["certificate"] = self._url("certificate", order.id)
        response = jsonify(document)
        response.status_code = status
        response.headers["Location"] = self._url("order", order.id)
        if order.status == PROCESSING:
            response.headers["Retry-After"] = str(RETRY_SECONDS)
        return response

    def _authorization(self, found: Authorization) -> Response:
        document: dict[str, Any] = {
            "status": found.status,
            "expires": _stamp(found.expires_at),
            "identifier": found.identifier.document(),
            "challenges": [self._challenge(each) for each in self._shown(found)],
        }
        if found.wildcard:
            document["wildcard"] = True
        response = jsonify(document)
        if found.status == PENDING:
            response.headers["Retry-After"] = str(RETRY_SECONDS)
        return response

    @staticmethod
    def _shown(found: Authorization) -> list[Challenge]:
        """RFC 8555 7.1.4: once it is settled, only the challenge that settled it."""
        settled = [each for each in found.challenges if each.status not in (PENDING, PROCESSING)]
        return settled if settled and found.status != PENDING else list(found.challenges)

    def _challenge(self, challenge: Challenge) -> dict[str, Any]:
        document: dict[str, Any] = {
            "type": challenge.type,
            "url": self._url("challenge", challenge.id),
            "status": challenge.status,
            "token": challenge.token,
        }
        if challenge.validated_at is not None:
            document["validated"] = _stamp(challenge.validated_at)
        if challenge.error is not None:
            document["error"] = challenge.error
        return document

    def _chain(self, identifier: str, *, with_root: bool) -> Response:
        account, signed = self._signed_by_account()
        signed.nothing()
        leaf, authorities = self._parts.issuing.chain(account, _resource(identifier))
        shown = authorities if with_root else authorities[:-1]
        return Response(b"".join(map(_pem, (leaf.der, *shown))), content_type=PEM_CHAIN)

    def _complete(self, response: Response) -> Response:
        response.headers["Replay-Nonce"] = self._parts.nonces.fresh()
        response.headers.setdefault("Cache-Control", "no-store")  # RFC 8555 7.2
        if request.endpoint != "acme.directory":
            response.headers.add("Link", f'<{self._url("directory")}>;rel="index"')  # RFC 8555 7.1
        return response

    def _url(self, *parts: str) -> str:
        return "/".join((self._base, *parts))


def _resource(identifier: str) -> str:
    if not is_resource_id(identifier):
        raise Unauthorized("there is nothing of this account at this address")
    return identifier


def _flag(payload: Mapping[str, Any], name: str) -> bool:
    value = payload.get(name, False)
    if not isinstance(value, bool):
        raise Malformed(f"{name} is true or false")
    return value


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
