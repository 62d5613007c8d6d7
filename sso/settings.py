"""The knobs of the OpenID provider; every default is the safe value of its standard."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SsoSettings:
    """Lifetimes are in seconds."""

    signing_key: str = "token-signing-1"
    """Label of the P-256 key in the token that signs ID tokens (ES256)."""
    subject_key: str = "subject-mac-1"
    """Label of the token secret behind pairwise subjects and the look-up of national identifiers."""
    sealing_key: str = "seal-1"
    """Label of the token secret that seals national identifiers and TOTP secrets at rest."""
    code_lifetime: int = 60
    """RFC 6749 4.1.2 advises at most ten minutes; a redirect needs seconds."""
    access_token_lifetime: int = 600
    """Ten minutes: a stolen token is worth little and userinfo is read at once."""
    id_token_lifetime: int = 600
    """An ID token proves a login that has just happened."""
    session_idle: int = 900
    """A session nobody uses for this long is over; each use starts it anew."""
    session_absolute: int = 12 * 3600
    """No session outlives half a day, used or not."""
    interaction_lifetime: int = 1800
    """How long a person may take from the service's request to the end of login and consent."""
    consent_days: int = 365
    """A remembered consent is asked again after this many days."""

    def __post_init__(self) -> None:
        if not 1 <= self.code_lifetime <= 60:
            raise ValueError("code_lifetime must be 1 to 60 seconds")
        if not 60 <= self.access_token_lifetime <= 600 or not 60 <= self.id_token_lifetime <= 600:
            raise ValueError("access_token_lifetime and id_token_lifetime must be 60 to 600 seconds")
        if not 60 <= self.session_idle <= 1800:
            raise ValueError("session_idle must be 60 to 1800 seconds")
        if not self.session_idle <= self.session_absolute <= 12 * 3600:
            raise ValueError("session_absolute must be at least session_idle and at most 12 hours")
        if not 300 <= self.interaction_lifetime <= 3600:
            raise ValueError("interaction_lifetime must be 300 to 3600 seconds")
        if not 1 <= self.consent_days <= 366:
            raise ValueError("consent_days must be 1 to 366")
