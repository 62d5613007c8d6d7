"""Each kind of ceremony holds its tables and no others, and what it makes is replayed."""

from __future__ import annotations

import tomllib
from datetime import timedelta

import pytest
from cryptography import x509

from ca import errors, serial_number
from ca.ceremony.drafting import CustodianEntry
from ca.ceremony.plan import KINDS, Plan
from ca.ceremony.rehearsal import stand_ins
from ca.ceremony.verification import Verified, verify
from ca.ceremony.writing import ceremony_file
from tests.support.custodians import Custodians

pytestmark = pytest.mark.usefixtures("fresh_keys")

TABLES = {
    "authority": 'slug = "kind-g1"\npurpose = "kind"\nissuer = "root-g1"\nprofile = "issuing-ca"\nkey = "P-384"\n'
    'subject = { CN = "Kind CA G1" }\n',
    "cross": 'slug = "seal-g1-by-root-g1"\nissuer = "root-g1"\nauthority = "seal-g1"\n',
    "credential": 'label = "ocsp-root-g1-55"\nissuer = "root-g1"\nprofile = "ocsp-responder-root"\nkey = "P-256"\n'
    'purpose = "ocsp"\nsubject = { CN = "Root OCSP" }\n',
    "key": 'label = "token-signing-55"\nkey = "P-256"\npurpose = "token-signing"\n',
    "request": 'authority = "seal-g1"\n',
    "acceptance": 'slug = "seal-g1-outside"\nauthority = "seal-g1"\ncertificate = ""\nchain = ""\n',
    "crl": 'issuer = "root-g1"\n',
    "destroy": f'label = "seal-g1"\nkey_id = "{"00" * 20}"\n',
}
HEAD = """
name = "kinds"
kind = "{kind}"
policy_url = "https://localhost/cps"
[organisation]
O = "Test"
organizationIdentifier = "NTRMN-0000000"
"""


def text(kind: str, *tables: str) -> str:
    return HEAD.format(kind=kind) + "".join(f"[[{table}]]\n{TABLES[table]}" for table in tables)


def held(room, kind: str, *tables: str) -> Verified:
    plan = room.parts.ceremony.read(text(kind, *tables))
    return verify(room.parts.ceremony.hold(plan, actor="test"), plan_text=plan.text)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_kind_holds_its_own_tables_only(room, kind: str) -> None:
    for table in TABLES:
        if table not in KINDS[kind]:
            with pytest.raises(errors.CeremonyPlanRefused, match="holds no"):
                room.parts.ceremony.read(text(kind, table))


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("authority", 'colour = "red"\n'),
        ("authority", "days = 0\n"),
        ("authority", "days = 9000\n"),
        ("authority", 'serial = "0a"\n'),
        ("authority", f'serial = "{"80" * 18}"\n'),
        ("authority", "version = 99\n"),
        ("credential", 'serial = "not hexadecimal"\n'),
        ("key", 'subject = { CN = "x" }\n'),
    ],
)
def test_a_step_with_words_that_cannot_be_is_refused(room, table: str, line: str) -> None:
    with pytest.raises(errors.CeremonyPlanRefused):
        room.parts.ceremony.read(text("hierarchy", table) + line)


def test_a_root_is_made_by_its_profile_only(room) -> None:
    with pytest.raises(errors.CeremonyPlanRefused):
        room.parts.ceremony.read(text("root", "authority"))
    with pytest.raises(errors.CeremonyPlanRefused):
        room.parts.ceremony.read(text("issuing-ca", "authority").replace('"issuing-ca"\nkey', '"root"\nkey'))


def test_an_issuing_authority_is_made_under_a_standing_root(room) -> None:
    verified = held(room, "issuing-ca", "authority")
    assert set(verified.certificates) == {"kind-g1"}
    assert set(verified.standing) == {"root-g1"}
    assert room.parts.crls.current("kind-g1").entries == 0


def test_a_serial_number_may_be_drawn_in_advance(room) -> None:
    serial = serial_number.text(serial_number.draw(1))
    room.parts.ceremony.hold(
        room.parts.ceremony.read(text("issuing-ca", "authority") + f'serial = "{serial}"\ndays = 400\n'), actor="test"
    )
    certificate = room.parts.hierarchy.authority("kind-g1").certificate
    assert certificate.serial_number == int(serial, 16)
    lasting = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lasting == timedelta(days=400) - timedelta(seconds=1)
    # Another installation's octet, and a number that was used.
    for wrong, refusal in ((f"02{serial[2:]}", errors.CeremonyPlanRefused), (serial, errors.SerialTaken)):
        again = text("responder", "credential").replace("kinds", "again") + f'serial = "{wrong}"\n'
        with pytest.raises(refusal):
            room.parts.ceremony.hold(room.parts.ceremony.read(again), actor="test")


