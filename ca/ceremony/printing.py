"""Script and transcript as plain text to print, in either language."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

from ca.ceremony.plan import (
    AcceptanceStep,
    AuthorityStep,
    CredentialStep,
    CrlStep,
    CrossStep,
    DestructionStep,
    KeyStep,
    Plan,
    RequestStep,
    Step,
    subject_text,
)
from ca.ceremony.transcript import Line, Transcript
from ca.ceremony.verification import Verified
from ca.ceremony.words import WORDS

WIDTH = 96
_RULE = "=" * WIDTH
_BLANK = "." * 40
_PRINTED = frozenset({
    "sha256", "tbs_sha256", "spki_sha256", "serial", "not_before", "not_after", "issuer", "key_id", "algorithm",
    "purpose", "entries", "plan_sha256", "lines", "release", "actor",
})  # fmt: skip


def script(plan: Plan, language: str) -> str:
    """What people read aloud and tick off: the plan's head, its steps, and room for signatures."""
    words = WORDS[language]
    lines = [_RULE, words["script"], _RULE, *_head(plan, words), "", words["before"], ""]
    lines += [line for number in (1, 2) for line in _ticked(words[f"before_{number}"])]
    lines += [*_ticked(words["before_3"]), f"    {_BLANK}", "", words["steps"], ""]
    for number, step in enumerate(plan.steps, start=1):
        lines += _wrapped(f"[ ] {number:>2}. ", step_text(step, words))
        lines += [f"        {words['done']} {_BLANK[:20]}   {words['signature']} {_BLANK[:30]}", ""]
    lines += [words["after"], "", *_ticked(words["after_1"]), f"    {_BLANK}"]
    lines += [*_ticked(words["after_2"]), f"    {_BLANK}", "", *_signatures(plan, words)]
    return "\n".join(lines) + "\n"


def transcript_text(transcript: Transcript, verified: Verified, language: str) -> str:
    """A transcript that was verified, as it is filed on paper."""
    words = WORDS[language]
    lines = [_RULE, words["transcript"], _RULE, *_head(verified.plan, words)]
    lines += ["", words["rehearsal"]] if verified.rehearsal else []
    lines += [
        "",
        f"{words['approved_by']}: {', '.join(verified.approved_by) or words['nobody']}",
        f"{words['signed_by']}: {verified.signed_by or words['nobody']}",
        f"{words['countersigned_by']}: {', '.join(verified.countersigned_by) or words['nobody']}",
        f"{words['closed_hash']}: {verified.closed_hash}",
        "",
    ]
    steps = {step.line(): step_text(step, words) for step in verified.plan.steps}
    for line in transcript.lines:
        lines += [*_told(line, steps, words), ""]
    return "\n".join([*lines, *_signatures(verified.plan, words)]) + "\n"


def step_text(step: Step, words: Mapping[str, str]) -> str:
    """One step as a sentence."""
    match step:
        case AuthorityStep():
            kind, values = ("root" if step.is_root else "authority"), _certificate_values(step)
        case CredentialStep():
            kind, values = "credential", _certificate_values(step)
        case CrossStep():
            kind, values = "cross", {"authority": step.authority, "issuer": step.issuer}
        case KeyStep():
            kind, values = "key", {"key": str(step.key), "purpose": str(step.purpose)}
        case RequestStep():
            kind, values = "request", {}
        case AcceptanceStep():
            kind, values = "acceptance", {"authority": step.authority}
        case CrlStep():
            kind, values = "crl", {}
        case DestructionStep():
            kind, values = "destroy", {"key_id": step.key_id}
    return words[f"step.{kind}"].format(name=step.name, **values)


def _certificate_values(step: AuthorityStep | CredentialStep) -> dict[str, str]:
    return {
        "key": str(step.key),
        "subject": subject_text(step.subject),
        "profile": f"{step.terms.profile} {step.terms.version}",
        "issuer": step.issuer,
    }


def _head(plan: Plan, words: Mapping[str, str]) -> Iterator[str]:
    yield f"{words['name']}: {plan.name}"
    yield f"{words['kind']}: {plan.kind}"
    if plan.description:
        yield from _wrapped(f"{words['description']}: ", plan.description)
    yield f"{words['policy_url']}: {plan.policy_url}"
    if plan.token:
        yield f"{words['token']}: {plan.token}"
    yield f"{words['plan_sha256']}:"
    yield f"    {plan.sha256}"
    quorum = plan.quorum
    if not quorum.custodians:
        yield f"{words['custodians']}: {words['no_custodians']}"
        return
    yield f"{words['approvals']}: {quorum.approvals} {words['of']} {len(quorum.custodians)}"
    yield f"{words['countersignatures']}: {quorum.countersignatures}"
    yield f"{words['custodians']}:"
    for custodian in quorum.custodians:
        yield f"    {custodian.name}   {words['key_sha256']}"
        yield f"        {custodian.fingerprint}"


def _told(line: Line, steps: Mapping[str, str], words: Mapping[str, str]) -> Iterator[str]:
    yield f"{words['line']} {line.sequence}   {words['time']}: {line.at:%Y-%m-%d %H:%M:%S}"
    yield f"  {words['act']}: {words[f'act.{line.act}']} ({line.subject})"
    if line.command in steps:
        yield from _wrapped("  ", steps[line.command])
    for name, value in sorted(_shown(line).items()):
        yield from _wrapped(f"  {words['result']}: {name} ", str(value))
    yield f"  {words['hash']}: {line.hash}"


def _shown(line: Line) -> dict[str, Any]:
    """The values that fit on paper: digests and names; octets are in the file."""
    return {name: line.output[name] for name in _PRINTED if name in line.output}


def _signatures(plan: Plan, words: Mapping[str, str]) -> Iterator[str]:
    yield f"{words['place']}: {_BLANK}"
    yield ""
    yield f"{words['present']}:"
    for name in [custodian.name for custodian in plan.quorum.custodians] or [_BLANK[:20]] * 2:
        yield ""
        yield f"    {name:<24} {words['signature']} {_BLANK}"


def _ticked(text: str) -> list[str]:
    return _wrapped("[ ] ", text)


def _wrapped(first: str, text: str) -> list[str]:
    return wrap(text, WIDTH, initial_indent=first, subsequent_indent=" " * min(len(first), 8)) or [first.rstrip()]
