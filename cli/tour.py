"""The tour: a citizen logs in to a bank and signs its document, and strangers can prove it; through HTTP only."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID

from cli.seeds import DemoPerson
from cli.visitor import Page, Visitor
from core.errors import CodedError

POLL_SECONDS = 60
TOTP_STEP_SECONDS = 30  # RFC 6238 5.2
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class StepFailed(CodedError):
    """A step of the tour did not come out as promised."""

    code = "step_failed"
    exit_code = 1


@dataclass(frozen=True)
class Bank:
    """The relying party of the tour, with the key that only it holds."""

    client_id: str
    redirect_uri: str
    key: EllipticCurvePrivateKey
    key_id: str


@dataclass
class Step:
    """One step: its name, whether it held, how long it took, and what came back in words."""

    name: str
    ok: bool = False
    ms: int = 0
    said: str = ""


@dataclass
class Story:
    """What the steps learn on the way."""

    tokens: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    request: dict[str, Any] = field(default_factory=dict)
    signed: bytes = b""
    serial: str = ""
    certificate: x509.Certificate | None = None
    issuer: x509.Certificate | None = None


def _check(holds: object, otherwise: str) -> None:
    if not holds:
        raise StepFailed(otherwise)


class Tour:
    """Walks the steps in order against a running instance.

    The citizen uses pages, the bank uses the public protocol with libraries of its own, the administrator types
    ``tamga``. Nothing here reaches into the service.
    """

    def __init__(
        self, *, base_url: str, configuration: Path, bank: Bank, person: DemoPerson, pdf: bytes, folder: Path
    ) -> None:
        self._url = base_url
        self._configuration = configuration
        self._bank = bank
        self._person = person
        self._pdf = pdf
        self._folder = folder
        self._http = urllib3.PoolManager(timeout=90.0, retries=False)
        self._citizen = Visitor(base_url, language="mn")
        self._story = Story()
        self._metadata: dict[str, Any] = {}

    @property
    def signed_pdf(self) -> Path:
        """Where the signed document lies."""
        return self._folder / "signed.pdf"

    def steps(self) -> list[tuple[str, Callable[[], str]]]:
        """The steps by name, in order; each returns what to tell and raises when a promise is broken."""
        return [
            ("bank starts login", self._start_login),
            ("citizen logs in and consents", self._log_in),
            ("ID token checked by an independent library", self._check_id_token),
            ("citizen's signing certificate issued", self._make_credential),
            ("bank sends a document", self._send_document),
            ("citizen reviews and signs", self._review_and_sign),
            ("bank downloads the signed document", self._download),
            ("verification says TOTAL-PASSED", self._verify_passed),
            ("certificate revoked by the administrator", self._revoke),
            ("OCSP says revoked", self._ocsp_revoked),
            ("a new signature is refused", self._refused),
            ("the old document still verifies", self._verify_passed),
            ("audit log verified", self._audit),
        ]

    def run(self, tell: Callable[[Step], None]) -> list[Step]:
        """Walk until the end or the first step that fails."""
        walked = []
        for name, act in self.steps():
            step, begun = Step(name), time.monotonic()
            try:
                step.said = act()
                step.ok = True
            except CodedError as error:
                step.said = error.detail
            except (KeyError, ValueError, OSError, jwt.PyJWTError, urllib3.exceptions.HTTPError) as error:
                step.said = f"{type(error).__name__}: {error}"
            step.ms = round((time.monotonic() - begun) * 1000)
            walked.append(step)
            tell(step)
            if not step.ok:
                break
        return walked

    # -- login -----------------------------------------------------------------------------------------------------

    def _start_login(self) -> str:
        self._metadata = self._json("GET", self._url + "/.well-known/openid-configuration")
        _check(self._metadata["issuer"] == self._url, "the discovery document names another issuer")
        self._verifier = secrets.token_urlsafe(48)
        self._state, self._nonce = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self._verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self._bank.client_id,
            "redirect_uri": self._bank.redirect_uri,
            "scope": "openid profile",
            "state": self._state,
            "nonce": self._nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "acr_values": "urn:tamga:loa:substantial",
            "ui_locales": "mn",
            "prompt": "login consent",
        }
        self._page = self._citizen.get(self._metadata["authorization_endpoint"] + "?" + urlencode(query))
        _check(self._page.has("login-submit"), f"no login page came back ({self._page.status})")
        return f"the browser shows the login page at {urlsplit(self._page.url).path}"

    def _log_in(self) -> str:
        page = self._authenticate(self._page)
        if page.has("consent-allow"):
            page = self._citizen.submit(page, "consent-allow")
        _check(page.url.startswith(self._bank.redirect_uri), f"the browser did not return to the bank: {_where(page)}")
        answer = {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}
        _check("code" in answer, f"the bank received an error: {answer.get('error')}")
        _check(answer.get("state") == self._state, "state came back changed")
        _check(answer.get("iss") == self._url, "iss is missing or wrong (RFC 9207)")
        self._code = answer["code"]
        return f"{self._person.username} is back at the bank with a code"

    def _authenticate(self, page: Page) -> Page:
        page = self._citizen.submit(
            page, "login-submit", {"username": self._person.username, "password": self._person.password}
        )
        for attempt in range(2):
            if page.has("otp-submit"):
                if attempt:  # each code counts once, and an earlier tour may have used this half minute's
                    time.sleep(TOTP_STEP_SECONDS - time.time() % TOTP_STEP_SECONDS + 0.2)
                page = self._citizen.submit(page, "otp-submit", {"otp": self._person.one_time_password()})
        return page

    def _check_id_token(self) -> str:
        form = {
            "grant_type": "authorization_code",
            "code": self._code,
            "redirect_uri": self._bank.redirect_uri,
            "code_verifier": self._verifier,
            "client_assertion_type": ASSERTION,
            "client_assertion": self._assertion(),
        }
        self._story.tokens = self._json("POST", self._metadata["token_endpoint"], form=form)
        keys = jwt.PyJWKSet.from_dict(self._json("GET", self._metadata["jwks_uri"]))
        token = self._story.tokens["id_token"]
        key = keys[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(token, key, algorithms=["ES256"], audience=self._bank.client_id, issuer=self._url)
        _check(claims["nonce"] == self._nonce, "the nonce is not ours")
        self._story.claims = claims
        bearer = {"Authorization": f"Bearer {self._story.tokens['access_token']}"}
        userinfo = self._json("GET", self._metadata["userinfo_endpoint"], headers=bearer)
        _check(userinfo["sub"] == claims["sub"], "userinfo speaks of somebody else")
        return f"sub {claims['sub'][:12]}…, acr {claims['acr']}, amr {' '.join(claims['amr'])}"

    # -- signing ---------------------------------------------------------------------------------------------------

    def _make_credential(self) -> str:
        page = self._citizen.get("/me/credentials")
        if page.has("login-submit"):
            page = self._authenticate(page)
        if page.has("credential-create"):
            pin = self._person.signing_pin
            page = self._citizen.submit(
                page, "credential-create", {"credential-pin": pin, "credential-pin-repeat": pin}
            )
        _check(page.status == 200, f"the page of credentials answered {page.status}")
        listed = self._tamga("cert", "list", "--profile", "citizen-signature", "--state", "good")
        mine = [row for row in listed if row["holder"] == self._person.person_id]
        _check(mine, "no valid signing certificate is in the register")
        self._story.serial = mine[-1]["serial"]
        self._load_certificate()
        return f"certificate {self._story.serial} is in the register"

    def _load_certificate(self) -> None:
        shown = self._tamga("cert", "show", self._story.serial)
        certificate = x509.load_pem_x509_certificate(shown["certificate"].encode())
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
        issuers = [d for d in access if d.access_method == AuthorityInformationAccessOID.CA_ISSUERS]
        answer = self._send("GET", issuers[0].access_location.value)
        self._story.certificate = certificate
        self._story.issuer = x509.load_der_x509_certificate(answer.data)

    def _send_document(self) -> str:
        created = self._request_signature("Зээлийн гэрээ")
        self._story.request = created
        return f"request {created['id']} is {created['state']}"

    def _request_signature(self, title: str) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": self._bank.client_id,
            "aud": self._url,
            "iat": now,
            "exp": now + 60,
            "jti": secrets.token_urlsafe(16),
            "body_sha256": hashlib.sha256(self._pdf).hexdigest(),
            "title": title,
            "level": "B-LT",
            "language": "mn",
            "signers": [{"sub": self._story.claims["sub"], "placements": [{"page": 1, "x": 36, "y": 36}]}],
        }
        headers = {
            "Authorization": "Bearer " + self._sign_jwt(claims, "sign-request+jwt"),
            "Content-Type": "application/pdf",
            "Idempotency-Key": secrets.token_hex(16),
        }
        answer = self._send("POST", self._url + "/api/v1/sign-requests", body=self._pdf, headers=headers)
        _check(answer.status == 201, f"the sign request was answered {answer.status}: {_brief(answer.data)}")
        return dict(answer.json())

    def _review_and_sign(self) -> str:
        page = self._open(self._story.request)
        page, seen = self._step_through(page)
        page = self._citizen.submit(page, "sign-confirm", {"pin": self._person.signing_pin})
        _check(page.status == 200, f"signing was answered {page.status}: {_where(page)}")
        return f"{seen} pages seen, PIN given"

    def _open(self, request: Mapping[str, Any]) -> Page:
        page = self._citizen.get(request["signers"][0]["signing_url"])
        return self._authenticate(page) if page.has("login-submit") else page

    def _step_through(self, page: Page) -> tuple[Page, int]:
        seen = 0
        while not page.has("sign-confirm"):
            for image in page.images:
                if image.endswith(".png"):
                    _check(self._citizen.get(image).body.startswith(b"\x89PNG"), "a page image is missing")
                    seen += 1
            button = next((name for name in ("sign-next", "sign-review-done") if page.has(name)), None)
            if button is None:
                raise StepFailed(f"the ceremony stopped at {_where(page)}")
            page = self._press(page, button)
        return page, seen

    def _press(self, page: Page, element_id: str) -> Page:
        if element_id in page.links:
            return self._citizen.get(page.links[element_id])
        return self._citizen.submit(page, element_id)

    def _download(self) -> str:
        state = self._wait_until_signed(self._story.request["id"])
        answer = self._api("GET", f"/api/v1/sign-requests/{self._story.request['id']}/document")
        _check(answer.status == 200, f"the document was answered {answer.status}")
        self._story.signed = answer.data
        _check(answer.data.startswith(self._pdf), "the bank's bytes are not the beginning of the signed document")
        self.signed_pdf.write_bytes(answer.data)
        return f"{len(answer.data)} octets, level {state.get('level')}"

    def _wait_until_signed(self, request_id: str) -> dict[str, Any]:
        until = time.monotonic() + POLL_SECONDS
        while time.monotonic() < until:
            state = dict(self._api("GET", f"/api/v1/sign-requests/{request_id}").json())
            if state["state"] in ("signed", "collected"):
                return state
            _check(state["state"] not in ("failed", "rejected", "expired"), f"the request is {state['state']}")
            time.sleep(0.3)
        raise StepFailed("the request was not signed in time")

    def _verify_passed(self) -> str:
        answer = self._api(
            "POST", "/api/v1/validations", body=self._story.signed, content_type="application/pdf"
        )
        _check(answer.status == 200, f"the validation was answered {answer.status}: {_brief(answer.data)}")
        report = answer.json()
        signatures = report["signatures"]  # the document may have come with signatures of others, known or not
        ours = [one for one in signatures if (one["signer"] or {}).get("certificate_serial") == self._story.serial]
        _check(ours, "the citizen's signature is not in the report")
        _check(ours[-1]["indication"] == "TOTAL-PASSED", f"the verdict is {ours[-1]['indication']}")
        return f"{ours[-1]['signer']['display_name']}: TOTAL-PASSED, level {ours[-1]['level']}"

    # -- revocation ------------------------------------------------------------------------------------------------

    def _revoke(self) -> str:
        self._tamga("cert", "revoke", self._story.serial, "--reason", "cessationOfOperation")
        return f"certificate {self._story.serial}: cessationOfOperation"

    def _ocsp_revoked(self) -> str:
        certificate, issuer = self._story.certificate, self._story.issuer
        if certificate is None or issuer is None:
            raise StepFailed("there is no certificate to ask about")
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
        where = next(d for d in access if d.access_method == AuthorityInformationAccessOID.OCSP)
        question = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA256()).build()
        answer = self._send(
            "POST",
            where.access_location.value,
            body=question.public_bytes(serialization.Encoding.DER),
            headers={"Content-Type": "application/ocsp-request"},
        )
        said = ocsp.load_der_ocsp_response(answer.data)
        _check(said.certificate_status is ocsp.OCSPCertStatus.REVOKED, f"OCSP says {said.certificate_status}")
        return f"revoked at {said.revocation_time_utc:%Y-%m-%d %H:%M:%S} UTC"

    def _refused(self) -> str:
        page = self._open(self._request_signature("Хоёр дахь гэрээ"))
        if page.has("sign-next") or page.has("sign-review-done") or page.has("sign-confirm"):
            page, _ = self._step_through(page)
            page = self._citizen.submit(page, "sign-confirm", {"pin": self._person.signing_pin})
        _check(not page.has("sign-download"), "a revoked certificate signed")
        return f"the page says no ({_where(page)})"

    def _audit(self) -> str:
        result = self._tamga("audit", "verify")
        return f"{result['entries']} entries, unbroken"

    # -- tools of the bank and the administrator ---------------------------------------------------------------------

    def _assertion(self) -> str:
        now = int(time.time())
        claims = {
            "iss": self._bank.client_id,
            "sub": self._bank.client_id,
            "aud": self._url,
            "iat": now,
            "exp": now + 60,
            "jti": secrets.token_urlsafe(16),
        }
        return self._sign_jwt(claims, "JWT")

    def _sign_jwt(self, claims: dict[str, Any], kind: str) -> str:
        return jwt.encode(claims, self._bank.key, algorithm="ES256", headers={"kid": self._bank.key_id, "typ": kind})

    def _api(self, method: str, path: str, *, body: bytes | None = None, content_type: str | None = None) -> Any:
        headers = {"Authorization": f"Bearer {self._machine_token()}"}
        if content_type:
            headers["Content-Type"] = content_type
        return self._send(method, self._url + path, body=body, headers=headers)

    def _machine_token(self) -> str:
        form = {
            "grant_type": "client_credentials",
            "scope": "sign.request sign.validate",
            "client_assertion_type": ASSERTION,
            "client_assertion": self._assertion(),
        }
        return str(self._json("POST", self._metadata["token_endpoint"], form=form)["access_token"])

    def _json(
        self, method: str, url: str, *, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        given = dict(headers or {})
        body = None
        if form is not None:
            given["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(form).encode()
        answer = self._send(method, url, body=body, headers=given)
        _check(answer.status == 200, f"{urlsplit(url).path} answered {answer.status}: {_brief(answer.data)}")
        return dict(answer.json())

    def _send(
        self, method: str, url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> urllib3.BaseHTTPResponse:
        return self._http.request(method, url, body=body, headers=dict(headers or {}), redirect=False)

    def _tamga(self, *words: str) -> Any:
        command = [sys.executable, "-m", "cli.main", "--config", str(self._configuration), *words, "--json"]
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        lines = run.stdout.strip().splitlines()
        _check(lines, f"tamga {words[0]} said nothing (status {run.returncode})")
        answer = json.loads(lines[-1])
        _check(answer["ok"], f"tamga {' '.join(words[:2])}: {answer.get('error')}")
        return answer["result"]


def _where(page: Page) -> str:
    return f"{urlsplit(page.url).path.split('/')[1] or '/'} {page.status}"


def _brief(data: bytes) -> str:
    return data[:300].decode("utf-8", "replace")
