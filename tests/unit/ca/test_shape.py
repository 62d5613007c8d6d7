"""Lint by shape: the two ways agree on every certificate, and what stands in a slot is judged every time."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from ca import errors, linting
from ca.linting import BY_SHAPE, FULL, Linter
from policies import der, names
from policies.lints import Finding
from policies.lints.every import lint_slots
from policies.lints.shape import ShapeUnreadable, dissect
from policies.profiles import load_profile, profile_names
from tests.support import octets

TODAY = octets.MOMENT.date()
CYRILLIC = "АБВГДЕЁЖЗИЙКЛМНОӨПРСТУҮФХЦЧШЩЪЫЬЭЮЯабвгдеёжзийклмноөпрстуүфхцчшщъыьэюя"
TEXTS = CYRILLIC + "ABCXYZabcxyz0123456789ЇєѳїßΩ漢字" + " .,'-()/№«»&;<>_@#+=?!\u0301\u2019"
BLOCKING = ("FATAL", "ERROR", "WARNING")


@pytest.fixture(scope="module")
def full_linter() -> Linter:
    made = Linter()
    made.warm_up()
    return made


def shapable(name: str):
    """The profile as if it let its certificates pass by shape."""
    return replace(load_profile(name), full_lint=False)


def random_text(source: random.Random, longest: int = 64) -> str:
    length = source.choice([1, 2, 3, source.randrange(4, 30), longest - 1, longest])
    letters = source.choice([CYRILLIC, CYRILLIC + " .-", TEXTS, TEXTS])
    return names.check_attribute("CN", "".join(source.choice(letters) for _ in range(length)))


def random_value(source: random.Random, label: str) -> str:
    if label == "serialNumber":
        return f"PNOMN-{source.randrange(10**12):012}"
    if label == "organizationIdentifier":
        return f"NTRMN-{source.randrange(10**7):07}"
    while label != "C":
        try:
            return random_text(source)
        except names.NameRefused:
            continue
    return "MN"


def random_dns(source: random.Random) -> str:
    label = "".join(source.choice("abcxyz019-") for _ in range(source.choice([1, 2, 5, 20, 61])))
    endings = ["mn", "example.mn", "gov.mn", "xn--l1acc", "test", "internal", "xn--90ais.mn", "com"]
    return f"{label.strip('-') or 'a'}.{source.choice(endings)}"


def random_names(source: random.Random, profile) -> tuple[tuple[str, str], ...]:
    kinds = [each.kind for each in profile.alternative_names]
    made = []
    for _ in range(source.randrange(1, 4) if kinds else 0):
        kind = source.choice(kinds)
        if kind == "DNS":
            made.append((kind, random_dns(source)))
        elif kind == "IP":
            number = source.choice([source.randrange(1, 2**31), 0xC0A80001, 0x0A000001])
            made.append(
                (kind, source.choice([".".join(map(str, number.to_bytes(4, "big"))), "2001:db8::7", "fd00::1"]))
            )
        else:
            host = random_dns(source)
            path = source.choice(["", "/", "/clients/bank-1", "/a~b", "/a%20b", "/?q=1", "/#x", "/é".encode().hex()])
            made.append((kind, source.choice(["https://", "http://", "urn://", "ldap://"]) + host + path))
    required = [each.kind for each in profile.alternative_names if each.required]
    have = {kind for kind, _ in made}
    made += [("URI", "https://id.example.mn/x") for kind in required if kind not in have]
    return tuple(dict.fromkeys(made))


def random_contents(source: random.Random, profile):
    alternatives = random_names(source, profile)
    subject = [(a.label, random_value(source, a.label)) for a in profile.subject if a.required or source.random() < 0.7]
    if profile.name == "tls-server":
        subject = [(label, text if label != "CN" else alternatives[0][1]) for label, text in subject]
        subject = [(label, text) for label, text in subject if len(text) <= 64]
    begin = octets.MOMENT + timedelta(seconds=source.randrange(20 * 365 * 86_400))
    lasting = source.choice([profile.longest_on(begin.date()), profile.validity_unit])
    if begin.year >= 2027:
        lasting = min(lasting, profile.longest_on((begin + timedelta(hours=1)).date()))
    return octets.good(
        profile,
        subject_name=names.encode_name(subject),
        alternative_names=alternatives,
        public_key=octets.key(source.choice(sorted(profile.keys))),
        not_before=begin,
        not_after=begin + lasting - timedelta(seconds=1),
    )


def blocks(findings) -> set[str]:
    return {finding.code for finding in findings if finding.severity in BLOCKING}


@pytest.mark.parametrize("name", profile_names())
def test_the_two_ways_always_agree(name: str, full_linter: Linter) -> None:
    """A certificate that would pass by its shape passes the full lint; one that the slots' rules refuse is refused."""
    profile, source = shapable(name), random.Random(f"shape {name}")
    by_shape = 0
    for _ in range(24):
        tbs = octets.tbs(profile, random_contents(source, profile))
        _, slots = dissect(tbs)
        refused = blocks(lint_slots(slots, profile))
        linted = blocks(full_linter.certificate_findings(octets.signed(tbs), profile))
        assert refused <= linted
        if not refused and slots.is_plain():
            assert not linted, slots
            by_shape += 1
    assert by_shape, "nothing was compared"


