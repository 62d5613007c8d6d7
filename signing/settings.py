"""What an operator may set for the signing room."""

from __future__ import annotations

import re
from dataclasses import dataclass

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class SigningSettings:
    """Limits, lifetimes and key labels of signing and validation."""


    document_limit: int = 100 * MEBIBYTE
    """Largest document taken inline, in octets."""

    verify_page_limit: int = 20 * MEBIBYTE
    """Largest document the public verification page takes, in octets."""

    default_deadline: int = 30 * 60
    """How long a signer has when the organisation names no deadline, in seconds."""

    signing_time_limit: int = 120
    """How long an approved signature may take before it counts as interrupted, in seconds."""

    token_signing_key: str = "token-signing-1"  # noqa: S105 - the name of a key
    """Token key that signs webhooks; its public half is in the instance's JWKS."""

    link_key: str = "page-mac-1"
    """Token secret from which signing links are derived; a new one ends every link that is out."""

    wrapping_key: str = "wrapping-1"
    """Token key under which an instance's first citizens' keys are wrapped; rotation counts its number up."""

    pdf_workers: int = 2
    """Processes that read documents, each within 512 MiB."""

    validation_policy: str = "mn-default"
    """Signature validation policy where the caller names none."""

    pin_attempts: int = 5
    """Wrong PINs until a credential locks."""

    pin_lock: int = 15 * 60
    """Length of the first lock in seconds; it doubles with each further one, up to a day."""

    def __post_init__(self) -> None:
        """Refuse values that would make limits meaningless."""
        if not 0 < self.document_limit <= 100 * MEBIBYTE or not 0 < self.verify_page_limit <= self.document_limit:
            raise ValueError("document_limit is at most 100 MiB, verify_page_limit at most document_limit")
        if not 1 <= self.pin_attempts <= 10 or self.pin_lock < 60:
            raise ValueError("pin_attempts must be 1 to 10 and pin_lock at least 60 seconds")
        if self.signing_time_limit < 30 or self.default_deadline < 300:
            raise ValueError("signing_time_limit is at least 30 seconds, default_deadline at least 5 minutes")
        if not re.fullmatch(r"[a-z][a-z0-9-]*-[1-9][0-9]{0,5}", self.wrapping_key):
            raise ValueError("wrapping_key ends with the number of its generation, such as wrapping-1")
