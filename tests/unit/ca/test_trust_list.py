from __future__ import annotations

import base64
import hashlib
import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding
from flask import Flask
from joserfc import jws
from joserfc.jwk import ECKey

from ca.register import Reason
from ca.trust_list import errors
from ca.trust_list.chains import MAX_CHAIN_OCTETS, read_chain
from ca.trust_list.document import PURPOSES, XML_NAMESPACE, digest, parsed
from ca.trust_list.endpoints import blueprint
from ca.trust_list.service import TrustLists
from cli.context import Context
from cli.trust import trust
from core.errors import CodedError
from tests.support.foreign_authority import ForeignAuthority

REASON = "agreement of 2026-11-01"


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> ForeignAuthority:
    return ForeignAuthority(tmp_path_factory.mktemp("foreign"))


@pytest.fixture(scope="module")
def impostor(tmp_path_factory: pytest.TempPathFactory) -> ForeignAuthority:
    """Authorities of the very same names, with keys of their own."""
    return ForeignAuthority(tmp_path_factory.mktemp("impostor"))


@pytest.fixture
def lists(room: Any) -> TrustLists:
    # openssl writes today's date into the foreign certificates.
    room.clock.moment = datetime.now(UTC) + timedelta(minutes=1)
    made: TrustLists = room.parts.trust_lists
    made.publish(actor="test")
    return made


def accept(lists: TrustLists, foreign: ForeignAuthority, *purposes: str) -> Any:
    chain = [foreign.issuing.der, foreign.root.der]
    return lists.add(chain, purposes=purposes or ("signature",), reason=REASON, actor="officer:a")


# Versions ----------------------------------------------------------------------------------------------------------


def test_the_first_version_holds_our_own_authorities(room: Any, lists: TrustLists) -> None:
    first = lists.current()
    assert first.listed.number == 1 and first.listed.previous is None
    assert {e.certificate for e in first.listed.entries} == {a.der for a in room.parts.hierarchy.authorities()}
    assert all(entry.ours and entry.accepted for entry in first.listed.entries)
    purposes = {entry.subject.rpartition("CN=")[2]: entry.purposes for entry in first.listed.entries}
    assert purposes["Tamga Citizen Signature CA G1"] == ("signature",)
    assert "signature" in purposes["Tamga Root G1"] and "seal" in purposes["Tamga Root G1"]


def test_publishing_again_makes_no_version_while_nothing_changed(room: Any, lists: TrustLists) -> None:
    room.clock.advance(timedelta(days=1))
    assert lists.publish(actor="test") == lists.current()
    assert lists.current().listed.number == 1


def test_a_revoked_authority_of_ours_is_listed_as_not_accepted(room: Any, lists: TrustLists) -> None:
    seal = room.parts.hierarchy.for_purpose("seal")
    room.parts.revocation.revoke(seal.certificate_id, actor="test", reason=Reason.CESSATION_OF_OPERATION)
    second = lists.publish(actor="test")
    entry = second.listed.entry(hashlib.sha256(seal.der).hexdigest())
    assert second.listed.number == 2 and entry is not None and (entry.accepted, entry.reason) == (False, "revoked")


def test_each_change_names_the_version_before_it_and_is_audited(
    room: Any, lists: TrustLists, foreign: ForeignAuthority
) -> None:
    accept(lists, foreign)
    lists.reject(hashlib.sha256(foreign.issuing.der).hexdigest(), reason="audit failed", actor="officer:a")
    last = lists.remove(hashlib.sha256(foreign.root.der).hexdigest(), reason="ended", actor="officer:b")
    versions = lists.versions()
    assert [version.listed.number for version in versions] == [4, 3, 2, 1]
    for newer, older in itertools.pairwise(versions):
        assert newer.listed.previous == older.sha256 == digest(older.listed.payload())
    assert last.change.startswith("removed C=DE, O=Foreign, CN=Foreign Root")
    assert room.facts("ca:trust_list:version_made")["number"] == 4
    assert room.check_audit()


