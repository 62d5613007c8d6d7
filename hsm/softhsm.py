"""SoftHSM's one weak moment: it rewrites its token's own file, in place, at every login.

A process that dies inside that call (killed, out of memory, a power cut) leaves ``token.object`` empty. The module then
knows the token no more, and with it every key is lost, although their files are untouched. So before a login the file
is copied, and an empty one is put back from its copy. The file holds what is needed to check PINs, never a PIN or a
key in the clear; the copy is as protected as the file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from core.logs import get_logger

TOKEN_FILE, COPY = "token.object", "token.object.copy"  # SoftHSM takes no notice of other endings than .object
_TOKEN_FOLDER = re.compile(r"^\s*directories\.tokendir\s*=\s*(\S.*?)\s*$", re.MULTILINE)

log = get_logger("hsm.softhsm")


def guard_tokens(conf: Path) -> None:
    """Copy each token's own file, or put it back when it was cut short. To be called under the start lock."""
    try:
        told = _TOKEN_FOLDER.search(conf.read_text("utf-8"))
        files = sorted(Path(told.group(1)).glob(f"*/{TOKEN_FILE}")) if told else []
        for file in files:
            _guard(file, file.with_name(COPY))
    except OSError as error:
        log.error("softhsm_token_not_guarded", reason=str(error.strerror))


def _guard(file: Path, copy: Path) -> None:
    live, kept = file.read_bytes(), copy.read_bytes() if copy.exists() else b""
    if len(live) < len(kept):
        _write(file, kept)
        log.error("softhsm_token_mended", folder=file.parent.name)
    elif live != kept:
        _write(copy, live)


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing: a new file under another name, then renamed."""
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    unfinished.rename(path)