def test_the_first_of_a_shape_is_linted_in_full_and_the_next_by_its_shape() -> None:
    linter, profile = Linter(draw=lambda _n: 1), load_profile("tls-client")
    ways = [check(linter, profile) for _ in range(3)]
    assert ways == [FULL, BY_SHAPE, BY_SHAPE]


def check(linter: Linter, profile, contents=None) -> str:
    return linter.check_to_be_signed(octets.tbs(profile, contents), octets.key("P-384"), profile, TODAY)


def test_a_random_sample_is_linted_in_full_again() -> None:
    draws: list[int] = []

    def draw(one_in: int) -> int:
        draws.append(one_in)
        return len(draws) % 2

    linter, profile = Linter(draw=draw, full_lint_one_in=7), load_profile("tls-client")
    assert [check(linter, profile) for _ in range(5)] == [FULL, BY_SHAPE, FULL, BY_SHAPE, FULL]
    assert draws == [7] * 4


def test_every_certificate_of_a_qualified_profile_is_linted_in_full() -> None:
    linter, profile = Linter(draw=lambda _n: 1), load_profile("citizen-signature")
    assert [check(linter, profile) for _ in range(2)] == [FULL, FULL]


def test_one_in_one_lints_everything_in_full() -> None:
    linter, profile = Linter(full_lint_one_in=1), load_profile("tls-client")
    assert {check(linter, profile) for _ in range(4)} == {FULL}


def test_what_is_not_plain_is_linted_in_full_each_time() -> None:
    linter, profile = Linter(draw=lambda _n: 1), load_profile("tls-client")
    check(linter, profile)
    for text in ("A & B", "Банк №1; X", "O_o", "it\u2019s", "a  b"):
        subject = names.encode_name(octets.subject_of(profile, CN=text))
        assert check(linter, profile, octets.good(profile, subject_name=subject)) == FULL, text


def test_another_issuer_key_kind_profile_version_linter_or_waiver_is_another_shape(monkeypatch) -> None:
    linter, profile = Linter(draw=lambda _n: 1), load_profile("tls-client")
    check(linter, profile)
    assert check(linter, profile) == BY_SHAPE
    other_issuer = names.encode_name([*octets.ISSUER[:-1], ("CN", "Tamga CA G2")])
    assert check(linter, profile, octets.good(profile, issuer_name=other_issuer)) == FULL
    assert check(linter, profile, octets.good(profile, public_key=octets.key("P-384"))) == FULL
    assert check(linter, profile, octets.good(profile, authority_key_identifier=bytes(20))) == FULL
    assert check(linter, replace(profile, version=2)) == FULL
    assert check(linter, replace(profile, digest="0" * 64)) == FULL
    assert check(linter, profile) == BY_SHAPE
    waiver = load_profile("citizen-signature").waivers[0]
    assert check(linter, replace(profile, waivers=(replace(waiver, only_on_loopback=False),))) == FULL
    monkeypatch.setattr(linting, "lints_digest", lambda: "1" * 64)
    assert check(linter, profile) == FULL
    monkeypatch.setattr(linter, "_version", "0.0.1")
    assert check(linter, profile) == FULL


