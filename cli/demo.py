"""``tamga demo``: an embedded instance with synthetic people, a tour through it, and then a service to play with."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import urllib3

from app.serving import check_free
from ca.errors import CeremonyHeld
from cli.context import Context, command_options
from cli.init import create_instance
from cli.seeds import Seeds, bank_key, load_or_create
from cli.tour import Bank, Step, Tour
from core.errors import CodedError, UsageError

START_SECONDS = 60


class DemoFailed(CodedError):
    """The demonstration's server did not come up."""

    code = "demo_failed"
    exit_code = 1


@click.command()
@click.option("--once", is_flag=True, help="Stop after the tour; status 0 when every step held.")
@click.option("--pdf", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The document to sign.")
@click.option("--dir", "folder", type=click.Path(file_okay=False, path_type=Path), default=Path("var/demo"))
@click.option("--port", type=int, default=8080, show_default=True, help="The port of http://localhost.")
@command_options
def demo(context: Context, once: bool, pdf: Path | None, folder: Path, port: int) -> None:
    """Make an instance (once), serve it, and walk a citizen, a bank and an administrator through it."""
    folder = folder.resolve()
    base_url = f"http://localhost:{port}"
    check_free("127.0.0.1", port)
    seeds = prepare(context, folder, base_url)
    document = pdf.read_bytes() if pdf else sample_document()
    with serving(context.configuration, folder, base_url) as server:
        tour = Tour(
            base_url=base_url,
            configuration=context.configuration,
            bank=Bank(seeds.bank["client_id"], seeds.bank["redirect_uri"], bank_key(seeds), seeds.bank["key_id"]),
            person=seeds.people[0],
            pdf=document,
            folder=folder,
        )
        steps = tour.run(_tell)
        ok = len(steps) == len(tour.steps()) and all(step.ok for step in steps)
        if not once and ok:
            _stay(context, base_url, seeds, server)
    if context.json:
        click.echo(json.dumps(_summary(ok, steps, tour, folder, base_url, seeds), ensure_ascii=False))
    elif ok:
        click.echo(f"every step held; the signed document is {tour.signed_pdf}")
    if not ok:
        sys.exit(1)


def prepare(context: Context, folder: Path, base_url: str) -> Seeds:
    """The instance in ``folder``, made when it is not there: token, ceremony, people, relying parties."""
    configuration = folder / "tamga.toml"
    if configuration.exists():
        context.use(configuration)
        if context.settings.base_url != base_url:
            raise UsageError(f"{configuration} is an instance at {context.settings.base_url}; give its port or --dir")
    else:
        context.progress(f"making an instance in {folder}")
        create_instance(context, folder, base_url=base_url)
    services = context.services
    with contextlib.suppress(CeremonyHeld):  # one that was cut short goes on
        services.ca.ceremony.run_default(actor="demo")
    (folder / "root.pem").write_bytes(services.root_certificates())
    seeds = load_or_create(services, folder)
    services.close()
    return seeds


@contextlib.contextmanager
def serving(configuration: Path, folder: Path, base_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """``tamga serve`` as a process of its own, answering when the block begins and ended with it."""
    with (folder / "tamga.log").open("ab") as log:
        command = [sys.executable, "-m", "cli.main", "--config", str(configuration), "serve"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait(process, base_url, folder)
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        if process.poll() is None:
            process.kill()
            process.wait()


def sample_document() -> bytes:
    """A loan agreement of two pages, drawn for the occasion."""
    from PIL import Image, ImageDraw, ImageFont

    font_file = str(Path(__file__).parent.parent / "signing" / "fonts" / "DejaVuSans-latin-cyrillic.ttf")
    large, plain = ImageFont.truetype(font_file, 44), ImageFont.truetype(font_file, 26)
    pages = []
    for number, (heading, lines) in enumerate(SAMPLE, start=1):
        page = Image.new("RGB", (1240, 1754), "white")
        pen = ImageDraw.Draw(page)
        pen.text((120, 140), heading, font=large, fill="#0b4f6c")
        for line, text in enumerate(lines):
            pen.text((120, 260 + 56 * line), text, font=plain, fill="#17222b")
        pen.text((1080, 1650), f"{number} / {len(SAMPLE)}", font=plain, fill="#51606b")
        pages.append(page)
    out = io.BytesIO()
    pages[0].save(out, "PDF", save_all=True, append_images=pages[1:], resolution=150.0, title="Loan agreement")
    return out.getvalue()


SAMPLE = (
    (
        "Зээлийн гэрээ",
        (
            "Жишээ банк (цаашид “Банк”) болон зээлдэгч дараах нөхцөлөөр тохиролцов.",
            "",
            "1. Зээлийн хэмжээ: ₮ 1,234,567.00",
            "2. Хугацаа: 12 сар",
            "3. Хүү: жилийн 12 хувь",
            "4. Эргэн төлөлт: сар бүрийн 20-ны өдөр",
            "",
            "Энэ баримт нь зөвхөн үзүүлэнгийн зориулалттай.",
        ),
    ),
    ("Гарын үсэг", ("Талууд гэрээг уншиж танилцан, хүлээн зөвшөөрч гарын үсэг зурав.",)),
)


def _tell(step: Step) -> None:
    mark = "ok  " if step.ok else "FAIL"
    click.echo(f"  {mark} {step.name:<46} {step.ms:>6} ms  {step.said}", err=True)


def _stay(context: Context, base_url: str, seeds: Seeds, server: subprocess.Popen[bytes]) -> None:
    lines = [
        "",
        f"serving {base_url} until you press Ctrl-C",
        f"  verify a document   {base_url}/verify",
        f"  sign-in metadata    {base_url}/.well-known/openid-configuration",
        f"  agency (test)       client_id {seeds.agency['client_id']}  secret {seeds.agency['client_secret']}",
        f"  bank (test)         client_id {seeds.bank['client_id']}  key {seeds.bank['private_key']}",
        *(
            f"  person (synthetic)  {p.username}  password {p.password}  TOTP {p.totp_secret}  PIN {p.signing_pin}"
            for p in seeds.people
        ),
    ]
    context.progress("\n".join(lines))
    with contextlib.suppress(KeyboardInterrupt):
        server.wait()


def _summary(
    ok: bool, steps: list[Step], tour: Tour, folder: Path, base_url: str, seeds: Seeds
) -> dict[str, Any]:
    return {
        "ok": ok,
        "steps": [{"name": step.name, "ok": step.ok, "ms": step.ms, "said": step.said} for step in steps],
        "signed_pdf": str(tour.signed_pdf),
        "root_certificate": str(folder / "root.pem"),
        "client": {"issuer": base_url, **seeds.agency},
        "bank": seeds.bank,
        "people": [asdict(person) for person in seeds.people],
    }


def _wait(process: subprocess.Popen[bytes], base_url: str, folder: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            if urllib3.request("GET", base_url + "/healthz", retries=False, timeout=2).status == 200:
                return
        time.sleep(0.1)
    raise DemoFailed(f"the server did not start; see {folder / 'tamga.log'}")