def test_an_entry_says_since_when_and_why_and_keeps_its_date(
    room: Any, lists: TrustLists, foreign: ForeignAuthority
) -> None:
    accept(lists, foreign)
    since = lists.current().listed.made_at
    room.clock.advance(timedelta(days=2))
    lists.reject(foreign.root.der, reason="key lost", actor="officer:a")
    root, issuing = (lists.current().listed.entry(hashlib.sha256(each.der).hexdigest()) for each in
                     (foreign.root, foreign.issuing))  # fmt: skip
    assert root is not None and issuing is not None
    assert (issuing.since, issuing.reason, issuing.accepted) == (since, REASON, True)
    assert (root.since, root.reason, root.accepted) == (lists.current().listed.made_at, "key lost", False)


def test_the_signature_verifies_with_the_key_at_jwks_uri_and_covers_every_octet(
    room: Any, lists: TrustLists, foreign: ForeignAuthority
) -> None:
    version = accept(lists, foreign)
    key = ECKey.import_key(
        room.keystore.key("token-signing-1").public_key().public_bytes(*_spki())  # RFC 7517: the public half
    )
    verified = jws.deserialize_compact(version.jws, key, algorithms=["ES256"])
    assert verified.headers() == {"alg": "ES256", "typ": "trust-list+json", "kid": key.thumbprint()}
    assert verified.payload.decode() == version.listed.payload() and parsed(version.listed.payload()) == version.listed
    head, payload, signature = version.jws.split(".")
    forged = base64.urlsafe_b64encode(base64.urlsafe_b64decode(payload + "==").replace(b"true", b"null")).decode()
    with pytest.raises(Exception, match="bad_signature"):
        jws.deserialize_compact(f"{head}.{forged.rstrip('=')}.{signature}", key, algorithms=["ES256"])


def _spki() -> tuple[Any, Any]:
    from cryptography.hazmat.primitives.serialization import PublicFormat

    return Encoding.PEM, PublicFormat.SubjectPublicKeyInfo


def test_of_two_changes_at_once_one_is_told_to_look_again(
    lists: TrustLists, foreign: ForeignAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = lists._signed

    def overtaken(payload: str) -> str:
        monkeypatch.setattr(lists, "_signed", signed)
        accept(lists, foreign)
        return signed(payload)

    monkeypatch.setattr(lists, "_signed", overtaken)
    with pytest.raises(errors.VersionConflict):
        accept(lists, foreign)
    assert [version.listed.number for version in lists.versions()] == [2, 1]


def test_before_the_first_version_nothing_is_accepted_and_nothing_is_an_anchor(
    room: Any, foreign: ForeignAuthority
) -> None:
    unpublished = room.parts.trust_lists
    with pytest.raises(errors.NotPublished):
        unpublished.accepted([foreign.leaf().der], "signature")
    assert unpublished.foreign("signature") == ((), ()) and unpublished.rejected() == ()


# What may be listed ------------------------------------------------------------------------------------------------


def refused(lists: TrustLists, *chain: bytes, **changes: Any) -> errors.ImportRefused:
    with pytest.raises(errors.ImportRefused) as caught:
        lists.add(chain, **{"purposes": ["signature"], "reason": REASON, "actor": "a", **changes})
    return caught.value


def test_a_leaf_is_no_authority(lists: TrustLists, foreign: ForeignAuthority) -> None:
    assert refused(lists, foreign.leaf().der).facts["reason"] == "chain.no_authority"


def test_certificates_of_two_chains_are_refused(
    lists: TrustLists, foreign: ForeignAuthority, impostor: ForeignAuthority
) -> None:
    assert refused(lists, foreign.root.der, impostor.root.der).facts["reason"] == "chain.unconnected"
    assert refused(lists, foreign.issuing.der, impostor.root.der).facts["reason"] == "chain.unconnected"


def test_an_authority_that_has_ended_is_refused(room: Any, lists: TrustLists, foreign: ForeignAuthority) -> None:
    room.clock.advance(timedelta(days=3700))
    assert refused(lists, foreign.root.der).facts["reason"] == "chain.expired"


def test_too_many_certificates_are_refused(lists: TrustLists, foreign: ForeignAuthority) -> None:
    assert "8" in refused(lists, *[foreign.root.der] * 9).detail
    with pytest.raises(errors.ImportRefused):
        read_chain(b"\0" * (MAX_CHAIN_OCTETS + 1))


@pytest.mark.parametrize("octets", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_refused(lists: TrustLists, octets: bytes) -> None:
    with pytest.raises(errors.CertificateUnreadable):
        read_chain(octets)
    with pytest.raises(errors.CertificateUnreadable):
        lists.accepted([octets], "signature")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"purposes": []}, errors.PurposeUnknown),
        ({"purposes": ["everything"]}, errors.PurposeUnknown),
        ({"reason": " "}, errors.ReasonMissing),
        ({"reason": "x" * 501}, errors.ReasonMissing),
    ],
)
def test_a_change_says_for_what_and_why(
    lists: TrustLists, foreign: ForeignAuthority, change: dict[str, Any], error: Any
) -> None:
    with pytest.raises(error):
        lists.add([foreign.root.der], **{"purposes": ["signature"], "reason": REASON, "actor": "a", **change})


