"""DER: our few writers against another implementation, and a reader that takes one form of everything."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from asn1crypto import core
from asn1crypto import x509 as asn1_x509

from policies import der
from policies.der import DerMalformed


@pytest.mark.parametrize("value", [0, 1, 127, 128, 255, 256, 2**63, 2**159 - 1, int.from_bytes(b"\x01" + bytes(17))])
def test_integers_are_written_as_another_implementation_writes_them(value: int) -> None:
    assert der.integer(value) == core.Integer(value).dump()


@pytest.mark.parametrize(
    "dotted", ["2.5.4.3", "1.2.840.113549.1.1.11", "0.4.0.194112.1.2", "2.999.1", "1.3.6.1.4.1.32473.1"]
)
def test_object_identifiers_are_written_as_another_implementation_writes_them(dotted: str) -> None:
    assert der.object_identifier(dotted) == core.ObjectIdentifier(dotted).dump()


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 65_535, 65_536, 300_000])
def test_every_length_takes_its_shortest_form(length: int) -> None:
    octets = bytes(length)
    assert der.tlv(der.OCTET_STRING, octets) == core.OctetString(octets).dump()
    assert der.element(der.tlv(der.OCTET_STRING, octets)).content == octets


def test_times_turn_to_generalized_time_in_2050() -> None:
    last = datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert der.time(last) == asn1_x509.Time(name="utc_time", value=core.UTCTime(last)).dump()
    first = last + timedelta(seconds=1)
    assert der.time(first) == asn1_x509.Time(name="general_time", value=core.GeneralizedTime(first)).dump()


def test_a_bit_string_of_octets_has_no_unused_bits() -> None:
    assert der.bit_string(b"\x04abc") == core.OctetBitString(b"\x04abc").dump()


@pytest.mark.parametrize(
    ("octets", "what"),
    [
        ("30", "cut off"),
        ("3002", "cut off"),
        ("300205", "cut off"),
        ("3080", "indefinite"),
        ("308102", "shortest"),
        ("30817f" + "00" * 127, "shortest"),
        ("3082007f" + "00" * 127, "cut off or too long"),
        ("308500000000" + "01", "cut off or too long"),
        ("30850100000000", "cut off or too long"),
        ("1f8101" + "0100", "more than one octet"),
        ("05000500", "not one value"),
        ("", "not one value"),
    ],
)
def test_what_is_not_der_is_refused(octets: str, what: str) -> None:
    with pytest.raises(DerMalformed, match=what):
        der.element(bytes.fromhex(octets))


def test_random_octets_are_read_or_refused_and_nothing_else() -> None:
    source = random.Random(690)
    for _ in range(3000):
        octets = source.randbytes(source.randrange(40))
        try:
            found = der.elements(octets)
        except DerMalformed:
            continue
        assert b"".join(each.encoded for each in found) == octets
