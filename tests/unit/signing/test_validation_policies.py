"""Policy files and sentences are complete, and say what they mean."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from policies.signature_validation import (
    PolicyMalformed,
    PolicyNotFound,
    Severity,
    load_policy,
    parse_policy,
    policy_ids,
)
from signing.validation.findings import CODES
from signing.validation.process import Indication, SubIndication
from signing.validation.report import NO_SIGNATURE_FOUND
from signing.validation.sentences import LANGUAGES, catalogue


def test_the_shipped_policies_are_these() -> None:
    assert policy_ids() == {"mn-default", "mn-strict", "foreign"}


@pytest.mark.parametrize("name", ["mn-default", "mn-strict", "foreign"])
def test_a_policy_says_something_about_every_finding(name: str) -> None:
    policy = load_policy(name)
    assert policy.id == name
    assert set(policy.checks) == CODES
    assert len(policy.digest) == 64


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_finding_has_a_sentence_in_both_languages(code: str) -> None:
    assert all(catalogue()["finding"][code][language].strip() for language in LANGUAGES)


def test_every_indication_has_sentences_and_a_next_step() -> None:
    sections = catalogue()
    assert set(sections["sub_indication"]) == {entry.value for entry in SubIndication}
    assert set(sections["document"]) == {entry.value for entry in Indication} | {NO_SIGNATURE_FOUND}
    assert set(sections["time_stamp"]) == {entry.value for entry in Indication}
    for entry in (*sections["sub_indication"].values(), *sections["indication"].values()):
        assert entry["next"] in sections["next_step"]
    for section in sections.values():
        for entry in section.values():
            assert set(entry) - {"next"} == set(LANGUAGES)


def test_sentences_of_the_two_languages_differ_in_script() -> None:
    for section in catalogue().values():
        for entry in section.values():
            assert not any("а" <= character.lower() <= "я" for character in entry["en"])
            assert not entry["mn"] or any("а" <= character.lower() <= "я" for character in entry["mn"])


def test_algorithms_end_on_their_day() -> None:
    policy = load_policy("mn-default")
    assert policy.hash_accepted("sha1", datetime(2012, 8, 1, 23, 59, tzinfo=UTC))
    assert not policy.hash_accepted("sha1", datetime(2012, 8, 2, tzinfo=UTC))
    assert policy.hash_accepted("sha256", datetime(2099, 1, 1, tzinfo=UTC))
    assert policy.key_accepted("rsa", 2048, datetime(2028, 12, 31, tzinfo=UTC))
    assert not policy.key_accepted("rsa", 2048, datetime(2029, 1, 1, tzinfo=UTC))
    assert policy.key_accepted("rsa", 3072, datetime(2029, 1, 1, tzinfo=UTC))
    assert not policy.hash_accepted("unheard-of", datetime(2020, 1, 1, tzinfo=UTC))


def test_an_unknown_finding_fails() -> None:
    assert load_policy("foreign").severity("SOMETHING_NEW") is Severity.FAIL


def test_unknown_ids_and_malformed_files_are_refused() -> None:
    for name in ("", "nothing", "../validation/mn-default"):
        with pytest.raises(PolicyNotFound):
            load_policy(name)
    for text in ("", "id = 1", "surprise = true", "\xff"):
        with pytest.raises(PolicyMalformed):
            parse_policy(text.encode("latin-1"))
