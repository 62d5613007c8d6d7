"""Names: characters counted as characters, strings of the demanded type, identifiers of EN 319 412-1."""

from __future__ import annotations

import unicodedata

import pytest
from asn1crypto import x509
from cryptography import x509 as pyca

from policies import names
from policies.names import NameRefused


def test_a_name_is_encoded_in_order_with_the_string_types_of_rfc_5280() -> None:
    given = [("C", "MN"), ("SN", "Жамъян"), ("GN", "Өлзийхүү"), ("CN", "Ж.Өлзийхүү")]
    given.append(("serialNumber", "PNOMN-000000000017"))
    der = names.encode_name(given)
    assert list(names.read_name(der)) == given
    kinds = [attribute["value"].name for rdn in x509.Name.load(der).chosen for attribute in rdn]
    assert kinds == ["printable_string", "utf8_string", "utf8_string", "utf8_string", "printable_string"]
    assert names.name_text(der).startswith("C=MN, SN=Жамъян")


def test_a_second_encoder_gives_the_same_octets() -> None:
    der = names.encode_name([("C", "MN"), ("O", "Тамга"), ("CN", "Tamga Root G1")])
    oid = pyca.NameOID
    theirs = pyca.Name(
        [
            pyca.NameAttribute(oid.COUNTRY_NAME, "MN"),
            pyca.NameAttribute(oid.ORGANIZATION_NAME, "Тамга"),
            pyca.NameAttribute(oid.COMMON_NAME, "Tamga Root G1"),
        ]
    )
    assert theirs.public_bytes() == der


def test_lengths_are_counted_in_characters() -> None:
    assert names.check_attribute("CN", "Ө" * 64) == "Ө" * 64
    with pytest.raises(NameRefused) as caught:
        names.check_attribute("CN", "Ө" * 65)
    assert caught.value.code == "name.length"


def test_names_are_composed_before_they_are_counted_and_encoded() -> None:
    decomposed = unicodedata.normalize("NFD", "Й" * 64)
    assert names.check_attribute("CN", decomposed) == "Й" * 64


@pytest.mark.parametrize(
    ("label", "value", "code"),
    [
        ("serialNumber", "PNOMN-ЪА85041512", "name.printable"),
        ("organizationIdentifier", "NTRMN_1234567", "name.printable"),
        ("C", "mn", "name.country"),
        ("C", "M", "name.country"),
        ("CN", "", "name.empty"),
        ("CN", "Өлзийхүү ", "name.empty"),
        ("CN", "Өлзий\nхүү", "name.control_character"),
        ("CN", "Өлзий\u200bхүү", "name.control_character"),
        ("CN", "ЪА85041512", "name.register_number"),
        ("CN", "Өлзийхүү, ъа 85041512", "name.register_number"),
        ("E", "a@example.mn", "name.attribute"),
    ],
)
def test_a_value_that_cannot_stand_is_refused_with_its_code(label: str, value: str, code: str) -> None:
    with pytest.raises(NameRefused) as caught:
        names.check_attribute(label, value)
    assert caught.value.code == code


def test_identifiers_of_people_and_organisations() -> None:
    assert names.natural_person_identifier("000000000017") == "PNOMN-000000000017"
    assert names.organisation_identifier("1234567") == "NTRMN-1234567"
    for text in ("1234567", "NTRMN-1234567", " NTRKZ-1234567 "):
        assert names.read_organisation_identifier(text) == "1234567"
    for wrong in ("123456", "NTRMN1234567", "NTRMN-123456a", "१२३४५६७"):
        with pytest.raises(NameRefused):
            names.read_organisation_identifier(wrong)
    for wrong in ("17", "00000000001a", "0000000000170"):
        with pytest.raises(NameRefused):
            names.natural_person_identifier(wrong)


@pytest.mark.parametrize(
    ("given", "patronymic", "public"),
    [
        ("Өлзийхүү", "Жамъян", "Ж.Өлзийхүү"),
        ("Өлзийхүү", None, "Өлзийхүү"),
        ("Өлзийхүү", " ", "Өлзийхүү"),
        ("Ану-Үжин", "ёндон", "Ё.Ану-Үжин"),
    ],
)
def test_the_public_form_of_a_name(given: str, patronymic: str | None, public: str) -> None:
    assert names.public_name(given, patronymic) == public
