"""The process behind ``ca.lint_workers``: takes octets on standard input, answers on standard output what pkilint says.

``python -m ca.lint_worker KIND …`` builds the validators of these kinds while nobody asks. A question is one line of
JSON with ``kind`` and ``der`` (hexadecimal); the answer is one line with the linter's ``version`` and its ``findings``.
"""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Callable

from ca.lint_validators import build, linter_version
from policies.lints import Finding


def main() -> None:
    """Serve until standard input ends. Whatever goes wrong ends the process: the parent then refuses to issue."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # nothing a library prints may reach the answers
    version = linter_version()
    validators: dict[str, Callable[[bytes], list[Finding]]] = {}
    ahead = list(sys.argv[1:])
    while line := _question(validators, ahead):
        question = json.loads(line)
        kind = question["kind"]
        if kind not in validators:
            validators[kind] = build(kind)
        found = validators[kind](bytes.fromhex(question["der"]))
        findings = [(finding.code, finding.severity, finding.clause, finding.message) for finding in found]
        answers.write(json.dumps({"version": version, "findings": findings}) + "\n")
        answers.flush()


def _question(validators: dict[str, Callable[[bytes], list[Finding]]], ahead: list[str]) -> bytes:
    """The next line; while none has come, validators are built ahead, so a question waits for one of them at most."""
    # A parent asks one question at a time, so nothing is ever left in the reader's buffer.
    while ahead and not select.select([sys.stdin], [], [], 0)[0]:
        kind = ahead.pop(0)
        if kind not in validators:
            validators[kind] = build(kind)
    return sys.stdin.buffer.readline()


if __name__ == "__main__":
    main()
