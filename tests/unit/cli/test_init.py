"""``tamga init``: an instance in one go, or in two when the first was broken off."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

import app.schema
from cli.context import Context
from cli.init import create_instance
from core.errors import Conflict


def test_a_start_that_was_broken_off_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_database: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(app.schema, "upgrade", broken)
        with pytest.raises(KeyboardInterrupt):
            create_instance(Context(), tmp_path, base_url="http://localhost:8080")
    assert not (tmp_path / "tamga.toml").exists()
    pin = (tmp_path / "token.pin").read_text()
    context = Context()
    create_instance(context, tmp_path, base_url="http://localhost:8080")
    assert (tmp_path / "token.pin").read_text() == pin
    context.services.keystore.check()
    context.services.close()


def test_an_instance_is_never_made_over_another(tmp_path: Path) -> None:
    create_instance(Context(), tmp_path, base_url="http://localhost:8080")
    with pytest.raises(Conflict):
        create_instance(Context(), tmp_path, base_url="http://localhost:8080")


def test_what_is_secret_is_for_the_owner_only(tmp_path: Path) -> None:
    create_instance(Context(), tmp_path, base_url="http://localhost:8080")
    for name in ("tamga.toml", "token.pin", "tamga.sqlite3"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
