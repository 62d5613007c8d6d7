"""Profiles: data that says everything, unknown keys refused, and nothing that no profile may say."""

from __future__ import annotations

import dataclasses
from datetime import date, timedelta
from pathlib import Path

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
    assert load_profile("issuing-ca-tls").extended_key_usage == ("serverAuth", "clientAuth")


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


SERVER = (profiles._FOLDER / "tls-server.toml").read_bytes()


@pytest.mark.parametrize(
    ("day", "days"),
    [
        (date(2026, 11, 22), 199),
        (date(2027, 3, 14), 199),
        (date(2027, 3, 15), 99),
        (date(2029, 3, 14), 99),
        (date(2029, 3, 15), 46),
        (date(2040, 1, 1), 46),
    ],
)
def test_a_servers_certificate_lives_a_day_less_than_the_baseline_requirements_allow(day: date, days: int) -> None:
    profile = load_profile("tls-server")
    assert profile.validity_on(day) == profile.longest_on(day) == timedelta(days=days)


def test_a_profile_without_dates_says_the_same_every_day() -> None:
    profile = load_profile("citizen-signature")
    assert profile.validity_on(date(2026, 1, 1)) == profile.validity_on(date(2099, 1, 1)) == timedelta(days=1095)


@pytest.mark.parametrize(
    ("what", "into"),
    [
        (b"day = 2029-03-15", b"day = 2027-03-15"),
        (b"day = 2029-03-15", b"day = 2026-03-15"),
        (b"days = 46, longest_days = 46", b"days = 99, longest_days = 120"),
        (b"days = 46, longest_days = 46", b"days = 47, longest_days = 46"),
        (b"days = 46, longest_days = 46", b"days = 46, longest_days = 46, hours = 1"),
        (b"days = 199\n", b"days = 0\n"),
        (b'extended_key_usage = ["serverAuth"]', b'extended_key_usage = ["serverAuth"]\nmay_be_suspended = true'),
    ],
)
def test_limits_by_date_only_tighten_and_servers_are_never_suspended(what: bytes, into: bytes) -> None:
    assert what in SERVER
    with pytest.raises(ProfileMalformed):
        parse_profile(SERVER.replace(what, into, 1), "tls-server")


def test_a_certificate_for_one_signature_lives_minutes_and_is_counted_in_minutes() -> None:
    profile = load_profile("citizen-signature-short")
    assert profile.validity == timedelta(minutes=15) and profile.longest_validity == timedelta(days=1)
    assert profile.validity_unit == timedelta(minutes=1)
    assert load_profile("citizen-signature").validity_unit == timedelta(days=1)


def test_qualified_certificates_are_linted_in_full_unless_their_profile_says_otherwise() -> None:
    demanding = {name for name in profile_names() if load_profile(name).full_lint}
    assert demanding == {name for name in profile_names() if load_profile(name).qualified}
    relaxed = CITIZEN.replace(b"enrolled = true", b"enrolled = true\nfull_lint = false", 1)
    assert not parse_profile(relaxed, "citizen-signature").full_lint


def test_the_five_year_variants_differ_in_their_years_only() -> None:
    for name in ("citizen-signature", "citizen-authentication"):
        three, five = load_profile(name), load_profile(f"{name}-5y")
        lasting = {"validity": five.validity, "longest_validity": five.longest_validity}
        assert five.validity == timedelta(days=1826)
        assert dataclasses.replace(three, name=five.name, digest=five.digest, **lasting) == five


def test_a_version_that_was_replaced_is_kept_beside_the_one_that_issues(tmp_path: Path, monkeypatch) -> None:
    newer = CITIZEN.replace(b"version = 1", b"version = 3").replace(b"days = 1095", b"days = 1000")
    (tmp_path / "citizen-signature.toml").write_bytes(newer)
    (tmp_path / "citizen-signature@1.toml").write_bytes(CITIZEN)
    monkeypatch.setattr(profiles, "_FOLDER", tmp_path)
    profiles.load_profile.cache_clear()
    try:
        assert profile_names() == ("citizen-signature",)
        assert profiles.profile_versions("citizen-signature") == (1, 3)
        assert load_profile("citizen-signature").version == 3
        assert load_profile("citizen-signature", 3) == load_profile("citizen-signature")
        kept = load_profile("citizen-signature", 1)
        assert kept.version == 1 and kept.validity == timedelta(days=1095)
        with pytest.raises(ProfileUnknown):
            load_profile("citizen-signature", 2)
        (tmp_path / "citizen-signature@2.toml").write_bytes(CITIZEN)
        with pytest.raises(ProfileMalformed):
            load_profile("citizen-signature", 2)
    finally:
        profiles.load_profile.cache_clear()
