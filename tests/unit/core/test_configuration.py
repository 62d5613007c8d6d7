"""Settings stop the start with the name of what is wrong, and mean what they say."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from core.configuration import ConfigurationError, load


@dataclass(frozen=True)
class DoorSettings:
    port: int = 8080
    patience: float = 1.5
    open: bool = True
    rooms: tuple[str, ...] = ("ca", "ocsp")
    level: Literal["info", "debug"] = "info"


@dataclass(frozen=True)
class VaultSettings:
    pin_file: Path
    spare: Path | None = None


@dataclass(frozen=True)
class HouseSettings:
    name: str
    vault: VaultSettings
    door: DoorSettings = field(default_factory=DoorSettings)

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a house needs a name")


MINIMUM = 'name = "Тамга"\n[vault]\npin_file = "secrets/pin"\n'


def house(tmp_path: Path, text: str = MINIMUM, **environ: str) -> HouseSettings:
    path = tmp_path / "tamga.toml"
    path.write_text(text, "utf-8")
    return load(HouseSettings, path, environ)


def test_what_the_file_leaves_out_has_its_default(tmp_path: Path) -> None:
    assert house(tmp_path).door == DoorSettings()
    assert house(tmp_path).name == "Тамга"


def test_a_relative_path_starts_at_the_files_own_folder(tmp_path: Path) -> None:
    assert house(tmp_path).vault.pin_file == tmp_path / "secrets" / "pin"


def test_an_absolute_path_stays(tmp_path: Path) -> None:
    assert house(tmp_path, TAMGA_VAULT__PIN_FILE="/etc/pin").vault.pin_file == Path("/etc/pin")


def test_a_variable_overrides_the_file_in_every_type(tmp_path: Path) -> None:
    settings = house(
        tmp_path,
        MINIMUM + "[door]\nport = 1\n",
        TAMGA_NAME="Seal",
        TAMGA_DOOR__PORT="9",
        TAMGA_DOOR__PATIENCE="2",
        TAMGA_DOOR__OPEN="False",
        TAMGA_DOOR__ROOMS="sso, signing",
        TAMGA_DOOR__LEVEL="debug",
        TAMGA_VAULT__SPARE="",
    )
    assert settings.name == "Seal"
    assert settings.door == DoorSettings(9, 2.0, False, ("sso", "signing"), "debug")
    assert settings.vault.spare is None


def test_variables_of_others_and_of_the_tools_are_no_settings(tmp_path: Path) -> None:
    assert house(tmp_path, PATH="/bin", TAMGA_CONFIG="x", TAMGA_REQUIRE_ALL="1").name


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("colour = 1\n" + MINIMUM, "unknown setting colour"),
        (MINIMUM + "spares = 1\n", "unknown setting vault.spares"),
        ('name = "x"\n', "vault.pin_file is missing"),
        ('[vault]\npin_file = "p"\n', "name is missing"),
        ('name = ""\n[vault]\npin_file = "p"\n', "a house needs a name"),
        ('name = "x"\nvault = 3\n', "vault must be a table"),
        (MINIMUM + "[door]\nport = true\n", "door.port"),
        (MINIMUM + "[door]\nport = 8.5\n", "door.port"),
        (MINIMUM + '[door]\nport = "eighty"\n', "door.port"),
        (MINIMUM + "[door]\npatience = nan\n", "door.patience"),
        (MINIMUM + "[door]\npatience = true\n", "door.patience"),
        (MINIMUM + "[door]\nopen = 1\n", "door.open"),
        (MINIMUM + "[door]\nrooms = 5\n", "door.rooms"),
        (MINIMUM + "[door]\nrooms = [5]\n", "door.rooms"),
        (MINIMUM + '[door]\nlevel = "loud"\n', "door.level must be one of info, debug"),
        ('name = "x"\n[vault]\npin_file = ""\n', "vault.pin_file"),
        ('name = "x"\n[vault]\npin_file = 5\n', "vault.pin_file"),
        ("name = \n", "not readable as TOML"),
    ],
)
def test_a_wrong_file_stops_the_start_and_is_named(tmp_path: Path, wrong: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        house(tmp_path, wrong)


@pytest.mark.parametrize(
    ("variable", "text", "named"),
    [
        ("TAMGA_COLOUR", "red", "unknown setting colour"),
        ("TAMGA_DOOR__COLOUR", "red", "unknown setting door.colour"),
        ("TAMGA_DOOR", "red", "door must be a table"),
        ("TAMGA_DOOR__OPEN", "perhaps", "door.open"),
        ("TAMGA_DOOR__PATIENCE", "inf", "door.patience"),
        ("TAMGA_NAME__FIRST", "x", "TAMGA_NAME__FIRST"),
    ],
)
def test_a_wrong_variable_stops_the_start_and_is_named(tmp_path: Path, variable: str, text: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        house(tmp_path, **{variable: text})


def test_an_unreadable_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no configuration file"):
        load(HouseSettings, tmp_path / "absent.toml", {})
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(HouseSettings, tmp_path, {})
    (tmp_path / "latin.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(ConfigurationError, match="not readable"):
        load(HouseSettings, tmp_path / "latin.toml", {})
