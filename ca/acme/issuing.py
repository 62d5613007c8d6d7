"""From a ready order to its certificate, and from a certificate to its revocation (RFC 8555 7.4, 7.6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy.orm import Session

from ca import errors as ca_errors
from ca.acme.accounts import Account, Accounts
from ca.acme.errors import (
    AcmeError,
    AlreadyRevoked,
    BadCSR,
    BadPublicKey,
    BadRevocationReason,
    Malformed,
    RejectedIdentifier,
    ServerInternal,
    TemporarilyUnavailable,
    Unauthorized,
)
from ca.acme.external_keys import ExternalKeys
from ca.acme.identifiers import Entitlement, Identifier, alternative_names, normal_dns
from ca.acme.jws import AccountKey, PublicKey, encode
from ca.acme.orders import Attempt, Order, Orders
from ca.crl import Crls
from ca.hierarchy import Hierarchy
from ca.issuance import Issuance
from ca.register import IssuedCertificate, Reason, Register, State
from ca.registration import Application, Registration
from ca.revocation import REVOCATION_REASONS, Revocation
from core.errors import CodedError
from core.logs import get_logger

log = get_logger("ca.acme.issuing")

MAX_CERTIFICATE_OCTETS = 16_384


class Issuing:
    """Fulfils orders and revokes what was ordered."""

    def __init__(
        self,
        *,
        accounts: Accounts,
        external_keys: ExternalKeys,
        orders: Orders,
        registration: Registration,
        issuance: Issuance,
        hierarchy: Hierarchy,
        register: Register,
        revocation: Revocation,
        crls: Crls,
    ) -> None:
        self._accounts = accounts
        self._external_keys = external_keys
        self._orders = orders
        self._registration = registration
        self._issuance = issuance
        self._hierarchy = hierarchy
        self._register = register
        self._revocation = revocation
        self._crls = crls

    def finalise(self, account: Account, order_id: str, csr: bytes) -> Order:
        """The order with its certificate. Raises BadCSR and others; the order stays ready where another request may
        succeed, and is given up where none can."""
        order = self._orders.get(account, order_id)
        entitlement = self._external_keys.entitlement(account.external_key_id)
        application = self._application(account, order, entitlement, csr)
        taken = self._orders.begin(account, order_id, csr)
        if isinstance(taken, Order):
            return taken
        try:
            self._certify(application, taken, account)
        except tuple(kind for kind, _ in _WORDS) as refusal:
            error = _refused(refusal)
            self._orders.fail(taken, error, account=account)
            raise error from refusal
        except CodedError as failure:
            # Nothing the client did: the token is away, the authority's time is over, another process was faster.
            self._orders.give_back(taken)
            log.warning("acme_issuance_failed", code=failure.code, order=order_id)
            raise _failed(failure) from failure
        except Exception:
            self._orders.give_back(taken)
            raise
        return self._orders.get(account, order_id)

    def chain(self, account: Account, order_id: str) -> tuple[IssuedCertificate, tuple[bytes, ...]]:
        """An order's certificate and the authorities above it, root last, as DER. Raises Unauthorized."""
        order = self._orders.get(account, order_id)
        if order.certificate_id is None:
            raise Unauthorized("this order has no certificate")
        certificate = self._register.get(order.certificate_id)
        return certificate, self._hierarchy.served_chain(certificate.issuer)

    def revoke(self, certificate: bytes, reason: object, *, account: Account | None, key: AccountKey | None) -> None:
        """Revoke what was ordered here, asked for by an account or with the certificate's own key.

        Raises Unauthorized, AlreadyRevoked, BadRevocationReason, Malformed.
        """
        found = self._ordered(certificate)
        wanted = _reason(reason)
        asker = self._entitled(found, account, key)
        if found.status.state is State.REVOKED:
            raise AlreadyRevoked("the certificate is revoked already")
        try:
            self._revocation.revoke(found.id, actor=asker, reason=wanted)
        except ca_errors.AlreadyRevoked as error:
            raise AlreadyRevoked("the certificate was revoked meanwhile") from error
        self._publish(found.issuer, asker)

    # Finalisation --------------------------------------------------------------------------------------------------

    def _application(self, account: Account, order: Order, entitlement: Entitlement, csr: bytes) -> Application:
        request = _request(csr)
        check_names(request, order.identifiers)
        self._refuse_account_key(request)
        # What was allowed when the order was made may be allowed no longer.
        lost = [each.value for each in order.identifiers if not entitlement.allows(each)]
        if lost:
            raise RejectedIdentifier(f"the external account key no longer allows {lost[0]}")
        try:
            return self._registration.apply(
                profile=entitlement.profile,
                csr=csr,
                subject=_subject(entitlement, order),
                alternative_names=_names(entitlement, order),
                holder=entitlement.holder,
                evidence=f"acme:{account.id}/{order.id}",
            )
        except ca_errors.RefusedByPolicy as refusal:
            raise _refused(refusal) from refusal

    def _refuse_account_key(self, request: x509.CertificateSigningRequest) -> None:
        """RFC 8555 11.1: a certificate's key is no account's key."""
        key = request.public_key()
        if isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey):
            known = as_account_key(key)
            if known is not None and self._accounts.knows_key(known):
                raise BadCSR("the request's key is the key of an account; make another one")

    def _certify(self, application: Application, attempt: Attempt, account: Account) -> None:
        def enter(session: Session, certificate: IssuedCertificate) -> None:
            self._orders.fulfil(session, attempt, certificate.id, account=account)

        intent = self._issuance.prepare(application, actor=account.actor)
        self._issuance.issue(intent, actor=account.actor, entering=enter)

    # Revocation ----------------------------------------------------------------------------------------------------

    def _ordered(self, der: bytes) -> IssuedCertificate:
        if not der or len(der) > MAX_CERTIFICATE_OCTETS:
            raise Malformed("certificate is not a certificate")
        try:
            found = self._register.by_der(der)
        except ca_errors.CertificateNotFound as error:
            raise Malformed("this certificate was not issued here") from error
        if self._orders.by_certificate(found.id) is None:
            raise Unauthorized("this certificate was not ordered by a machine")
        return found

    def _entitled(self, found: IssuedCertificate, account: Account | None, key: AccountKey | None) -> str:
        """Who asks, for the audit log: the account that ordered it, one that controls all its names, or its key."""
        if account is not None:
            order = self._orders.by_certificate(found.id)
            if order is not None:
                owns = order.account_id == account.id
                if owns or self._orders.controls(account, order.identifiers):
                    return account.actor
        elif key is not None:
            spki = found.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            if key.spki == spki:
                return f"acme-certificate-key:{key.thumbprint}"
        raise Unauthorized("this certificate is not yours to revoke")

    def _publish(self, issuer: str, actor: str) -> None:
        """What is revoked stays revoked: a CRL that cannot be published now is published by its timer."""
        try:
            self._crls.publish(issuer, actor=actor, attempts=3)
        except CodedError as error:
            log.warning("crl_not_published", issuer=issuer, code=error.code)


