"""Private keys, PINs and passwords are nowhere outside the token: not in the database, in files or in the log."""

from __future__ import annotations

import base64
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.instance import Instance
from tests.support.tools import require_tool, run
from tests.support.world import World

PKCS8_EC = bytes.fromhex("020100301306072a8648ce3d0201")  # RFC 5958 2: version 0, id-ecPublicKey
PKCS8_P384 = bytes.fromhex("020100301006072a8648ce3d0201")
PKCS8_RSA = bytes.fromhex("020100300d06092a864886f70d0101010500")
SEC1_P256 = bytes.fromhex("0201010420")  # RFC 5915 3: version 1, 32 octets
SEC1_P384 = bytes.fromhex("0201010430")
STRUCTURES = (PKCS8_EC, PKCS8_P384, PKCS8_RSA, SEC1_P256, SEC1_P384)
ARMOUR = re.compile(rb"PRIVATE KEY-----|\"d\"\s*:\s*\"[A-Za-z0-9_-]{40,}\"")
ORDER_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.fixture(scope="module")
def used(world: World) -> Instance:
    """The shared instance after it has done everything: keys made, documents signed, certificates revoked."""
    assert world.signed
    assert world.revoked_certificate
    return world.instance


def files(instance: Instance) -> Iterator[Path]:
    yield from (path for path in sorted(instance.directory.rglob("*")) if path.is_file())


def disguises(secret: bytes) -> set[bytes]:
    """A byte string as it may be written down: raw, hexadecimal, base64 at each of its three alignments."""
    written = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    for shift in range(3):
        encoded = base64.b64encode(b"\x00" * shift + secret)
        # The first and last characters mix with the neighbours.
        inner = encoded[(shift * 8 + 5) // 6 : len(secret) * 8 // 6]
        written |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return written


def test_no_file_holds_the_shape_of_a_private_key(used: Instance) -> None:
    shapes = [shape for structure in STRUCTURES for shape in disguises(structure) if len(shape) >= 5]
    found = []
    for path in files(used):
        data = path.read_bytes()
        found += [f"{path.name}: {shape!r}" for shape in shapes if len(shape) > 5 and shape in data]
        found += [f"{path.name}: {match.group()!r}" for match in [ARMOUR.search(data)] if match]
    assert not found


def test_the_search_would_find_a_key() -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    for written in (der, der.hex().encode(), base64.b64encode(b"x" + der), base64.b64encode(b"xy" + der)):
        assert any(shape in written for shape in disguises(PKCS8_EC))
    assert scalars_of([der], {point(key.public_key())})


def point(key: ec.EllipticCurvePublicKey) -> tuple[int, int]:
    numbers = key.public_numbers()
    return numbers.x, numbers.y


def scalars_of(cells: list[bytes], public: set[tuple[int, int]]) -> list[str]:
    """Places where 32 octets are the private key of a known P-256 public key."""
    found = []
    tried: set[bytes] = set()
    for number, cell in enumerate(cells):
        for start in range(max(0, len(cell) - 31)):
            window = cell[start : start + 32]
            scalar = int.from_bytes(window)
            if window in tried or not 0 < scalar < ORDER_P256:
                continue
            tried.add(window)
            if point(ec.derive_private_key(scalar, ec.SECP256R1()).public_key()) in public:
                found.append(f"cell {number} at {start}")
    return found


def test_no_cell_of_the_database_holds_a_citizens_private_key(used: Instance, world: World) -> None:
    public = {point(each.public_key()) for each in world.certificates_of(world.citizen)}  # type: ignore[arg-type]
    database = next(path for path in files(used) if path.read_bytes().startswith(b"SQLite format 3"))
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    cells: list[bytes] = []
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        for row in connection.execute(f'SELECT * FROM "{table}" LIMIT 200'):
            for value in row:
                if isinstance(value, bytes) and 32 <= len(value) <= 400:
                    cells.append(value)
                elif isinstance(value, str) and re.fullmatch(r"[0-9a-fA-F]{64,800}", value) and len(value) % 2 == 0:
                    cells.append(bytes.fromhex(value))
    connection.close()
    assert cells, "the search looked at nothing: wrapped keys at least are there"
    assert not scalars_of(cells, public)


def test_pins_and_passwords_are_in_no_file_but_their_own(used: Instance, world: World) -> None:
    citizen = world.citizen
    secrets = {
        "token PIN": (used.directory / "token.pin").read_text().strip(),
        "password": citizen.password,
        "TOTP secret": citizen.totp_secret,
        "the bank's access token": world.machine_token,
    }
    raw_totp = base64.b32decode(citizen.totp_secret + "=" * (-len(citizen.totp_secret) % 8))
    found = []
    for path in files(used):
        data = path.read_bytes()
        found += [
            f"{what} in {path.name}"
            for what, secret in secrets.items()
            if secret.encode() in data and not (what == "token PIN" and path.name == "token.pin")
        ]
        if raw_totp in data:
            found.append(f"raw TOTP secret in {path.name}")
    assert not found
    # Six digits stand everywhere by chance in numbers; as a word of its own the PIN stands nowhere.
    log = used.log.read_text(errors="replace")
    assert not re.search(rf"(?<!\d){citizen.pin}(?!\d)", log)


def test_what_is_secret_is_readable_by_its_owner_only(used: Instance) -> None:
    open_files = [
        path.name
        for path in files(used)
        if path.stat().st_mode & 0o077 and (path.name.endswith((".pin", ".sqlite3")) or "tokens" in str(path))
    ]
    assert not open_files


def test_every_private_key_of_the_token_is_locked_in(used: Instance) -> None:
    keys = used.cli("hsm", "keys")
    assert keys
    assert all(key["locked_in"] for key in keys), keys


def test_opensc_agrees_that_no_private_key_can_leave(used: Instance, tmp_path: Path) -> None:
    pkcs11_tool = require_tool("pkcs11-tool", "opensc")
    copy = tmp_path / "softhsm"
    shutil.copytree(used.directory, copy, ignore=shutil.ignore_patterns("*.sqlite3*", "*.log"))
    configuration = copy / "softhsm2.conf"
    configuration.write_text(configuration.read_text().replace(str(used.directory), str(copy)))
    pin = (used.directory / "token.pin").read_text().strip()
    listed = run(
        pkcs11_tool, "--module", "/usr/lib/softhsm/libsofthsm2.so", "--token-label", "tamga", "--login", "--pin", pin,
        "--list-objects", "--type", "privkey",
        env={**used.environment(), "SOFTHSM2_CONF": str(configuration)},
    )  # fmt: skip
    access = re.findall(r"Access:\s*(.+)", listed.stdout)
    assert access, listed.output
    assert all("sensitive" in words and "never extractable" in words for words in access), listed.stdout