def test_our_own_authorities_are_neither_rejected_nor_removed(room: Any, lists: TrustLists) -> None:
    root = room.parts.hierarchy.authorities()[0].der
    fingerprint = hashlib.sha256(root).hexdigest()
    for act in (
        lambda: lists.reject(root, reason="no", actor="a"),
        lambda: lists.reject(fingerprint, reason="no", actor="a"),
        lambda: lists.remove(fingerprint, reason="no", actor="a"),
        lambda: lists.add([root], purposes=["signature"], reason="yes", actor="a"),
    ):
        with pytest.raises(errors.EntryOurs):
            act()


@pytest.mark.parametrize("fingerprint", ["", "ab", "0" * 64])
def test_what_is_not_listed_is_not_found(lists: TrustLists, fingerprint: str) -> None:
    with pytest.raises(errors.EntryNotFound):
        lists.remove(fingerprint, reason="no", actor="a")


# Acceptance --------------------------------------------------------------------------------------------------------


def test_a_certificate_of_a_listed_issuer_is_accepted(lists: TrustLists, foreign: ForeignAuthority) -> None:
    accept(lists, foreign)
    leaf = foreign.leaf()
    found = lists.accepted([leaf.der], "signature")
    assert found.entry.certificate == foreign.issuing.der and found.path == (leaf.der, foreign.issuing.der)


def test_a_listed_root_accepts_what_comes_with_its_chain(lists: TrustLists, foreign: ForeignAuthority) -> None:
    lists.add([foreign.root.der], purposes=["signature"], reason=REASON, actor="a")
    leaf = foreign.leaf()
    assert len(lists.accepted([leaf.der, foreign.issuing.der, foreign.root.der], "signature").path) == 3
    with pytest.raises(errors.IssuerNotAccepted):
        lists.accepted([leaf.der], "signature")


def test_our_own_certificates_are_accepted_for_what_they_are_for(room: Any, lists: TrustLists, citizen: Any) -> None:
    parts = room.parts
    person = parts.issuance.certify(parts.registration.apply(**citizen()), actor="test")
    assert lists.accepted([person.der], "signature").entry.ours
    with pytest.raises(errors.IssuerNotAccepted):
        lists.accepted([person.der], "tls")


def test_an_unlisted_issuer_is_not_accepted_and_nothing_is_called_invalid(
    lists: TrustLists, foreign: ForeignAuthority
) -> None:
    for at in (None, datetime.now(UTC) + timedelta(days=400)):  # an old certificate of theirs is no other case
        with pytest.raises(errors.IssuerNotAccepted) as caught:
            lists.accepted([foreign.leaf().der, foreign.issuing.der, foreign.root.der], "signature", at=at)
        assert caught.value.code == "issuer_not_accepted" and caught.value.exit_code == 3
        assert "issuer not accepted" in caught.value.detail and "invalid" not in caught.value.detail


def test_a_rejected_issuer_is_refused_with_the_reason(lists: TrustLists, foreign: ForeignAuthority) -> None:
    accept(lists, foreign)
    lists.reject(foreign.issuing.der, reason="audit failed", actor="a")
    with pytest.raises(errors.IssuerNotAccepted, match="issuer not accepted: audit failed"):
        lists.accepted([foreign.leaf().der, foreign.issuing.der, foreign.root.der], "signature")