def check_names(request: x509.CertificateSigningRequest, identifiers: tuple[Identifier, ...]) -> None:
    """RFC 8555 7.4: the request names exactly the order's identifiers, in its subject's CN or as alternative names.

    Raises BadCSR naming what is too many or missing.
    """
    try:
        asked = _requested(request)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadCSR("the request's names cannot be read") from error
    wanted = {(each.type, each.value) for each in identifiers}
    for what, names in (("not ordered", asked - wanted), ("missing", wanted - asked)):
        if names:
            raise BadCSR(f"the request must name exactly the order's identifiers: {sorted(names)[0][1]!r} is {what}")


def as_account_key(key: PublicKey) -> AccountKey | None:
    """A public key as it would be an account's, None when its kind cannot be."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return AccountKey({"crv": "Ed25519", "kty": "OKP", "x": encode(raw)}, "EdDSA", key)
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        e, n = (encode(number.to_bytes((number.bit_length() + 7) // 8, "big")) for number in (numbers.e, numbers.n))
        return AccountKey({"e": e, "kty": "RSA", "n": n}, "RS256", key)
    name = {"secp256r1": "P-256", "secp384r1": "P-384"}.get(key.curve.name)
    if name is None:
        return None
    size, point = key.key_size // 8, key.public_numbers()
    x, y = (encode(number.to_bytes(size, "big")) for number in (point.x, point.y))
    return AccountKey({"crv": name, "kty": "EC", "x": x, "y": y}, "ES256" if name == "P-256" else "ES384", key)


def _request(csr: bytes) -> x509.CertificateSigningRequest:
    try:
        return x509.load_der_x509_csr(csr)  # RFC 8555 7.4: DER, no PEM
    except ValueError as error:
        raise BadCSR("csr is no PKCS #10 certification request in DER") from error


def _requested(request: x509.CertificateSigningRequest) -> set[tuple[str, str]]:
    found = set()
    for attribute in request.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME):
        found.add(_named(str(attribute.value)))
    try:
        extension = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return found
    for name in extension.value:
        if isinstance(name, x509.IPAddress):
            found.add(("ip", str(name.value)))
        elif isinstance(name, x509.DNSName):
            found.add(("dns", name.value.lower()))
        else:
            found.add((type(name).__name__, "a name of another kind"))
    return found


def _named(text: str) -> tuple[str, str]:
    """A common name, which may be an address."""
    try:
        normal_dns(text.removeprefix("*."))
    except ValueError:
        return "ip", text
    return "dns", text.lower()


def _subject(entitlement: Entitlement, order: Order) -> Mapping[str, str]:
    subject = {"O": entitlement.organisation}
    if entitlement.profile == "tls-client":
        subject["organizationIdentifier"] = entitlement.organisation_identifier or ""
        subject["CN"] = order.identifiers[0].value
    return subject


def _names(entitlement: Entitlement, order: Order) -> list[tuple[str, str]]:
    names = alternative_names(order.identifiers)
    return [("URI", entitlement.client_id or ""), *names] if entitlement.profile == "tls-client" else names


def _reason(given: object) -> Reason | None:
    if given is None or given == 0:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or given not in {int(each) for each in REVOCATION_REASONS}:
        numbers = sorted(int(each) for each in REVOCATION_REASONS)
        raise BadRevocationReason(f"the reason is one of 0, {', '.join(map(str, numbers))}")
    return Reason(given)


_WORDS: tuple[tuple[type[CodedError], Callable[[str], AcmeError]], ...] = (
    (ca_errors.CsrMalformed, BadCSR),
    (ca_errors.ProofOfPossessionFailed, BadCSR),
    (ca_errors.KeyNotAccepted, BadPublicKey),
    (ca_errors.SubjectRefused, RejectedIdentifier),
    (ca_errors.LintRefused, RejectedIdentifier),
    (ca_errors.ValidityRefused, Malformed),
)


def _refused(refusal: CodedError) -> AcmeError:
    """A rule's refusal in ACME's words."""
    for kind, word in _WORDS:
        if isinstance(refusal, kind):
            return word(refusal.detail)
    return ServerInternal("this authority issues nothing of this kind at present")


def _failed(failure: CodedError) -> AcmeError:
    if isinstance(failure, AcmeError):
        return failure
    return TemporarilyUnavailable("the certificate could not be issued now; try again", headers={"Retry-After": "30"})