def test_no_more_shapes_are_remembered_than_there_is_room_for(monkeypatch) -> None:
    monkeypatch.setattr(linting, "MAX_SHAPES", 2)
    linter, profile = Linter(draw=lambda _n: 1), load_profile("tls-client")
    for version in (1, 2, 3):
        assert check(linter, replace(profile, version=version)) == FULL
    assert check(linter, replace(profile, version=3)) == BY_SHAPE
    assert check(linter, replace(profile, version=1)) == FULL


def test_a_sample_that_the_full_lint_refuses_ends_the_trust_in_every_shape() -> None:
    draws = [0, 1]
    linter, profile, other = Linter(draw=lambda _n: draws.pop(0)), load_profile("tls-client"), load_profile("tsa")
    check(linter, profile)
    check(linter, other)
    kind = profile.linter
    validator = linter._validators[kind]
    linter._validators[kind] = lambda _der: [Finding("pkix.something_new", "ERROR", "", "")]
    with pytest.raises(errors.LintRefused):
        check(linter, profile)
    linter._validators[kind] = validator
    assert check(linter, other) == FULL


WRONG_SLOTS = [
    ("tls-client", {"serial": 1 << 60}, "tamga.serial.form"),
    ("tls-client", {"serial": (1 << 137) + 5}, "tamga.serial.entropy"),
    ("tls-client", {"not_after": octets.MOMENT + timedelta(days=366) - timedelta(seconds=1)}, "tamga.validity.longest"),
    ("tls-client", {"not_after": octets.MOMENT - timedelta(days=1, seconds=1)}, "tamga.validity.longest"),
    ("tls-client", {"not_after": octets.MOMENT + timedelta(days=1)}, "tamga.validity.whole_days"),
    ("tls-client", {"alternative_names": (("URI", "no uri"),)}, "tamga.alternative_name.uri"),
    ("tls-client", {"alternative_names": (("URI", "https://a.mn"),) * 2}, "tamga.alternative_name.duplicate"),
    ("tls-client", {"alternative_names": (("URI", "https://a.mn"), ("IP", "10.0.0.1"))}, "tamga.alternative_name.kind"),
    ("tls-client", {"alternative_names": ()}, "tamga.alternative_name.missing"),
    ("tls-client", {"public_key": octets.key("RSA-2048")}, "tamga.key.not_in_profile"),
    ("tls-client", {"public_key": octets.key("P-521")}, "tamga.key.not_in_profile"),
    ("tls-server", {"alternative_names": (("DNS", "WWW.example.mn"),)}, "tamga.alternative_name.dns"),
    ("tls-server", {"alternative_names": (("DNS", "www.*.example.mn"),)}, "tamga.alternative_name.dns"),
    ("tls-server", {"alternative_names": (("IP", "0.0.0.0"),)}, "tamga.alternative_name.ip"),  # noqa: S104 - refused
    ("tls-server", {"alternative_names": (("DNS", "other.example.mn"),)}, "tamga.server_name.common_name"),
    ("tls-server", {"alternative_names": ()}, "tamga.alternative_name.missing"),
]


@pytest.mark.parametrize(("name", "changes", "code"), WRONG_SLOTS)
def test_a_wrong_slot_is_refused_by_shape_as_it_is_in_full(name: str, changes, code: str) -> None:
    profile, contents = load_profile(name), octets.good(load_profile(name), **changes)
    for linter in (warmed(profile), Linter(full_lint_one_in=1)):
        with pytest.raises(errors.LintRefused) as caught:
            check(linter, profile, contents)
        assert code in caught.value.facts["findings"]


def warmed(profile) -> Linter:
    """A linter that knows the profile's shape and samples nothing."""
    linter = Linter(draw=lambda _n: 1)
    check(linter, profile)
    assert check(linter, profile) == BY_SHAPE
    return linter