def test_an_issuer_is_accepted_for_its_purposes_only(lists: TrustLists, foreign: ForeignAuthority) -> None:
    accept(lists, foreign, "tls", "seal")
    assert lists.accepted([foreign.leaf().der], "seal")
    with pytest.raises(errors.IssuerNotAccepted, match="not accepted for signature; it is for seal, tls"):
        lists.accepted([foreign.leaf().der], "signature")
    with pytest.raises(errors.PurposeUnknown):
        lists.accepted([foreign.leaf().der], "everything")
    assert set(PURPOSES) >= {"tls", "seal", "signature"}


def test_an_expired_certificate_of_a_listed_issuer_is_expired(lists: TrustLists, foreign: ForeignAuthority) -> None:
    accept(lists, foreign)
    with pytest.raises(errors.CertificateExpired) as caught:
        lists.accepted([foreign.leaf(days=1).der], "signature", at=datetime.now(UTC) + timedelta(days=2))
    assert caught.value.code == "certificate_expired"


def test_who_only_names_a_listed_issuer_is_found_out(
    lists: TrustLists, foreign: ForeignAuthority, impostor: ForeignAuthority
) -> None:
    accept(lists, foreign)
    for chain in ([impostor.leaf().der], [impostor.leaf().der, impostor.issuing.der, impostor.root.der]):
        with pytest.raises(errors.SignatureInvalid) as caught:
            lists.accepted(chain, "signature")
        assert caught.value.code == "signature_invalid"


def test_a_leaf_that_plays_authority_leads_nowhere(lists: TrustLists, foreign: ForeignAuthority) -> None:
    accept(lists, foreign)
    leaf = foreign.leaf("Plays authority")
    below = foreign.leaf(issuer=leaf)
    with pytest.raises(errors.IssuerNotAccepted):
        lists.accepted([below.der, leaf.der], "signature")


def test_the_path_length_of_a_listed_authority_is_kept(lists: TrustLists, foreign: ForeignAuthority) -> None:
    accept(lists, foreign)
    third = foreign.authority("Too deep", foreign.issuing)
    with pytest.raises(errors.PathRefused):
        lists.accepted([foreign.leaf(issuer=third).der, third.der], "signature")


def test_the_name_constraints_of_a_listed_authority_are_kept(lists: TrustLists, foreign: ForeignAuthority) -> None:
    lists.add([foreign.root.der], purposes=["signature"], reason=REASON, actor="a")
    constrained = foreign.authority("Constrained", foreign.root, "constrained")
    with pytest.raises(errors.PathRefused):
        lists.accepted([foreign.leaf(issuer=constrained).der, constrained.der], "signature")
    lists.add([constrained.der], purposes=["signature"], reason=REASON, actor="a")
    with pytest.raises(errors.PathRefused):  # RFC 5937: those of the anchor itself count too
        lists.accepted([foreign.leaf(issuer=constrained).der], "signature")


def test_paths_end_at_the_highest_foreign_authority_accepted_for_a_purpose(
    lists: TrustLists, foreign: ForeignAuthority
) -> None:
    accept(lists, foreign)
    assert lists.foreign("signature", "seal") == ((foreign.root.der,), (foreign.issuing.der,))
    assert lists.foreign("tls") == ((), ()) and lists.rejected() == ()
    lists.reject(foreign.root.der, reason="audit failed", actor="a")
    assert lists.foreign("signature") == ((foreign.issuing.der,), ()) and lists.rejected() == (foreign.root.der,)


# Served and typed --------------------------------------------------------------------------------------------------


