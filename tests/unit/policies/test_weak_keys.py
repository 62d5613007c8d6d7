"""Lists of weak keys: a key that Debian made is found, by the form that Debian's own list had."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from policies.weak_keys import WeakKeyListMalformed, WeakKeys, fingerprint, read_weak_keys

# The modulus of a key that Debian's OpenSSL made, and its fingerprint on Debian's list: both as the tests of Boulder
# (letsencrypt/boulder, goodkey/weak_test.go) give them.
DEBIAN = int(
    "D673252AF6723C3F72529403EAB7C30DEF3C52F97E799825F4A70191C616ADCF1ECE1113F1625971074C492C592025FDEADBDB146A081826BDF0"
    "D77C3C913DCF1B6F0B3B78F5108D2E493AD0EEE8CA5C021711ADC13D358E61133870FCD19C8E5C22403959782AA82E72AEE53A3D491E3912CE27"
    "B27E1A85EA69C19A527D28F7934C9823B7E56FDD657DAC83FDC65BB22A98D843DF73238919781B714C81A5E2AFEC71F5C54AA2A27C590AD94C03"
    "C1062D50EFCFFAC743E3C8A3AE056846A1D756EB862BF4224169D467C35215ADE0AFCC11E85FE629AFB802C4786FF2E9C929BCCF502B3D3B8876"
    "C6A11785CC398B389F1D86BDD9CB0BD4EC13956EC3FA270D",
    16,
)
LISTED = "8df20e6961a16398b85a"


@pytest.fixture
def debian_list(tmp_path: Path) -> Path:
    path = tmp_path / "blacklist.RSA-2048"
    path.write_text(f"# comment\n\n{'0' * 20}\n{LISTED}\n{'f' * 20}\n")
    return path


def test_a_key_on_the_list_is_found_and_another_is_not(debian_list: Path) -> None:
    weak = read_weak_keys([debian_list])
    assert len(weak) == 3
    assert fingerprint(DEBIAN).hex() == LISTED
    assert weak.holds(DEBIAN)
    assert not weak.holds(DEBIAN + 2)
    assert not WeakKeys().holds(DEBIAN)


def test_several_lists_are_one(debian_list: Path, tmp_path: Path) -> None:
    other = tmp_path / "blacklist.RSA-4096"
    other.write_text("12" * 10 + "\n")
    assert read_weak_keys([other, debian_list]).holds(DEBIAN)


def test_the_fingerprint_is_that_of_openssls_own_output(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048).public_key()
    (tmp_path / "key.pem").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    command = ["openssl", "rsa", "-pubin", "-in", "key.pem", "-noout", "-modulus"]
    line = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    shown = hashlib.sha1(line, usedforsecurity=False).hexdigest()
    assert shown[20:] == fingerprint(key.public_numbers().n).hex()


@pytest.mark.parametrize("line", ["8df20e6961a16398b85", "8DF20E6961A16398B85A", "zz" * 10, LISTED + " extra"])
def test_a_list_with_another_line_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "list").write_text(line + "\n")
    with pytest.raises(WeakKeyListMalformed, match="line 1"):
        read_weak_keys([tmp_path / "list"])
