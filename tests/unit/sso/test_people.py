"""The register of people: sealed numbers, one person a number, names as they are written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, update

from hsm.errors import SealBroken
from sso.errors import CivilIdTaken, InvalidPerson, PersonNotFound, UsernameTaken
from sso.people import NewPerson
from sso.tables import PersonIdentifierRow, PersonRow
from tests.unit.sso.conftest import House, Somebody

NEW = NewPerson("bold", "Болд", "Загвар", "000000000101", "a long enough one")


def test_a_person_is_found_by_name_id_and_number(house: House) -> None:
    people = house.parts.people
    made = people.create(NEW, actor="test", totp=False).person
    assert people.by_username("BOLD") == people.by_civil_id("000000000101") == people.get(made.id) == made
    assert (made.name, made.display_name, made.has_totp) == ("Загвар Болд", "З.Болд", False)
    facts = people.certificate_facts(made.id)
    assert (facts.given_name, facts.family_name, facts.civil_id) == ("Болд", "Загвар", "000000000101")
    assert "000000000101" not in repr(facts) and "Болд" not in repr(made) and "long" not in repr(NEW)


def test_the_civil_id_is_sealed_for_its_own_person(house: House) -> None:
    one = house.parts.people.create(NEW, actor="test", totp=True).person
    two = house.parts.people.create(replace(NEW, username="dorj", civil_id="000000000102"), actor="test", totp=True)
    with house.database.transaction() as session:
        rows = {row.person_id: row for row in session.scalars(select(PersonIdentifierRow))}
        assert b"000000000101" not in rows[one.id].sealed + rows[one.id].mac
        session.execute(
            update(PersonIdentifierRow)
            .where(PersonIdentifierRow.person_id == two.person.id)
            .values(sealed=rows[one.id].sealed)
        )
    with pytest.raises(SealBroken):
        house.parts.people.certificate_facts(two.person.id)


def test_names_and_numbers_are_taken_once(house: House) -> None:
    house.parts.people.create(NEW, actor="test", totp=False)
    with pytest.raises(UsernameTaken):
        house.parts.people.create(replace(NEW, username="Bold", civil_id="000000000102"), actor="test", totp=False)
    with pytest.raises(CivilIdTaken):
        house.parts.people.create(replace(NEW, username="dorj"), actor="test", totp=False)
    assert house.events().count("sso:person:created") == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"username": "x"},
        {"username": "a b c"},
        {"username": "болд"},
        {"given_name": ""},
        {"given_name": "   "},
        {"given_name": "Болд\n"[:-1] + "\u202e"},
        {"family_name": "x" * 65},
        {"civil_id": "12345678901"},
        {"civil_id": "٠٠٠٠٠٠٠٠٠١٠١"},
        {"civil_id": "000000000101\n"},
        {"password": "short"},
        {"password": "x" * 300},
    ],
)
def test_malformed_facts_are_refused(house: House, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidPerson) as refused:
        house.parts.people.create(replace(NEW, **changes), actor="test", totp=False)
    assert all(str(value) not in str(refused.value) for value in changes.values() if str(value).strip())


def test_a_name_typed_in_pieces_is_the_same_name(house: House) -> None:
    made = house.parts.people.create(replace(NEW, given_name="И\u0306олт"), actor="test", totp=False).person
    assert made.given_name == "Йолт"


def test_somebody_without_a_patronymic_is_named_alone(house: House) -> None:
    made = house.parts.people.create(replace(NEW, given_name="Alex Example", family_name=""), actor="t", totp=False)
    assert made.person.name == made.person.display_name == "Alex Example"


def test_a_disabled_person_gets_no_certificate(house: House, citizen: Somebody) -> None:
    house.parts.people.disable(citizen.id, actor="test")
    with pytest.raises(PersonNotFound):
        house.parts.people.certificate_facts(citizen.id)
    with pytest.raises(PersonNotFound):
        house.parts.people.get("nobody")
    with pytest.raises(PersonNotFound):
        house.parts.people.disable("nobody", actor="test")


def test_a_password_made_with_old_parameters_is_made_anew_at_login(house: House, citizen: Somebody) -> None:
    from argon2 import PasswordHasher

    weak = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash("an old one, long")
    with house.database.transaction() as session:
        session.execute(update(PersonRow).where(PersonRow.id == citizen.id).values(password_hash=weak))
    assert house.parts.people.check_password(citizen.username, "an old one, long") is not None
    with house.database.reading() as session:
        row = session.get(PersonRow, citizen.id)
    assert row is not None and row.password_hash != weak and "m=19456,t=2,p=1" in row.password_hash
    assert house.parts.people.check_password(citizen.username, "an old one, long") is not None
    assert "sso:password:rehashed" in house.events()
