"""The transcript: replayed octet for octet without token or database, and every forgery of it found."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import shutil
import string
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca import errors, to_be_signed
from ca.ceremony.addresses import Addresses
from ca.ceremony.approval import sign
from ca.ceremony.plan import Plan
from ca.ceremony.printing import script, transcript_text
from ca.ceremony.transcript import Line, Transcript, load, read_lines, signed_message
from ca.ceremony.verification import countersign, message_under, verify
from ca.ceremony.words import LANGUAGES, WORDS
from ca.settings import CaSettings
from tests.support.custodians import Custodians
from tests.unit.ca.conftest import START, MovableClock, assembled

PLAN = """
name = "replayed"
kind = "hierarchy"
policy_url = "https://localhost/cps"
token = "tamga"
description = "A generation for the tests"
{addresses}
[organisation]
O = "Тест"
organizationIdentifier = "NTRMN-0000000"
[[authority]]
slug = "replay-root-g1"
purpose = "replay-root"
profile = "root"
version = 1
key = "P-384"
serial = "010203040506070809101112131415161718"
days = 3000
subject = {{ CN = "Replay Root G1" }}
[[authority]]
slug = "replay-g1"
purpose = "replay"
issuer = "replay-root-g1"
profile = "issuing-ca"
version = 1
key = "P-384"
days = 2000
subject = {{ CN = "Replay CA G1" }}
[[credential]]
label = "replay-token-signing-1"
issuer = "replay-g1"
profile = "token-signing"
version = 1
key = "P-256"
purpose = "token-signing"
subject = {{ CN = "{{host}}" }}
alternative_names = [{{ kind = "URI", value = "{{issuer}}" }}]
[[credential]]
label = "ocsp-root-g1-900"
issuer = "root-g1"
profile = "ocsp-responder-root"
version = 1
key = "P-256"
purpose = "ocsp"
subject = {{ CN = "Root OCSP" }}
[[cross]]
slug = "replay-root-g1-by-root-g1"
issuer = "root-g1"
authority = "replay-root-g1"
version = 1
[[key]]
label = "replay-key-1"
key = "P-256"
purpose = "token-signing"
{quorum}
"""


@dataclasses.dataclass(frozen=True)
class Held:
    plan: Plan
    text: str
    path: Path
    custodians: Custodians


@pytest.fixture(scope="module")
def ceremony(held: Path, tmp_path_factory: pytest.TempPathFactory, keystore, linter) -> Held:
    """One ceremony for all tests here, under the hierarchy of the shipped one, countersigned by one custodian."""
    folder = tmp_path_factory.mktemp("replayed")
    for file in held.iterdir():
        shutil.copy(file, folder)
    room = assembled(folder, keystore, linter, CaSettings(), MovableClock(START + timedelta(hours=1)))
    custodians = Custodians()
    quorum = custodians.table(countersignatures=1)
    plan = room.parts.ceremony.read(PLAN.format(addresses=Addresses.of(CaSettings()).toml(), quorum=quorum))
    path = folder / "replayed.jsonl"
    with Transcript.at(path) as transcript:
        approvals = custodians.approvals(plan, "bold", "oyun")
        room.parts.ceremony.hold(plan, actor="test", approvals=approvals, transcript=transcript)
    room.database.close()
    _, message = message_under(path)
    countersign(path, "oyun", sign(custodians.keys["oyun"], message), room.clock)
    for step in plan.token_keys():
        keystore.destroy(step.label)  # nothing of the token is needed to verify
    return Held(plan, path.read_text(), path, custodians)


def test_a_transcript_is_replayed_octet_for_octet(ceremony: Held) -> None:
    verified = verify(load(ceremony.path), plan_text=ceremony.plan.text)
    assert set(verified.certificates) == {
        "replay-root-g1", "replay-g1", "replay-root-g1-by-root-g1", "replay-token-signing-1", "ocsp-root-g1-900",
    }  # fmt: skip
    assert verified.approved_by == ("bold", "oyun")
    assert verified.signed_by == "replay-root-g1"
    assert verified.countersigned_by == ("oyun",)
    assert not verified.rehearsal


def broken(text: str, plan_text: str | None = None) -> errors.TranscriptBroken:
    """What is found wrong; a transcript that holds fails the test."""
    with pytest.raises(errors.TranscriptBroken) as caught:
        verify(Transcript(read_lines(text)), plan_text=plan_text)
    assert caught.value.exit_code == 1
    return caught.value


def test_another_plan_is_noticed(ceremony: Held) -> None:
    assert broken(ceremony.text, ceremony.plan.text.replace("3000", "3001")).facts["line"] == 1


def test_every_changed_line_is_noticed(ceremony: Held) -> None:
    lines = ceremony.text.splitlines()
    for position, line in enumerate(lines):
        document = json.loads(line)
        document["command"] += " "
        changed = [*lines[:position], _json(document), *lines[position + 1 :]]
        assert broken("\n".join(changed)).facts["line"] == position + 1


def test_every_dropped_line_is_noticed(ceremony: Held) -> None:
    lines = ceremony.text.splitlines()
    for position in range(len(lines)):
        assert broken("\n".join(lines[:position] + lines[position + 1 :])).facts["line"] == position + 1


def test_reordered_lines_are_noticed(ceremony: Held) -> None:
    lines = ceremony.text.splitlines()
    for position in range(len(lines) - 1):
        swapped = [*lines[:position], lines[position + 1], lines[position], *lines[position + 2 :]]
        assert broken("\n".join(swapped)).facts["line"] == position + 1


# A forger who changes a line may compute all hashes anew, and sign with keys of his own.


def forged(text: str, change: Callable[[list[dict[str, Any]]], None]) -> str:
    """The transcript after ``change``, with a chain that holds again."""
    documents = [json.loads(line) for line in text.splitlines()]
    change(documents)
    transcript = Transcript()
    for document in documents:
        moment = Line(1, MovableClock()(), "", "", "", {}, "", "").at.fromisoformat(document["at"])
        transcript.append(
            lambda moment=moment: moment, document["act"], document["subject"], document["command"], document["output"]
        )
    return transcript.text


def find(documents: list[dict[str, Any]], act: str, subject: str) -> dict[str, Any]:
    return next(each for each in documents if (each["act"], each["subject"]) == (act, subject))


def resigned(documents: list[dict[str, Any]], subject: str, key: ec.EllipticCurvePrivateKey) -> None:
    """Put another TBS signature by ``key`` under a certificate."""
    line = find(documents, "certificate", subject)
    der = base64.b64decode(line["output"]["certificate"])
    tbs = to_be_signed.tbs_of(der)
    line["output"]["certificate"] = _b64(to_be_signed.assemble(tbs, key.public_key(), to_be_signed.sign(key, tbs)))


def test_a_foreign_key_under_a_certificate_is_noticed(ceremony: Held) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    text = forged(ceremony.text, lambda documents: resigned(documents, "replay-g1", key))
    assert "does not verify under the issuer's key" in broken(text).detail


def test_a_foreign_signature_over_the_transcript_is_noticed(ceremony: Held) -> None:
    key = ec.generate_private_key(ec.SECP384R1())

    def change(documents: list[dict[str, Any]]) -> None:
        closed = Line(1, MovableClock()(), "", "", "", {}, "", documents[-3]["hash"])
        assert documents[-3]["act"] == "closed"
        output = find(documents, "signed", "replay-root-g1")["output"]
        output["signature"] = _b64(to_be_signed.sign(key, signed_message(closed)))

    assert "signature over the transcript" in broken(forged(ceremony.text, change)).detail

    def change_both(documents: list[dict[str, Any]]) -> None:
        change(documents)
        find(documents, "signed", "replay-root-g1")["output"]["spki"] = _b64(
            spki_of(key.public_key())
        )

    assert "foreign key" in broken(forged(ceremony.text, change_both)).detail


@pytest.mark.parametrize(
    ("act", "subject", "member", "value"),
    [
        ("opened", "replayed", "approvals", []),
        ("opened", "replayed", "plan_sha256", "00" * 32),
        ("opened", "replayed", "profiles", {}),
        ("opened", "replayed", "standing", {}),
        ("opened", "replayed", "addresses", Addresses.of(CaSettings(base_url="http://pki.example.mn")).table()),
        ("opened", "replayed", "token", {"label": "vault"}),
        ("key", "replay-g1", "algorithm", "P-256"),
        ("key", "replay-g1", "purpose", "ocsp"),
        ("key", "replay-g1", "key_id", "00" * 20),
        ("certificate", "replay-root-g1", "serial", "00" * 18),
        ("certificate", "replay-g1", "sha256", "00" * 32),
        ("public-key", "replay-key-1", "spki_sha256", "00" * 32),
        ("crl", "replay-g1", "entries", 1),
        ("crl", "replay-g1", "sha256", "00" * 32),
        ("closed", "replayed", "lines", 3),
    ],
)
def test_a_line_that_says_something_else_is_noticed_though_all_hashes_fit(
    ceremony: Held, act: str, subject: str, member: str, value: object
) -> None:
    def change(documents: list[dict[str, Any]]) -> None:
        output = find(documents, act, subject)["output"]
        assert output[member] != value
        output[member] = value

    broken(forged(ceremony.text, change))


def test_a_key_that_could_leave_the_token_is_noticed(ceremony: Held) -> None:
    def change(documents: list[dict[str, Any]]) -> None:
        find(documents, "key", "replay-g1")["output"]["attributes"]["extractable"] = True

    assert "stays in it" in broken(forged(ceremony.text, change)).detail


def test_a_key_exchanged_for_another_is_noticed(ceremony: Held) -> None:
    spki = spki_of(ec.generate_private_key(ec.SECP384R1()).public_key())

    def change(documents: list[dict[str, Any]]) -> None:
        output = find(documents, "key", "replay-g1")["output"]
        output |= {"spki": _b64(spki), "key_id": hashlib.sha256(spki).digest()[:20].hex()}

    assert "not what the plan and the key give" in broken(forged(ceremony.text, change)).detail


def test_the_crl_of_another_authority_is_noticed(ceremony: Held) -> None:
    def change(documents: list[dict[str, Any]]) -> None:
        find(documents, "crl", "replay-g1")["output"] = find(documents, "crl", "replay-root-g1")["output"]

    assert "not what the plan and the key give" in broken(forged(ceremony.text, change)).detail


def test_an_edited_plan_is_noticed_though_all_hashes_fit(ceremony: Held) -> None:
    def change(documents: list[dict[str, Any]]) -> None:
        plan = documents[0]["output"]["plan"].replace("Replay CA G1", "Replay CA G9")
        documents[0]["output"] |= {"plan": plan, "plan_sha256": hashlib.sha256(plan.encode()).hexdigest()}

    assert broken(forged(ceremony.text, change)).facts["cause"] == "ceremony_plan_edited"


def test_a_line_too_many_or_too_few_is_noticed_though_all_hashes_fit(ceremony: Held) -> None:
    broken(forged(ceremony.text, lambda documents: documents.insert(3, documents[2])))
    broken(forged(ceremony.text, lambda documents: documents.remove(find(documents, "crl", "replay-g1"))))
    broken(forged(ceremony.text, lambda documents: documents.remove(find(documents, "signed", "replay-root-g1"))))
    broken(forged(ceremony.text, lambda documents: documents.reverse()))
    broken("")


def test_a_rehearsal_does_not_pass_for_a_ceremony(ceremony: Held) -> None:
    # Whoever says "rehearsal" to be spared the approvals changes what the key signed.
    def change(documents: list[dict[str, Any]]) -> None:
        documents[0]["output"] |= {"rehearsal": True, "approvals": []}

    assert "signature over the transcript" in broken(forged(ceremony.text, change)).detail


def test_countersignatures_are_by_custodians_once_and_over_this_transcript(ceremony: Held, tmp_path: Path) -> None:
    path = tmp_path / "replayed.jsonl"
    path.write_text(ceremony.text)
    _, message = message_under(path)
    with pytest.raises(errors.DuplicateCustodian):
        countersign(path, "oyun", sign(ceremony.custodians.keys["oyun"], message))
    with pytest.raises(errors.ForeignCustodian):
        countersign(path, "stranger", sign(ceremony.custodians.keys["saran"], message))
    with pytest.raises(errors.ApprovalForged):
        countersign(path, "saran", sign(ceremony.custodians.keys["bold"], message))
    assert path.read_text() == ceremony.text
    countersign(path, "saran", sign(ceremony.custodians.keys["saran"], message))
    assert verify(load(path)).countersigned_by == ("oyun", "saran")
    foreign = forged(ceremony.text, lambda documents: documents[-1].update(subject="stranger"))
    assert "no custodian stranger" in broken(foreign).detail


def test_a_transcript_that_is_not_closed_cannot_be_countersigned(ceremony: Held, tmp_path: Path) -> None:
    path = tmp_path / "open.jsonl"
    path.write_text("".join(line + "\n" for line in ceremony.text.splitlines()[:5]))
    with pytest.raises(errors.TranscriptBroken):
        message_under(path)


def test_a_line_that_was_being_written_is_written_again(ceremony: Held, tmp_path: Path) -> None:
    path = tmp_path / "torn.jsonl"
    lines = ceremony.text.splitlines(keepends=True)
    path.write_text("".join(lines[:3]) + lines[3][:40])
    with Transcript.at(path) as transcript:
        assert len(transcript.lines) == 3
        with pytest.raises(errors.CeremonyHeld):  # nobody else can add to it meanwhile
            Transcript.at(path)
    assert path.read_text() == "".join(lines[:3])


def test_a_plan_may_hold_every_character(room, tmp_path: Path, fresh_keys: None) -> None:
    # Line ends of other worlds: a transcript's lines end by a line feed only.
    text = 'name = "odd"\nkind = "key"\npolicy_url = "https://localhost/cps"\ndescription = "\u2028 \u2029"\n'
    plan = room.parts.ceremony.read(text + '[[key]]\nlabel = "odd-1"\nkey = "P-256"\npurpose = "token-signing"\n')
    with Transcript.at(tmp_path / "odd.jsonl") as transcript:
        room.parts.ceremony.hold(plan, actor="test", transcript=transcript)
    assert verify(load(tmp_path / "odd.jsonl")).signed_by == "odd-1"


def test_a_ceremony_that_went_on_a_day_later_is_replayed_too(
    room, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh_keys: None
) -> None:
    text = room.parts.drafting.next_generation("seal")
    plan, path = room.parts.ceremony.read(text), tmp_path / "seal-g2.jsonl"

    def cut(original: Callable[..., Line]) -> Callable[..., Line]:
        def append(self: Transcript, clock: object, act: str, *rest: object) -> Line:
            if act == "certificate":
                raise KeyboardInterrupt  # the certificate is signed, its line is not written
            return original(self, clock, act, *rest)

        return append

    monkeypatch.setattr(Transcript, "append", cut(Transcript.append))
    with pytest.raises(KeyboardInterrupt), Transcript.at(path) as transcript:
        room.parts.ceremony.hold(plan, actor="test", transcript=transcript)
    monkeypatch.undo()
    assert room.parts.hierarchy.authority("seal-g2").issuer == "root-g1"
    room.clock.advance(timedelta(days=1))
    asked: list[str] = []
    with Transcript.at(path) as transcript:
        room.parts.ceremony.hold(
            plan, actor="test", transcript=transcript, confirm=lambda step: asked.append(step.name)
        )
    assert asked == ["ocsp-seal-g2-1", "seal-g2"]  # nobody is asked again for what is done: the responder, the CRL
    assert set(verify(load(path)).certificates) == {"seal-g2", "ocsp-seal-g2-1"}


def test_a_transcript_of_another_ceremony_is_not_gone_on_with(room, ceremony: Held, tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(ceremony.text)
    plan = room.parts.ceremony.read(room.parts.drafting.next_generation("seal"))
    with Transcript.at(path) as transcript, pytest.raises(errors.CeremonyHeld):
        room.parts.ceremony.hold(plan, actor="test", transcript=transcript)
    assert path.read_text() == ceremony.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_script_and_transcript_are_printed_in_both_languages(ceremony: Held, language: str) -> None:
    words = WORDS[language]
    written = script(ceremony.plan, language)
    assert words["script"] in written and ceremony.plan.sha256 in written
    for custodian in ceremony.plan.quorum.custodians:
        assert custodian.name in written and custodian.fingerprint in written
    transcript = load(ceremony.path)
    filed = transcript_text(transcript, verify(transcript), language)
    assert words["transcript"] in filed
    assert all(line.hash in filed for line in transcript.lines)
    assert max(map(len, (written + filed).splitlines())) <= 96


def test_the_words_are_complete_in_both_languages() -> None:
    assert WORDS["mn"].keys() == WORDS["en"].keys()
    for key in WORDS["en"]:
        assert WORDS["mn"][key].strip() and WORDS["en"][key].strip()
        assert any("Ѐ" <= letter <= "ӿ" for letter in WORDS["mn"][key]) or key == "of"
        fields = [{name for _, name, _, _ in string.Formatter().parse(WORDS[of][key]) if name} for of in LANGUAGES]
        assert fields[0] == fields[1], key


def spki_of(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
