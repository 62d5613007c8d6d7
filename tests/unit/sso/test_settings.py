"""The room's knobs: safe as they are, refused where they would not be."""

from __future__ import annotations

import pytest

from sso.settings import SsoSettings


def test_the_defaults_are_accepted() -> None:
    assert SsoSettings().code_lifetime == 60


@pytest.mark.parametrize(
    "unsafe",
    [
        {"code_lifetime": 0},
        {"code_lifetime": 61},
        {"access_token_lifetime": 601},
        {"id_token_lifetime": 601},
        {"session_idle": 1801},
        {"session_absolute": 12 * 3600 + 1},
        {"session_absolute": 60},
        {"interaction_lifetime": 10},
        {"consent_days": 400},
    ],
)
def test_an_unsafe_lifetime_stops_the_start(unsafe: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(unsafe)))):
        SsoSettings(**unsafe)
