"""Approval m of n: a ceremony with custodians begins only with enough valid signatures over this very file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from ca import errors
from ca.ceremony.addresses import Addresses
from ca.ceremony.approval import (
    Approval,
    approval_message,
    approve,
    owner_of,
    private_key,
    read_approvals,
    sign,
    write_approval,
)
from ca.ceremony.plan import Plan, read_plan
from ca.settings import CaSettings
from tests.support.custodians import Custodians

pytestmark = pytest.mark.usefixtures("fresh_keys")

KEY_PLAN = """
name = "a-key"
kind = "key"
policy_url = "https://localhost/cps"
token = "tamga"
{addresses}
[[key]]
label = "token-signing-77"
key = "P-256"
purpose = "token-signing"
{quorum}
"""


@pytest.fixture(scope="module")
def custodians() -> Custodians:
    return Custodians()


def text_of(custodians: Custodians, settings: CaSettings | None = None) -> str:
    return KEY_PLAN.format(addresses=Addresses.of(settings or CaSettings()).toml(), quorum=custodians.table())


@pytest.fixture
def plan(room, custodians: Custodians) -> Plan:
    return room.parts.ceremony.read(text_of(custodians))


def refused(room, plan: Plan, *approvals: Approval) -> str:
    """The code with which the ceremony is refused; nothing was begun."""
    with pytest.raises(errors.RefusedByPolicy) as caught:
        room.parts.ceremony.hold(plan, actor="test", approvals=approvals)
    assert not room.keystore.has("token-signing-77")
    assert room.events().count("ca:ceremony:begun") == 1  # the first generation's
    assert caught.value.exit_code == 3
    return caught.value.code


def test_two_of_three_custodians_are_enough(room, plan: Plan, custodians: Custodians) -> None:
    transcript = room.parts.ceremony.hold(plan, actor="test", approvals=custodians.approvals(plan, "bold", "oyun"))
    assert room.keystore.has("token-signing-77")
    assert [each["custodian"] for each in transcript.lines[0].output["approvals"]] == ["bold", "oyun"]


@pytest.mark.parametrize("names", [(), ("bold",)])
def test_too_few_custodians_are_refused(room, plan: Plan, custodians: Custodians, names: tuple[str, ...]) -> None:
    assert refused(room, plan, *custodians.approvals(plan, *names)) == "ceremony_no_quorum"


def test_one_custodian_counts_once(room, plan: Plan, custodians: Custodians) -> None:
    twice = custodians.approvals(plan, "bold") * 2
    assert refused(room, plan, *twice) == "ceremony_duplicate_custodian"


def test_an_approval_of_another_text_is_refused(room, plan: Plan, custodians: Custodians) -> None:
    before = room.parts.ceremony.read(plan.text.replace("a-key", "b-key"))
    old = custodians.approvals(before, "bold", "oyun")
    assert refused(room, plan, *old) == "ceremony_plan_edited"
    # Not even when the approval claims to be for this text.
    claimed = dataclasses.replace(old[0], plan_sha256=plan.sha256)
    assert refused(room, plan, claimed, *custodians.approvals(plan, "oyun")) == "ceremony_approval_forged"


def test_a_foreign_custodian_is_refused(room, plan: Plan, custodians: Custodians) -> None:
    stranger = ed25519.Ed25519PrivateKey.generate()
    signature = sign(stranger, approval_message(plan.sha256))
    approvals = custodians.approvals(plan, "bold", "oyun")
    assert refused(room, plan, *approvals, Approval("stranger", plan.sha256, signature)) == "ceremony_foreign_custodian"
    # A stranger's key in a custodian's name.
    assert refused(room, plan, *approvals, Approval("saran", plan.sha256, signature)) == "ceremony_approval_forged"
    with pytest.raises(errors.ForeignCustodian):
        owner_of(stranger, plan.quorum)


def test_a_signature_over_something_else_is_no_approval(room, plan: Plan, custodians: Custodians) -> None:
    undivided = sign(custodians.keys["bold"], plan.sha256.encode())
    with pytest.raises(errors.ApprovalForged):
        approve(plan, "bold", undivided)


def test_a_ceremony_with_custodians_is_held_once(room, plan: Plan, custodians: Custodians) -> None:
    approvals = custodians.approvals(plan, "bold", "saran")
    room.parts.ceremony.hold(plan, actor="test", approvals=approvals)
    with pytest.raises(errors.CeremonyHeld):
        room.parts.ceremony.hold(plan, actor="test", approvals=approvals)


def test_outside_of_development_a_file_without_custodians_is_refused(public_room) -> None:
    plan = public_room.parts.ceremony.read(
        KEY_PLAN.format(addresses="", quorum="").replace('token = "tamga"', "")
    )
    with pytest.raises(errors.QuorumRequired):
        public_room.parts.ceremony.hold(plan, actor="test")


def test_outside_of_development_custodians_make_it_possible(public_room, custodians: Custodians) -> None:
    settings = CaSettings(base_url="http://pki.example.mn")
    plan = public_room.parts.ceremony.read(text_of(custodians, settings))
    public_room.parts.ceremony.hold(plan, actor="test", approvals=custodians.approvals(plan, "saran", "oyun"))
    assert public_room.keystore.has("token-signing-77")


def test_a_plan_for_other_addresses_or_another_token_is_refused(room, custodians: Custodians) -> None:
    elsewhere = room.parts.ceremony.read(text_of(custodians, CaSettings(base_url="http://pki.example.mn")))
    assert refused(room, elsewhere, *custodians.approvals(elsewhere, "bold", "oyun")) == "ceremony_plan_refused"
    other = room.parts.ceremony.read(text_of(custodians).replace('token = "tamga"', 'token = "vault"'))
    assert refused(room, other, *custodians.approvals(other, "bold", "oyun")) == "ceremony_plan_refused"


@pytest.mark.parametrize(
    ("what", "into"),
    [
        ("approvals = 2", "approvals = 4"),
        ("approvals = 2", "approvals = 0"),
        ("countersignatures = 0", "countersignatures = 4"),
        ('name = "oyun"', 'name = "bold"'),
        ('token = "tamga"', ""),
        ("[addresses]", "[elsewhere]"),
        ("BEGIN PUBLIC KEY", "BEGIN PUBLIC KEYS"),
        ("base_url =", "base-url ="),
        ("[quorum]", "[[quorum]]"),
    ],
)
def test_a_quorum_that_cannot_be_is_refused(custodians: Custodians, what: str, into: str) -> None:
    text = text_of(custodians)
    assert what in text
    with pytest.raises(errors.CeremonyPlanRefused):
        read_plan(text.replace(what, into), CaSettings())


def test_two_custodians_with_one_key_are_refused(custodians: Custodians) -> None:
    text = text_of(custodians)
    with pytest.raises(errors.CeremonyPlanRefused):
        read_plan(text.replace(custodians.public("saran"), custodians.public("bold")), CaSettings())


def test_a_custodian_has_an_ed25519_or_p256_key(custodians: Custodians, tmp_path: Path) -> None:
    large = Custodians()
    large.keys["bold"] = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(errors.CeremonyPlanRefused):
        read_plan(text_of(large), CaSettings())
    with pytest.raises(errors.CustodianKeyRefused):
        private_key(large.private("bold"), None)
    with pytest.raises(errors.CustodianKeyRefused):
        private_key(custodians.private("bold", "right"), "wrong")
    with pytest.raises(errors.CustodianKeyRefused):
        private_key(b"no key", None)
    opened = private_key(custodians.private("oyun", "right"), "right")
    assert opened.public_key() == custodians.keys["oyun"].public_key()


def test_approvals_lie_beside_the_plan_one_file_each(plan: Plan, custodians: Custodians, tmp_path: Path) -> None:
    path = tmp_path / "a[1].toml"  # brackets mean something to a search for files
    path.write_text(plan.text)
    for approval in custodians.approvals(plan, "bold", "oyun"):
        write_approval(path, approval)
    assert [each.custodian for each in read_approvals(path)] == ["bold", "oyun"]
    with pytest.raises(errors.DuplicateCustodian):
        write_approval(path, custodians.approvals(plan, "bold")[0])
    (tmp_path / "a[1].toml.saran.approval").write_text("{}")
    with pytest.raises(errors.ApprovalForged):
        read_approvals(path)
