"""``pwd``: user name and password, with brakes per account and per source."""

from __future__ import annotations

from core.logs import get_logger
from sso.authentication.attempts import ACCOUNT, ONE_TIME_CODE, SOURCE, Attempts
from sso.errors import TooManyAttempts, WrongCredentials
from sso.people import People, Person, normalised_username

log = get_logger("sso.authentication")

METHOD = "pwd"  # RFC 8176


class PasswordLogin:
    """Checks a password and, for those who have one, the code on their phone."""

    def __init__(self, people: People, attempts: Attempts) -> None:
        self._people = people
        self._attempts = attempts

    def check(self, username: str, password: str, *, source: str) -> Person:
        """The person who knows this password. Raises WrongCredentials, TooManyAttempts."""
        brakes = ((ACCOUNT, normalised_username(username)[:256]), (SOURCE, source))
        wait = max(self._attempts.wait(brake, who) for brake, who in brakes)
        if wait:
            raise TooManyAttempts(wait)
        person = self._people.check_password(username, password)
        if person is None:
            for brake, who in brakes:
                self._attempts.failed(brake, who)
            log.warning("login_failed", method=METHOD)
            raise WrongCredentials
        self._attempts.succeeded(*brakes[0])
        return person

    def check_otp(self, person_id: str, code: str) -> None:
        """Take this person's present one-time code. Raises WrongCredentials, TooManyAttempts."""
        wait = self._attempts.wait(ONE_TIME_CODE, person_id)
        if wait:
            raise TooManyAttempts(wait)
        if not self._people.take_totp(person_id, code):
            self._attempts.failed(ONE_TIME_CODE, person_id)
            log.warning("login_failed", method="otp", person_id=person_id)
            raise WrongCredentials
        self._attempts.succeeded(ONE_TIME_CODE, person_id)