def test_both_forms_are_served_with_a_tag_and_agree(lists: TrustLists, foreign: ForeignAuthority) -> None:
    app = Flask(__name__)
    app.register_blueprint(blueprint(lists))
    web = app.test_client()
    accept(lists, foreign)
    signed, readable = web.get("/trust-list.json"), web.get("/trust-list.xml")
    assert (signed.content_type, readable.content_type) == ("application/jose+json", "application/xml")
    assert signed.headers["Cache-Control"] == "public, max-age=300"
    payload = base64.urlsafe_b64decode(signed.json["payload"] + "==")
    root = ElementTree.fromstring(readable.data)  # noqa: S314 - our own
    assert root.get("payloadSha256") == hashlib.sha256(payload).hexdigest()
    assert root.get("number") == str(json.loads(payload)["number"]) == "2"
    names = [each.findtext(f"{{{XML_NAMESPACE}}}subject") for each in root]
    assert names == [entry["subject"] for entry in json.loads(payload)["entries"]]
    for path, answer in (("/trust-list.json", signed), ("/trust-list.xml", readable)):
        assert web.get(path, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    lists.reject(foreign.root.der, reason="ended", actor="a")
    assert web.get("/trust-list.json", headers={"If-None-Match": signed.headers["ETag"]}).status_code == 200


def test_a_list_that_was_never_published_is_not_there(room: Any) -> None:
    app = Flask(__name__)
    app.register_blueprint(blueprint(room.parts.trust_lists))
    answer = app.test_client().get("/trust-list.json")
    assert (answer.status_code, answer.headers["X-Error-Code"]) == (404, "trust_list_not_published")


@pytest.fixture
def tamga(room: Any, lists: TrustLists, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs ``tamga trust …``; gives its JSON result, or raises the coded error that decides the exit status."""
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(Context, "acting", lambda _, *roles: asked.append(roles) or "officer:a")

    def run(*arguments: str | Path, status: int = 0) -> Any:
        context = Context()
        context.services = SimpleNamespace(ca=room.parts)  # type: ignore[assignment]
        outcome = CliRunner().invoke(trust, [*map(str, arguments), "--json"], obj=context)
        if isinstance(outcome.exception, CodedError):
            raise outcome.exception
        assert outcome.exit_code == status, outcome.output
        return json.loads(outcome.stdout)["result"] if status == 0 else None

    run.asked = asked  # type: ignore[attr-defined]
    return run


def test_commands_change_the_list_as_an_administrator(tamga: Any, foreign: ForeignAuthority) -> None:
    chain = foreign.chain_file()
    made = tamga("import", "--chain", chain, "--purpose", "signature", "--purpose", "seal", "--reason", REASON)
    assert (made["number"], made["made_by"]) == (2, "officer:a")
    fingerprint = hashlib.sha256(foreign.issuing.der).hexdigest()
    assert tamga("reject", fingerprint[:16], "--reason", "audit failed")["number"] == 3
    assert tamga("remove", fingerprint, "--reason", "gone")["number"] == 4
    assert tamga("reject", "--chain", foreign.issuing.path, "--reason", "audit failed")["number"] == 5
    assert tamga("publish")["number"] == 5
    assert {roles[0] for roles in tamga.asked} == {"ca-administrator"} and len(tamga.asked) == 5
    listed = {row["fingerprint"]: row for row in tamga("list")}
    assert (listed[fingerprint]["accepted"], listed[fingerprint]["reason"]) == (False, "audit failed")
    assert [row["number"] for row in tamga("list", "--versions")] == [5, 4, 3, 2, 1]


def test_the_list_is_exported_in_both_forms(tamga: Any, tmp_path: Path) -> None:
    assert json.loads(tamga("export")["content"]).keys() == {"payload", "protected", "signature"}
    assert tamga("export", "--format", "xml", "--out", tmp_path / "list.xml")["number"] == 1
    written = ElementTree.parse(tmp_path / "list.xml")  # noqa: S314 - our own
    assert written.getroot().tag == f"{{{XML_NAMESPACE}}}trustList"


def test_a_certificate_is_checked_by_command(tamga: Any, foreign: ForeignAuthority) -> None:
    leaf = foreign.leaf()
    with pytest.raises(errors.IssuerNotAccepted):
        tamga("check", leaf.path, "--purpose", "signature")
    tamga("import", "--chain", foreign.chain_file(), "--purpose", "signature", "--reason", REASON)
    assert tamga("check", leaf.path, "--purpose", "signature")["path_length"] == 2
    with pytest.raises(CodedError) as caught:
        tamga("check", "/nowhere", "--purpose", "signature")
    assert caught.value.exit_code == 2
    tamga("reject", "--reason", "x", status=2)
