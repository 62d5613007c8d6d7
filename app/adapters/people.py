"""What signing asks about people, answered by the register of people."""

from __future__ import annotations

from signing.ports import PersonFacts
from sso.errors import PersonNotFound
from sso.people import People
from sso.subjects import Subjects


class RegisteredPeople:
    """Answers ``signing.ports.Persons``."""

    def __init__(self, people: People, subjects: Subjects) -> None:
        self._people = people
        self._subjects = subjects

    def person_for_subject(self, client_id: str, sub: str) -> str | None:
        """The person behind a pairwise subject."""
        try:
            return self._subjects.person_for(client_id, sub)
        except PersonNotFound:
            return None

    def person(self, person_id: str) -> PersonFacts | None:
        """Public facts of somebody who may act; the civil id's last two digits are all that is shown."""
        try:
            person = self._people.get(person_id)
            facts = self._people.certificate_facts(person_id)
        except PersonNotFound:
            return None
        if not person.enabled:
            return None
        masked = f"PNOMN-{'•' * 10}{facts.civil_id[-2:]}"
        return PersonFacts(person.id, person.display_name, person.given_name, person.family_name or None, masked)