def subject_with(profile, label: str, tag: int, text: str) -> bytes:
    """The good subject with one attribute as nobody's encoder would write it."""
    rdns = []
    for each, value in octets.subject_of(profile):
        kind, octets_of = der.PRINTABLE_STRING if names.ATTRIBUTES[each].printable else der.UTF8_STRING, value
        if each == label:
            kind, octets_of = tag, text
        pair = der.tlv(
            der.SEQUENCE, der.object_identifier(names.ATTRIBUTES[each].oid), der.tlv(kind, octets_of.encode())
        )
        rdns.append(der.tlv(der.SET, pair))
    return der.tlv(der.SEQUENCE, *rdns)


@pytest.mark.parametrize(
    ("label", "tag", "text", "code"),
    [
        ("CN", der.UTF8_STRING, "Ө" * 65, "tamga.subject.length"),
        ("CN", der.UTF8_STRING, "ЪА85041512", "tamga.subject.register_number"),
        ("CN", der.UTF8_STRING, "---", "tamga.subject.insignificant"),
        ("CN", der.UTF8_STRING, "a\u200bb", "tamga.subject.control_character"),
        ("CN", der.UTF8_STRING, " a", "tamga.subject.empty"),
        ("CN", der.UTF8_STRING, "\u0418\u0306", "tamga.subject.normalisation"),
        ("CN", der.PRINTABLE_STRING, "Bank", "tamga.subject.string_type"),
        ("C", der.PRINTABLE_STRING, "mn", "tamga.subject.country"),
        ("organizationIdentifier", der.PRINTABLE_STRING, "NTRMN-123456", "tamga.subject.form"),
        ("organizationIdentifier", der.UTF8_STRING, "NTRMN-1234567", "tamga.subject.string_type"),
    ],
)
def test_a_wrong_name_is_refused_by_shape_as_it_is_in_full(label: str, tag: int, text: str, code: str) -> None:
    profile = load_profile("tls-client")
    contents = octets.good(profile, subject_name=subject_with(profile, label, tag, text))
    for linter in (warmed(profile), Linter(full_lint_one_in=1)):
        with pytest.raises(errors.LintRefused) as caught:
            check(linter, profile, contents)
        assert code in caught.value.facts["findings"]


def test_shape_and_slots_together_are_the_whole_certificate() -> None:
    """Whatever octet is changed, the shape or a slot is another, or the octets are no certificate of ours."""
    for name in ("tls-client", "tls-server", "tsa", "citizen-signature"):
        tbs = octets.tbs(load_profile(name))
        whole = dissect(tbs)
        for position in range(len(tbs)):
            changed = bytearray(tbs)
            changed[position] ^= 0x01
            try:
                assert dissect(bytes(changed)) != whole, (name, position)
            except ShapeUnreadable:
                continue


def test_octets_of_another_form_are_refused_in_full() -> None:
    profile, linter = load_profile("tls-client"), Linter(draw=lambda _n: 1)
    tbs = octets.tbs(profile)
    two_in_one = tbs.replace(b"NTRMN-1234567", b"NTRMN-123456\xd0")
    with pytest.raises(ShapeUnreadable):
        dissect(tbs[:-1])
    with pytest.raises(errors.LintRefused):
        linter.check_to_be_signed(two_in_one, octets.key("P-384"), profile, TODAY)


def test_only_the_shard_of_a_distribution_point_is_a_slot() -> None:
    profile = load_profile("tls-client")
    contents = octets.good(profile)
    shard = octets.tbs(profile, contents, replace(octets.POINTERS, crl="http://pki.example.mn/crl/some-g1/7f.crl"))
    elsewhere = octets.tbs(profile, contents, replace(octets.POINTERS, crl="http://pki.example.mn/crl/other/0.crl"))
    first, (shape, slots), (another, _) = dissect(octets.tbs(profile, contents)), dissect(shard), dissect(elsewhere)
    assert shape == first[0] and slots.shard == "7f.crl" and slots.is_plain()
    assert another != shape
    odd = octets.tbs(profile, contents, replace(octets.POINTERS, crl="http://pki.example.mn/crl/some-g1/%2e.crl"))
    assert not dissect(odd)[1].is_plain()
