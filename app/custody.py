"""The token's own secrets, made once when an instance is made and never afterwards.

A secret that cannot be found later is an outage of the token, never a reason to make another one.
"""

from __future__ import annotations

from app.settings import Settings
from hsm.keystore import KeyPurpose, Keystore
from hsm.wrapped import WrappedKeys

PAGE_SECRET = "page-mac-1"  # noqa: S105 - the name of a key


def secrets_of(settings: Settings) -> dict[str, KeyPurpose]:
    """The secrets an instance needs, by label."""
    return {
        PAGE_SECRET: KeyPurpose.MAC,
        settings.signing.link_key: KeyPurpose.MAC,
        settings.sso.subject_key: KeyPurpose.MAC,
        settings.sso.sealing_key: KeyPurpose.ENCRYPTION,
    }


def prepare(keystore: Keystore, settings: Settings) -> None:
    """Make what is missing; run by ``tamga init``, and again when an earlier run was broken off."""
    for label, purpose in secrets_of(settings).items():
        if not keystore.has(label):
            keystore.generate_secret(label, purpose)
    WrappedKeys(keystore, settings.signing.wrapping_key).prepare()
