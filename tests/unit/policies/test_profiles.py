"""Profiles: data that says everything, unknown keys refused, and nothing that no profile may say."""

from __future__ import annotations

import dataclasses
from datetime import date

import pytest

from policies import algorithms, authentication, profiles
from policies.profiles import ProfileMalformed, ProfileUnknown, load_profile, parse_profile, profile_names

CITIZEN = (profiles._FOLDER / "citizen-signature.toml").read_bytes()


def test_every_profile_is_read_and_named_as_its_file() -> None:
    assert {load_profile(name).name for name in profile_names()} == set(profile_names())
    assert {"root", "issuing-ca", "ocsp-responder", "tsa", "citizen-signature"} <= set(profile_names())


def test_a_profile_cannot_be_changed_and_its_digest_follows_its_file() -> None:
    profile = load_profile("citizen-signature")
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile.version = 2  # type: ignore[misc]
    changed = parse_profile(CITIZEN.replace(b"days = 1095", b"days = 1094"), "citizen-signature")
    assert changed.digest != profile.digest


@pytest.mark.parametrize(
    ("what", "into"),
    [
        (b"version = 1", b"version = 1\nspecial = true"),
        (b'name = "citizen-signature"', b'name = "other"'),
        (b'linter = "etsi:NCP-NATURAL-PERSON-CERTIFICATE"\n', b""),
        (b'key_usage = ["content_commitment"]', b'key_usage = ["everything"]'),
        (b'key_usage = ["content_commitment"]', b"key_usage = []"),
        (b'legislation = ["MN"]', b"legislation = []"),
        (b'pds_languages = ["en"]', b'pds_languages = ["mn"]'),
        (b"longest_days = 1095", b"longest_days = 1"),
        (b"required = false", b"needed = false"),
    ],
)
def test_a_malformed_profile_is_refused(what: bytes, into: bytes) -> None:
    assert what in CITIZEN
    with pytest.raises(ProfileMalformed):
        parse_profile(CITIZEN.replace(what, into, 1), "citizen-signature")


@pytest.mark.parametrize("name", ["nobody", "../profiles/root", ""])
def test_an_unknown_profile_is_refused(name: str) -> None:
    with pytest.raises(ProfileUnknown):
        load_profile(name)


def test_no_issuing_authority_may_answer_for_its_parent_or_cut_its_responders_off() -> None:
    assert load_profile("issuing-ca").extended_key_usage == ()


@pytest.mark.parametrize(
    ("amr", "acr"),
    [
        ([], None),
        (["pwd"], authentication.LOW),
        (["otp"], authentication.LOW),
        (["pwd", "pwd"], authentication.LOW),
        (["pwd", "otp", "mfa"], authentication.SUBSTANTIAL),
        (["pwd", "hwk"], authentication.HIGH),
        (["mfa"], None),
    ],
)
def test_the_acr_reached_follows_from_the_factors_used(amr: list[str], acr: str | None) -> None:
    assert authentication.acr_for(amr) == acr


def test_a_higher_rung_satisfies_a_lower_one() -> None:
    low, substantial, high = authentication.LADDER
    assert authentication.satisfies(high, low) and authentication.satisfies(substantial, substantial)
    assert not authentication.satisfies(low, substantial)
    assert not authentication.satisfies(None, low)
    assert not authentication.satisfies(high, "urn:somebody:else")


def test_an_algorithm_is_good_until_its_last_day_and_an_unlisted_one_never() -> None:
    assert algorithms.key_algorithm_good_until("RSA-2048", date(2028, 12, 31))
    assert not algorithms.key_algorithm_good_until("RSA-2048", date(2029, 1, 1))
    assert algorithms.key_algorithm_good_until("RSA-3584", date(2029, 1, 1))
    assert not algorithms.key_algorithm_good_until("Ed25519", date(2026, 1, 1))
    assert algorithms.key_algorithm_good_until("P-256", date(2100, 1, 1))
    assert not algorithms.key_algorithm_good_until("RSA-1024", date(2020, 1, 1))
    assert algorithms.digest_good_until("sha256", date(2026, 11, 21))
    assert not algorithms.digest_good_until("sha1", date(2026, 11, 21))
