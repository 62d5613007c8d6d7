"""Officers: who is enrolled by whom, what one person cannot be at once, and how an officer is recognised."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import select, update

from ca.officers import errors, keys
from ca.officers.authentication import Account
from ca.officers.roles import AUDITOR, CA_ADMINISTRATOR, RA_OFFICER, ROLES, SECURITY_OFFICER
from ca.officers.tables import ApprovalRequestRow, OfficerVersionRow
from ca.settings import CaSettings
from core.audit import export
from core.database import Database
from policies.profiles import load_profile
from tests.support.officers import COMMAND, Clock, House, public


@pytest.fixture
def make_house(tmp_path: Path) -> Iterator[Callable[..., House]]:
    made: list[House] = []

    def make(**settings: object) -> House:
        database = Database(f"sqlite:///{tmp_path / f'{len(made)}.sqlite3'}")
        database.create_all()
        made.append(House(database, Clock(), CaSettings(**settings)))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for house in made:
        house.database.close()


@pytest.fixture
def house(make_house: Callable[..., House]) -> House:
    made = make_house()
    made.begin()
    return made


# The first officers ----------------------------------------------------------------------------------------------


def test_the_first_officers_are_security_officers_whatever_they_asked_to_be(make_house: Callable[..., House]) -> None:
    house = make_house()
    assert not house.officers.enrolled()
    house.changes.bootstrap([house.candidate("bold", RA_OFFICER), house.candidate("saran")], actor="operator:root")
    assert [each.roles for each in house.officers.all()] == [frozenset({SECURITY_OFFICER})] * 2
    assert house.events() == ["ca:officers:bootstrapped"]


def test_the_first_officers_are_enrolled_once(house: House) -> None:
    with pytest.raises(errors.OfficersEnrolled) as caught:
        house.changes.bootstrap([house.candidate("dorj"), house.candidate("tuya")], actor="operator:root")
    assert caught.value.exit_code == 5
    assert [each.name for each in house.officers.all()] == ["bold", "saran"]


def test_one_security_officer_alone_is_not_enrolled(make_house: Callable[..., House]) -> None:
    house = make_house()
    bold = house.candidate("bold")
    for first in ([bold], [bold, bold]):
        with pytest.raises(errors.TooFewSecurityOfficers):
            house.changes.bootstrap(first, actor="operator:root")
    assert not house.officers.enrolled()


def test_the_first_officers_do_not_share_a_key(make_house: Callable[..., House]) -> None:
    house = make_house()
    bold = house.candidate("bold")
    with pytest.raises(errors.OfficerKeyRefused):
        house.changes.bootstrap([bold, replace(house.candidate("saran"), spki=bold.spki)], actor="operator:root")
    assert not house.officers.enrolled()


# Changes by four eyes --------------------------------------------------------------------------------------------


def test_an_officer_is_enrolled_by_two_others(house: House) -> None:
    enrolled = house.enrol("dorj", RA_OFFICER)
    assert house.officers.get("dorj") == enrolled and enrolled.version == 1
    assert house.events()[-4:] == [
        "ca:approval:requested", "ca:approval:given", "ca:approval:taken", "ca:officer:changed",
    ]  # fmt: skip


def test_a_change_without_a_second_signature_is_refused(house: House) -> None:
    request = house.changes.propose(house.candidate("dorj", RA_OFFICER), actor="officer:bold")
    with pytest.raises(errors.ApprovalMissing) as caught:
        house.changes.apply(request, actor="officer:bold")
    assert (caught.value.exit_code, caught.value.facts) == (3, {"needed": 1, "valid": 0})
    with pytest.raises(errors.OfficerNotFound):
        house.officers.get("dorj")


def test_every_state_of_an_officer_is_kept(house: House) -> None:
    house.enrol("dorj", RA_OFFICER)
    house.change(replace(house.officers.get("dorj"), roles=frozenset({CA_ADMINISTRATOR, RA_OFFICER})))
    house.change(replace(house.officers.get("dorj"), active=False))
    kept = [(row.version, row.roles, row.state) for row in house.officers.history("dorj")]
    assert kept == [
        (1, RA_OFFICER, "active"),
        (2, f"{CA_ADMINISTRATOR} {RA_OFFICER}", "active"),
        (3, f"{CA_ADMINISTRATOR} {RA_OFFICER}", "retired"),
    ]


def test_a_change_that_changes_nothing_is_refused(house: House) -> None:
    with pytest.raises(errors.OfficerUnchanged):
        house.changes.propose(house.officers.get("saran"), actor="officer:bold")


def test_a_change_of_somebody_who_changed_meanwhile_is_refused(house: House) -> None:
    house.enrol("dorj", RA_OFFICER)
    late = house.changes.propose(replace(house.officers.get("dorj"), roles=frozenset({AUDITOR})), actor="officer:bold")
    house.approve(late, "saran")
    house.change(replace(house.officers.get("dorj"), active=False))
    with pytest.raises(errors.OfficerChanged):
        house.changes.apply(late, actor="officer:bold")
    assert not house.officers.get("dorj").active


def test_an_edited_request_changes_nobody(house: House) -> None:
    request = house.changes.propose(house.candidate("dorj", RA_OFFICER), actor="officer:bold")
    house.approve(request, "saran")
    with house.database.transaction() as session:
        row = session.get_one(ApprovalRequestRow, request)
        row.facts = row.facts.replace(RA_OFFICER, CA_ADMINISTRATOR)
    with pytest.raises(errors.ApprovalMismatch):
        house.changes.apply(request, actor="officer:bold")


@pytest.mark.parametrize(
    ("roles", "refusal"),
    [
        ((), errors.RoleUnknown),
        (("chief",), errors.RoleUnknown),
        *(((AUDITOR, other), errors.RolesConflict) for other in ROLES if other != AUDITOR),
        ((CA_ADMINISTRATOR, SECURITY_OFFICER), errors.RolesConflict),
    ],
)
def test_roles_that_exclude_each_other_are_refused(house: House, roles: tuple[str, ...], refusal: type) -> None:
    with pytest.raises(refusal):
        house.changes.propose(house.candidate("dorj", *roles), actor="officer:bold")


def test_the_last_two_security_officers_stay(house: House) -> None:
    with pytest.raises(errors.TooFewSecurityOfficers):
        house.changes.propose(replace(house.officers.get("saran"), active=False), actor="officer:bold")
    house.enrol("dorj", SECURITY_OFFICER)
    house.change(replace(house.officers.get("dorj"), active=False))
    assert not house.officers.get("dorj").active


def test_a_key_that_was_another_officers_is_refused_even_after_he_left(house: House) -> None:
    house.enrol("dorj", RA_OFFICER)
    house.change(replace(house.officers.get("dorj"), active=False))
    with pytest.raises(errors.OfficerKeyRefused):
        house.changes.propose(house.candidate("tuya", RA_OFFICER, key=house.keys["dorj"]), actor="officer:bold")


def test_an_account_is_one_active_officers_unless_the_settings_share_it(make_house: Callable[..., House]) -> None:
    for shared in (False, True):
        house = make_house(officers_share_accounts=shared)
        house.begin()
        bold = house.officers.get("bold")
        twin = replace(house.candidate("tuya", RA_OFFICER), os_uid=bold.os_uid, os_user=bold.os_user)
        if shared:
            house.change(twin)
            # The key tells the two apart.
            account = Account(bold.os_uid, bold.os_user)
            assert house.recognise("tuya", RA_OFFICER, account=account).name == "tuya"
            assert house.recognise("bold", SECURITY_OFFICER, account=account).name == "bold"
        else:
            with pytest.raises(errors.AccountTaken):
                house.changes.propose(twin, actor="officer:bold")


@pytest.mark.parametrize("name", ["B", "x", "Bold", "a b", "a\nb", "officer:bold", "-bold", "b" * 64])
def test_a_name_that_the_log_could_not_show_is_refused(house: House, name: str) -> None:
    wanted = replace(house.candidate("dorj", RA_OFFICER), name=name)
    with pytest.raises(errors.OfficerNameRefused):
        house.changes.propose(wanted, actor="officer:bold")


def test_only_ed25519_and_p256_are_officers_keys() -> None:
    for key in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())):
        assert keys.read_public_key(public(key)) == public(key)
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        assert keys.read_public_key(pem) == public(key)
    weak = (rsa.generate_private_key(public_exponent=65537, key_size=2048), ec.generate_private_key(ec.SECP384R1()))
    for octets in (*map(public, weak), b"no key", b"-----BEGIN NOTHING-----", b"\x30" * 5000):  # type: ignore[arg-type]
        with pytest.raises(errors.OfficerKeyRefused):
            keys.read_public_key(octets)


# Recognition -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make_key", [ed25519.Ed25519PrivateKey.generate, lambda: ec.generate_private_key(ec.SECP256R1())]
)
def test_an_officer_is_recognised_by_account_and_key(
    house: House, make_key: Callable[[], keys.OfficerPrivateKey]
) -> None:
    house.enrol("dorj", RA_OFFICER, key=make_key())
    assert house.recognise("dorj", RA_OFFICER).actor == "officer:dorj"
    with house.database.reading() as session:
        told = list(export(session))[-1]
    # Anybody can verify from the log that it was he.
    assert told["event"] == "ca:officer:authenticated"
    text, signature = told["facts"]["text"].encode(), bytes.fromhex(told["facts"]["signature"])
    keys.verify(house.officers.get("dorj").spki, text, signature)
    assert f"command: {COMMAND}" in text.decode()


def test_no_two_challenges_are_alike(house: House) -> None:
    seen: set[bytes] = set()
    bold = house.officers.get("bold")
    for _ in range(3):
        house.authentication.recognise(
            Account(bold.os_uid, bold.os_user),
            lambda text: seen.add(text) or keys.sign(house.keys["bold"], text),  # type: ignore[func-returns-value]
            roles=(SECURITY_OFFICER,),
            command=COMMAND,
        )
    assert len(seen) == 3


def test_an_account_without_a_key_is_refused(house: House) -> None:
    bold = house.officers.get("bold")
    with pytest.raises(errors.SecondFactorMissing) as caught:
        house.authentication.recognise(
            Account(bold.os_uid, bold.os_user), None, roles=(SECURITY_OFFICER,), command=COMMAND
        )
    assert (caught.value.code, caught.value.exit_code) == ("second_factor_missing", 3)
    assert house.events()[-1] == "ca:officer:refused"


def test_a_key_that_is_not_the_accounts_is_refused(house: House) -> None:
    house.keys["stranger"] = ed25519.Ed25519PrivateKey.generate()
    for key in ("saran", "stranger"):
        with pytest.raises(errors.SecondFactorRefused):
            house.recognise("bold", SECURITY_OFFICER, key=key)
    assert house.events()[-1] == "ca:officer:refused"


def test_an_earlier_signature_is_refused(house: House) -> None:
    bold = house.officers.get("bold")
    kept: list[bytes] = []

    def sign(text: bytes) -> bytes:
        kept.append(keys.sign(house.keys["bold"], text))
        return kept[0]

    account = Account(bold.os_uid, bold.os_user)
    house.authentication.recognise(account, sign, roles=(SECURITY_OFFICER,), command=COMMAND)
    with pytest.raises(errors.SecondFactorRefused):
        house.authentication.recognise(account, sign, roles=(SECURITY_OFFICER,), command=COMMAND)


def test_an_account_whose_number_was_given_to_somebody_else_is_nobodys(house: House) -> None:
    bold = house.officers.get("bold")
    for account in (Account(bold.os_uid, "newcomer"), Account(bold.os_uid + 1, bold.os_user)):
        with pytest.raises(errors.OfficerUnknown):
            house.recognise("bold", SECURITY_OFFICER, account=account)


def test_a_retired_officer_is_not_recognised(house: House) -> None:
    house.enrol("dorj", RA_OFFICER)
    house.change(replace(house.officers.get("dorj"), active=False))
    with pytest.raises(errors.OfficerUnknown):
        house.recognise("dorj", RA_OFFICER)


@pytest.mark.parametrize("needed", ROLES)
@pytest.mark.parametrize("held", ROLES)
def test_a_role_admits_to_what_is_for_it_and_to_nothing_else(house: House, held: str, needed: str) -> None:
    house.enrol("dorj", held)
    if held == needed:
        assert house.recognise("dorj", needed).holds({needed})
    else:
        with pytest.raises(errors.RoleMissing) as caught:
            house.recognise("dorj", needed)
        assert (caught.value.code, caught.value.exit_code) == ("role_missing", 3)


def test_a_replaced_key_is_no_second_factor_any_more(house: House) -> None:
    house.enrol("dorj", RA_OFFICER)
    old = house.keys["dorj"]
    house.change(replace(house.candidate("dorj", RA_OFFICER)))
    house.keys["old"] = old
    assert house.recognise("dorj", RA_OFFICER)
    with pytest.raises(errors.SecondFactorRefused):
        house.recognise("dorj", RA_OFFICER, key="old")


def test_a_line_cannot_pretend_to_be_another(house: House) -> None:
    one = keys.signed_text("purpose", (("subject", "a\nkind: b"), ("kind", "c")))
    assert one == b"purpose\nsubject: a\\u00000akind: b\nkind: c\n"
    other = keys.signed_text("purpose", (("subject", "a\\u00000akind: b"), ("kind", "c")))
    assert one != other


# Profiles --------------------------------------------------------------------------------------------------------


def test_profiles_need_no_approval_before_there_are_officers(make_house: Callable[..., House]) -> None:
    house = make_house()
    with house.database.transaction() as session:
        house.profiles.check(session, load_profile("tls-client"))
    assert all(each.approved for each in house.profiles.standing())


def test_the_profiles_of_the_release_are_approved_with_the_first_officers(house: House) -> None:
    with house.database.transaction() as session:
        house.profiles.check(session, load_profile("tls-client"))
    assert all(each.approved for each in house.profiles.standing())


def test_a_new_version_of_a_profile_needs_an_approval_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    new = replace(load_profile("tls-client"), version=99, digest="ab" * 32)
    monkeypatch.setattr("ca.officers.approved_profiles.load_profile", lambda name: new)

    def first_use() -> None:
        with house.database.transaction() as session:
            house.profiles.check(session, new)

    with pytest.raises(errors.ProfileNotApproved) as caught:
        first_use()
    assert (caught.value.code, caught.value.exit_code) == ("profile_not_approved", 3)
    request = house.profiles.propose("tls-client", actor="officer:bold")
    with pytest.raises(errors.ProfileNotApproved):
        first_use()
    house.approve(request, "saran")
    first_use()
    first_use()
    assert house.approvals.get(request).state == "taken"
    assert house.events().count("ca:profile:approved") == 1


def test_an_approval_is_for_the_digest_that_was_shown(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = replace(load_profile("tls-client"), version=99, digest="ab" * 32)
    monkeypatch.setattr("ca.officers.approved_profiles.load_profile", lambda name: shown)
    house.approve(house.profiles.propose("tls-client", actor="officer:bold"), "saran")
    with pytest.raises(errors.ProfileNotApproved), house.database.transaction() as session:
        house.profiles.check(session, replace(shown, digest="cd" * 32))


def test_an_officers_row_changed_by_hand_does_not_let_another_key_in(house: House) -> None:
    """What the database's owner can do is told in the documentation; the signatures given before do not follow him."""
    request = house.changes.propose(house.candidate("dorj", RA_OFFICER), actor="officer:bold")
    house.approve(request, "saran")
    planted = ed25519.Ed25519PrivateKey.generate()
    with house.database.transaction() as session:
        session.execute(
            update(OfficerVersionRow).where(OfficerVersionRow.name == "saran").values(public_key=public(planted))
        )
        assert session.scalar(select(OfficerVersionRow.public_key).where(OfficerVersionRow.name == "saran"))
    with pytest.raises(errors.ApprovalMissing):
        house.changes.apply(request, actor="officer:bold")