def test_a_responder_and_a_crl_of_the_root_are_ceremonies_of_their_own(room) -> None:
    before = room.parts.crls.current("root-g1").number
    assert held(room, "responder", "credential").signed_by == "ocsp-root-g1-55"
    assert room.parts.hierarchy.responder("root-g1").key_label == "ocsp-root-g1-55"
    plan = room.parts.ceremony.read(text("crl", "crl").replace("kinds", "yearly"))
    assert verify(room.parts.ceremony.hold(plan, actor="test")).signed_by == "root-g1"
    assert room.parts.crls.current("root-g1").number > before


def test_a_responder_that_is_none_is_refused(room) -> None:
    other = text("responder", "credential").replace('"ocsp-responder-root"', '"tsa"')
    with pytest.raises(errors.CeremonyPlanRefused):
        room.parts.ceremony.read(other)


def test_a_certificate_that_exists_is_not_made_again(room) -> None:
    held(room, "responder", "credential")
    again = room.parts.ceremony.read(text("responder", "credential").replace("kinds", "again"))
    with pytest.raises(errors.CeremonyHeld):
        room.parts.ceremony.hold(again, actor="test")


def test_a_cross_certificate_keeps_name_and_key_of_an_issuing_authority_too(room) -> None:
    held(room, "cross-certificate", "cross")
    cross = x509.load_der_x509_certificate(room.parts.hierarchy.certificate_at("seal-g1-by-root-g1"))
    own = room.parts.hierarchy.authority("seal-g1").certificate
    assert (cross.subject, cross.public_key()) == (own.subject, own.public_key())
    assert cross.serial_number != own.serial_number


def test_a_key_that_is_not_there_cannot_be_destroyed(room) -> None:
    gone = text("destroy", "destroy").replace('"seal-g1"', '"gone-g1"')
    with pytest.raises(errors.CeremonyPlanRefused):
        room.parts.ceremony.hold(room.parts.ceremony.read(gone), actor="test")
    assert room.keystore.has("seal-g1")


def test_every_tbs_is_shown_with_placeholder_keys_and_nothing_is_done(room) -> None:
    plan: Plan = room.parts.ceremony.read(text("hierarchy", "authority", "cross", "credential", "key"))
    events, keys = room.events(), room.keystore.keys()
    shown = room.parts.previews.of(plan)
    assert [each.name for each in shown] == ["kind-g1", "seal-g1-by-root-g1", "ocsp-root-g1-55"]
    assert (room.events(), room.keystore.keys()) == (events, keys)


def test_a_certificate_that_the_linters_refuse_is_refused_before_anything_is_made(room, monkeypatch) -> None:
    plan = room.parts.ceremony.read(text("issuing-ca", "authority"))

    def refuse(*_arguments: object) -> None:
        raise errors.LintRefused("bad")

    monkeypatch.setattr(room.parts.linter, "check_certificate", refuse)
    with pytest.raises(errors.LintRefused):
        room.parts.previews.of(plan)


def test_a_draft_holds_everything_that_custodians_sign(room) -> None:
    custodians = Custodians()
    entries = [CustodianEntry(name, custodians.public(name)) for name in custodians.keys]
    draft = room.parts.drafting.completed(
        text("issuing-ca", "authority"), token="tamga", custodians=entries, approvals=2, countersignatures=0
    )
    plan = room.parts.ceremony.read(draft)
    assert [custodian.name for custodian in plan.quorum.custodians] == list(custodians.keys)
    room.parts.ceremony.hold(plan, actor="test", approvals=custodians.approvals(plan, "oyun", "saran"))
    # The next generation carries the quorum on.
    following = room.parts.ceremony.read(room.parts.drafting.next_generation("kind"))
    assert following.quorum == plan.quorum
    with pytest.raises(errors.NoQuorum):
        room.parts.ceremony.hold(following, actor="test")


def test_what_a_rehearsal_stands_in_for_has_the_same_names(room) -> None:
    plan = room.parts.ceremony.read(text("responder", "credential").replace('"root-g1"', '"seal-g1"').replace(
        "ocsp-responder-root", "ocsp-responder"))  # fmt: skip
    written = stand_ins(plan, room.parts.hierarchy, room.parts.register)
    assert written is not None
    rows = tomllib.loads(written)["authority"]
    assert [row["slug"] for row in rows] == ["root-g1", "seal-g1"]
    assert rows[1]["subject"]["CN"] == "Tamga Seal CA G1"
    assert stand_ins(room.parts.ceremony.plan(), room.parts.hierarchy, room.parts.register) is None


def test_a_ceremony_file_is_written_as_it_is_read() -> None:
    document = {
        "name": "a",
        "description": 'with "quotes", a \\ and Кирилл',
        "organisation": {"O": "Ө"},
        "quorum": {"approvals": 2},
        "custodian": [{"name": "b", "public_key": "-----BEGIN-----\nAAA\n-----END-----\n"}],
        "credential": [{"alternative_names": [{"kind": "URI", "value": "https://x"}], "served": True}],
    }
    assert tomllib.loads(ceremony_file(document, comment="one\ntwo")) == document
