"""``tamga ca ceremony``: key ceremonies from one reviewed file. No command here loads web code or uses a network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.context import FOUNDING, Context, command_options, read_secret
from core.errors import UsageError

if TYPE_CHECKING:
    from ca.ceremony.approval import Approval, CustodianPrivateKey
    from ca.ceremony.plan import Plan, Step
    from ca.ceremony.verification import Verified

EXISTING = click.Path(path_type=Path, exists=True, dir_okay=False)
NEW = click.Path(path_type=Path, dir_okay=False)
LANGUAGE = click.option("--language", type=click.Choice(["mn", "en"]), help="Print script or transcript on paper.")
PLAN = click.argument("file", required=False, type=click.Path(path_type=Path))


@click.group()
def ceremony() -> None:
    """Key ceremonies: draft, plan, rehearse, approve, run, countersign, verify."""


@ceremony.command()
@PLAN
@click.option("--custodian", "custodians", multiple=True, metavar="NAME=FILE", help="A custodian's public key, PEM.")
@click.option("--approvals", type=int, default=2, show_default=True, help="How many custodians must approve.")
@click.option("--countersignatures", type=int, default=1, show_default=True, help="How many sign the transcript.")
@click.option("--out", type=NEW, help="Write the file there.")
@command_options
def draft(
    context: Context,
    file: Path | None,
    custodians: Sequence[str],
    approvals: int,
    countersignatures: int,
    out: Path | None,
) -> None:
    """Complete a ceremony file for custodians: token, addresses, profile versions, quorum and public keys."""
    from ca.ceremony.drafting import CustodianEntry
    from ca.ceremony.plan import read_file

    authority = context.authority
    entries = [CustodianEntry(name, Path(key).read_text("utf-8")) for name, key in _named(custodians)]
    text = authority.drafting.completed(
        read_file(_plan_file(file)),
        token=context.settings.hsm.token_label,
        custodians=entries,
        approvals=approvals,
        countersignatures=countersignatures,
    )
    plan = authority.ceremony.read(text)
    if out is not None:
        _write_new(out, text)
    context.emit({"plan_sha256": plan.sha256, "file": str(out) if out else None, "text": text}, "" if out else text)


@ceremony.command(name="plan")
@PLAN
@LANGUAGE
@command_options
def plan_command(context: Context, file: Path | None, language: str | None) -> None:
    """Lint FILE (default: the first generation that ships) and show every TBS with a placeholder key. Does nothing.

    With --language print the script of the ceremony instead.
    """
    authority = context.authority
    plan = authority.ceremony.plan(_plan_file(file))
    if language is not None:
        from ca.ceremony.printing import script

        text = script(plan, language)
        context.emit({**_summary(plan), "script": text}, text.rstrip("\n"))
        return
    previews = [
        {
            "name": each.name,
            "profile": each.profile,
            "tbs": base64.b64encode(each.tbs).decode(),
            "findings": [f"{finding.severity} {finding.code}" for finding in each.findings],
        }
        for each in authority.previews.of(plan)
    ]
    lines = [*plan.lines(), "", "to be signed, with placeholder keys (DER, base64):"]
    lines += [f"{each['name']}  {each['profile']}\n  {each['tbs']}" for each in previews]
    lines += ["", *_quorum_lines(plan), f"SHA-256 of the plan: {plan.sha256}", "nothing was done"]
    context.emit({**_summary(plan), "to_be_signed": previews}, "\n".join(lines))


@ceremony.command()
@PLAN
@click.option("--transcript", "path", type=NEW, help="Keep the transcript there.")
@command_options
def rehearse(context: Context, file: Path | None, path: Path | None) -> None:
    """Hold FILE on a throw-away SoftHSM token and database, and verify the transcript of it."""
    from ca.ceremony.rehearsal import rehearse, stand_ins
    from ca.ceremony.transcript import Transcript
    from ca.ceremony.verification import verify

    authority = context.authority
    source = _plan_file(file)
    plan = authority.ceremony.plan(source)
    standing_in = stand_ins(plan, authority.hierarchy, authority.register)
    with Transcript.at(_fresh(path)) if path is not None else Transcript() as transcript:
        rehearse(
            plan.text,
            authority.settings,
            authority.clock,
            standing_in=standing_in,
            token=plan.token or context.settings.hsm.token_label,
            transcript=transcript,
        )
    verified = verify(transcript)
    result = {**_report(verified), "transcript": str(path) if path else None}
    context.emit(result, transcript.text.rstrip("\n") if path is None else f"the rehearsal holds; transcript: {path}")


@ceremony.command()
@click.argument("file", type=EXISTING)
@click.option("--key", type=EXISTING, help="Your private key, PEM.")
@click.option("--passphrase-stdin", is_flag=True, help="Read the key's passphrase from standard input.")
@click.option("--name", help="Your name in the file, with --signature.")
@click.option("--signature", type=EXISTING, help="Made elsewhere, binary.")
@click.option("--message", type=NEW, help="Write what is to be signed there.")
@command_options
def approve(
    context: Context,
    file: Path,
    key: Path | None,
    passphrase_stdin: bool,
    name: str | None,
    signature: Path | None,
    message: Path | None,
) -> None:
    """Approve a ceremony file as one of its custodians: a signature over its SHA-256, kept beside it.

    With --message the octets to be signed are written, to be signed elsewhere; --name and --signature bring that back.
    """
    from ca.ceremony.approval import approval_message, approve, write_approval

    plan = context.authority.ceremony.plan(file)
    if message is not None:
        message.write_bytes(approval_message(plan.sha256))
        context.emit({**_summary(plan), "message": str(message)}, f"to be signed: {message}")
        return
    custodian, signed = _signature(plan, approval_message(plan.sha256), key, passphrase_stdin, name, signature)
    path = write_approval(file, approve(plan, custodian, signed))
    result = {**_summary(plan), "custodian": custodian, "approval": str(path)}
    context.emit(result, f"{custodian} approved {plan.name} ({plan.sha256}): {path}")


@ceremony.command()
@PLAN
@click.option("--execute", is_flag=True, help="Carry the plan out; without it the plan is only shown.")
@click.option("--yes", is_flag=True, help="Do not ask before each step.")
@click.option("--transcript", "path", type=NEW, help="Where the transcript goes.")
@command_options
def run(context: Context, file: Path | None, execute: bool, yes: bool, path: Path | None) -> None:
    """Hold the ceremony of FILE (default: the first generation that ships), asking before each step.

    Status 3 when the file or its approvals are refused, 5 when it was held already. One that was cut short goes on.
    """
    from ca.ceremony.approval import read_approvals
    from ca.ceremony.transcript import Transcript

    ceremonies = context.authority.ceremony
    source = _plan_file(file)
    plan = ceremonies.plan(source)
    approvals = read_approvals(source)
    result: dict[str, Any] = {**_summary(plan), "executed": execute, "steps": list(plan.lines())}
    if not execute:
        lines = [*plan.lines(), *_quorum_lines(plan, approvals), "nothing was done; add --execute"]
        context.emit({**result, "approved_by": [each.custodian for each in approvals]}, "\n".join(lines))
        return
    actor = context.acting("ca-administrator", FOUNDING)
    path = path or context.configuration.resolve().parent / "ceremonies" / f"{plan.name}.jsonl"
    ceremonies.check_startable(plan, approvals)
    with Transcript.at(path) as transcript:
        ceremonies.hold(
            plan,
            actor=actor,
            approvals=approvals,
            transcript=transcript,
            confirm=(lambda _step: None) if yes else _ask,
        )
    result |= {"transcript": str(path), "authorities": _authorities(context)}
    context.emit(result, "\n".join([*plan.lines(), f"the ceremony {plan.name} was held; transcript: {path}"]))


@ceremony.command()
@click.argument("transcript", type=EXISTING)
@click.option("--key", type=EXISTING, help="Your private key, PEM.")
@click.option("--passphrase-stdin", is_flag=True, help="Read the key's passphrase from standard input.")
@click.option("--name", help="Your name in the plan, with --signature.")
@click.option("--signature", type=EXISTING, help="Made elsewhere, binary.")
@click.option("--message", type=NEW, help="Write what is to be signed there.")
@command_options
def countersign(
    context: Context,
    transcript: Path,
    key: Path | None,
    passphrase_stdin: bool,
    name: str | None,
    signature: Path | None,
    message: Path | None,
) -> None:
    """Sign the transcript of a ceremony that was held, as one of its custodians. Needs no instance."""
    from ca.ceremony.verification import countersign, message_under

    plan, octets = message_under(transcript)
    if message is not None:
        message.write_bytes(octets)
        context.emit({"message": str(message)}, f"to be signed: {message}")
        return
    custodian, signed = _signature(plan, octets, key, passphrase_stdin, name, signature)
    countersign(transcript, custodian, signed)
    context.emit({"custodian": custodian, "transcript": str(transcript)}, f"{custodian} signed {transcript}")


@ceremony.command()
@click.argument("transcript", type=EXISTING)
@click.argument("file", required=False, type=EXISTING)
@LANGUAGE
@command_options
def verify(context: Context, transcript: Path, file: Path | None, language: str | None) -> None:
    """Replay a transcript: build every TBS anew and compare octet for octet. Needs no token and no instance.

    FILE is the ceremony file as you have it. Status 1, naming the line, when the transcript does not hold. With
    --language print the transcript for the files.
    """
    from ca.ceremony.plan import read_file
    from ca.ceremony.printing import transcript_text
    from ca.ceremony.transcript import load
    from ca.ceremony.verification import verify

    read = load(transcript)
    verified = verify(read, plan_text=read_file(file) if file is not None else None)
    if language is not None:
        text = transcript_text(read, verified, language)
        context.emit({**_report(verified), "text": text}, text.rstrip("\n"))
        return
    context.emit(_report(verified), "\n".join(_report_lines(verified)))


def _plan_file(file: Path | None) -> Path:
    """The ceremony file: a path, or the name of one that ships; without either the first generation."""
    from ca.ceremony.plan import DEFAULT_PLAN

    if file is None:
        return DEFAULT_PLAN
    shipped = DEFAULT_PLAN.with_name(f"{file.name}.toml")
    return shipped if not file.exists() and file.name == str(file) and shipped.exists() else file


def _signature(
    plan: Plan, message: bytes, key: Path | None, passphrase_stdin: bool, name: str | None, signature: Path | None
) -> tuple[str, bytes]:
    """Whose signature, and the signature: made here with a key file, or brought from elsewhere."""
    from ca.ceremony.approval import owner_of, sign

    if (key is None) is (signature is None) or (signature is not None and name is None):
        raise UsageError("give --key, or --name with --signature, or --message")
    if signature is not None and name is not None:
        return name, signature.read_bytes()
    assert key is not None  # noqa: S101 - one of the two is given
    private = _private_key(key, passphrase_stdin)
    return owner_of(private, plan.quorum).name, sign(private, message)


def _private_key(path: Path, passphrase_stdin: bool) -> CustodianPrivateKey:
    from ca.ceremony.approval import private_key

    pem = path.read_bytes()
    is_locked = b"ENCRYPTED" in pem
    passphrase = read_secret("Passphrase of your key", from_stdin=passphrase_stdin) if is_locked else None
    return private_key(pem, passphrase)


def _named(pairs: Sequence[str]) -> list[tuple[str, str]]:
    named = [pair.partition("=") for pair in pairs]
    if not all(name and sign and path for name, sign, path in named):
        raise UsageError("--custodian takes NAME=FILE")
    missing = [path for _, _, path in named if not Path(path).is_file()]
    if missing:
        raise UsageError(f"there is no file {missing[0]}")
    return [(name, path) for name, _, path in named]


def _ask(step: Step) -> None:
    from ca.errors import CeremonyInterrupted

    try:
        agreed = click.confirm(f"{step.line()}\ncarry it out?", err=True)
    except click.Abort:
        agreed = False
    if not agreed:
        raise CeremonyInterrupted(f"stopped before {step.name}; the same command goes on from here")


def _fresh(path: Path) -> Path:
    if path.exists():
        raise UsageError(f"{path} is there already")
    return path


def _write_new(path: Path, text: str) -> None:
    _fresh(path).write_text(text, "utf-8")


def _summary(plan: Plan) -> dict[str, Any]:
    return {"ceremony": plan.name, "kind": plan.kind, "plan_sha256": plan.sha256}


def _quorum_lines(plan: Plan, approvals: Sequence[Approval] = ()) -> list[str]:
    quorum = plan.quorum
    if not quorum.custodians:
        return ["no custodians: for development only"]
    given = ", ".join(approval.custodian for approval in approvals) or "nobody yet"
    return [f"approved by {given}; {quorum.approvals} of {len(quorum.custodians)} custodians must approve"]


def _authorities(context: Context) -> list[dict[str, Any]]:
    from cli.ca import authority_row

    return [authority_row(authority) for authority in context.authority.hierarchy.authorities()]


def _report(verified: Verified) -> dict[str, Any]:
    return {
        **_summary(verified.plan),
        "rehearsal": verified.rehearsal,
        "lines": verified.lines,
        "closed_hash": verified.closed_hash,
        "approved_by": list(verified.approved_by),
        "signed_by": verified.signed_by,
        "countersigned_by": list(verified.countersigned_by),
        "keys": dict(verified.keys),
        "certificates": dict(verified.certificates),
        "built_on": dict(verified.standing),
    }


def _report_lines(verified: Verified) -> list[str]:
    lines = [f"the transcript of {verified.plan.name} holds: {verified.lines} lines, plan {verified.plan.sha256}"]
    if verified.rehearsal:
        lines.append("this was a rehearsal")
    lines += [f"certificate {name}: SHA-256 {digest}, rebuilt" for name, digest in verified.certificates.items()]
    lines += [f"key {name}: SHA-256 {digest}" for name, digest in verified.keys.items()]
    lines += [f"built on {name}: SHA-256 {digest}, taken as given" for name, digest in verified.standing.items()]
    for word, names in (("approved", verified.approved_by), ("countersigned", verified.countersigned_by)):
        lines.append(f"{word} by {', '.join(names) or 'nobody'}")
    lines.append(f"signed by the key {verified.signed_by or 'of nobody'}; closing hash {verified.closed_hash}")
    return lines
