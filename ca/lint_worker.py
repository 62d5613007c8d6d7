"""The process behind ``ca.lint_workers``: takes octets on standard input, answers on standard output what pkilint says.

``python -m ca.lint_worker KIND …`` builds the validators of these kinds first. A question is one line of JSON with
``kind`` and ``der`` (hexadecimal); the answer is one line with the linter's ``version`` and its ``findings``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

from ca.lint_validators import build, linter_version
from policies.lints import Finding


def main() -> None:
    """Serve until standard input ends. Whatever goes wrong ends the process: the parent then refuses to issue."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # nothing a library prints may reach the answers
    version = linter_version()
    validators: dict[str, Callable[[bytes], list[Finding]]] = {kind: build(kind) for kind in sys.argv[1:]}
    for line in sys.stdin:
        question = json.loads(line)
        kind = question["kind"]
        if kind not in validators:
            validators[kind] = build(kind)
        found = validators[kind](bytes.fromhex(question["der"]))
        findings = [(finding.code, finding.severity, finding.clause, finding.message) for finding in found]
        answers.write(json.dumps({"version": version, "findings": findings}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
