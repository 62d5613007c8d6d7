"""With a broker, nobody but its workers has the PIN or a key: looked for in the memory of everybody else.

And whatever dies, nothing but the broker has to be started again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import urllib3
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from core.errors import CodedError
from hsm.client import BrokerKeystore
from hsm.keys import Scheme, SignTask
from tests.support.instance import Instance
from tests.support.processes import Server
from tests.support.tools import missing, require_tool, run
from tests.support.tree import ROOT
from tests.support.world import World

PLANTED = "planted"
NOBODY = 65534
TASK = SignTask(Scheme.ECDSA, "sha256", b"d" * 32)


class Household:
    """An instance whose web process asks a broker."""

    def __init__(self, directory: Path) -> None:
        self.instance = Instance(directory)
        self.socket = directory / "hsm.sock"
        self.log = directory / "broker.log"
        self.broker: Server | None = None

    def create(self, *clients: str) -> Household:
        instance = self.instance
        instance.directory.mkdir(parents=True)
        instance.cli("init", "--dir", instance.directory, "--base-url", instance.base_url, "--port", str(instance.port))
        text = instance.configuration.read_text()
        assert "[hsm]\n" in text
        settings = '[hsm]\nbroker = "hsm.sock"\nbroker_group = "65534"\n'
        signing_key = f'[sso]\nsigning_key = "{PLANTED}"\n'
        instance.configuration.write_text("\n".join([text.replace("[hsm]\n", settings), signing_key, *clients]))
        self.start_broker()
        instance.cli("ca", "ceremony", "run", "--execute", "--yes")
        instance.start()
        return self

    def start_broker(self) -> None:
        self.broker = Server(
            [sys.executable, "-m", "cli.main", "hsm", "broker"],
            log=self.log,
            cwd=self.instance.directory,
            env=self.instance.environment(),
        )
        self.broker.wait_until(lambda: self.metrics().get("state") == "up")

    def metrics(self) -> dict[str, object]:
        client = self.client()
        try:
            return client.metrics()
        except CodedError:
            return {}
        finally:
            client.close()

    def workers(self) -> list[int]:
        rows = self.metrics()["workers"]
        assert isinstance(rows, list)
        return [int(row["process"]) for row in rows]

    def client(self) -> BrokerKeystore:
        return BrokerKeystore(self.socket)

    def stop(self) -> None:
        self.instance.stop()
        if self.broker is not None:
            self.broker.stop()


@pytest.fixture(scope="module")
def household(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Household]:
    listed = '[[hsm.clients]]\nuser = "65534"\nroom = "ocsp"\nkeys = ["ocsp-*"]\n'
    made = Household(tmp_path_factory.mktemp("broker") / "instance")
    try:
        yield made.create(listed)
    finally:
        made.stop()


@pytest.fixture(scope="module")
def world(household: Household, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(household.instance, tmp_path_factory.mktemp("world"))
    yield made
    made.close()


def plant(household: Household) -> ec.EllipticCurvePrivateKey:
    """A key made in software, so that the test knows its value, brought into the token under a name of its own."""
    util = require_tool("softhsm2-util", "softhsm2")
    key = ec.generate_private_key(ec.SECP256R1())
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    folder = household.instance.directory
    file = folder / "planted.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    environment = {**os.environ, "SOFTHSM2_CONF": str(folder / "softhsm2.conf")}
    key_id = hashlib.sha256(spki).hexdigest()[:40]
    done = run(
        util, "--import", file, "--token", "tamga", "--label", PLANTED, "--id", key_id, "--pin", pin_of(household),
        env=environment,
    )  # fmt: skip
    assert done.status == 0, done.output
    file.unlink()
    return key


def pin_of(household: Household) -> str:
    (file,) = [path for path in household.instance.directory.iterdir() if path.suffix == ".pin" or path.name == "pin"]
    return file.read_text().strip()


# Looking into processes ---------------------------------------------------------------------------------------------


def session_of(leader: int) -> list[int]:
    """All processes of a session, as `Server` begins one."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and int(_stat(entry)[3]) == leader:
                found.append(int(entry.name))
    return found


def _stat(entry: Path) -> list[str]:
    return (entry / "stat").read_text().rpartition(")")[2].split()


def memory(process: int) -> Iterator[bytes]:
    """What the process has written, region by region, while it stands still."""
    os.kill(process, signal.SIGSTOP)
    try:
        regions = [line.split() for line in Path(f"/proc/{process}/maps").read_text().splitlines()]
        with Path(f"/proc/{process}/mem").open("rb", buffering=0) as file:
            for place, rights, *_ in regions:
                begin, end = (int(part, 16) for part in place.split("-"))
                if rights.startswith("rw"):
                    file.seek(begin)
                    with contextlib.suppress(OSError):
                        yield file.read(end - begin)
    finally:
        os.kill(process, signal.SIGCONT)


def found_in(process: int, wanted: Mapping[str, bytes]) -> set[str]:
    """Which of these octets are in the process's memory, its arguments or its environment."""
    told = [Path(f"/proc/{process}/{name}").read_bytes() for name in ("cmdline", "environ")]
    found: set[str] = set()
    for region in (*told, *memory(process)):
        found |= {name for name, octets in wanted.items() if octets in region}
    return found


def secrets_of(household: Household, key: ec.EllipticCurvePrivateKey) -> dict[str, bytes]:
    """As they could stand in memory: a number's octets in either order, as OpenSSL keeps them and as PKCS#11 does."""
    value = key.private_numbers().private_value.to_bytes(32, "big")
    return {"pin": pin_of(household).encode(), "key": value, "key reversed": value[::-1]}


def modules_of(process: int) -> set[str]:
    """PKCS#11 libraries, and the binding to them, that a process has loaded."""
    lines = Path(f"/proc/{process}/maps").read_text().splitlines()
    names = {Path(line.split()[-1]).name for line in lines if "/" in line}
    return {name for name in names if "softhsm" in name or "_pkcs11" in name}


def under_load(household: Household, look: Callable[[], bool], *, seconds: float = 120) -> bool:
    """Whether `look` came true while the broker signed with the planted key as fast as it could."""
    client, stop = household.client(), threading.Event()
    spki = client.key(PLANTED).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key_id = hashlib.sha256(spki).digest()[:20]

    def load() -> None:
        while not stop.is_set():
            with contextlib.suppress(CodedError):
                client.sign_by_name(PLANTED, key_id, TASK)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    deadline, found = time.monotonic() + seconds, False
    while not found and time.monotonic() < deadline:
        found = look()
    stop.set()
    for thread in threads:
        thread.join()
    client.close()
    return found


def test_neither_pin_nor_key_is_anywhere_but_in_the_brokers_workers(household: Household, world: World) -> None:
    if os.geteuid() != 0:
        missing("the right to look into other processes", "run as root")
    planted = plant(household)
    wanted = secrets_of(household, planted)
    # 1. The web process does everything that needs keys: an ID token by the planted key, a certificate, a signature.
    assert world.log_in_at_bank(world.citizen)["sub"]
    assert world.signed.startswith(b"%PDF")
    published = world.bank.metadata()
    assert published
    # 2. Nothing of it is in the web's processes, nor has any of them loaded what could have got it there.
    assert household.broker is not None
    web = session_of(household.instance.server.pid)
    for process in (*web, household.broker.pid):
        assert found_in(process, wanted) == set()
        assert modules_of(process) == set()
    # 3. Nor in what they wrote down.
    folder = household.instance.directory
    written = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pin" and path.name != "pin"]
    assert household.instance.log in written
    assert [path for path in written if any(octets in path.read_bytes() for octets in wanted.values())] == []
    # 4. The same search finds all of it in the broker's workers, so it would have found it above. The PIN is read when
    #    a worker opens the token, and later it may be written over.
    seen: set[str] = set()

    def look() -> bool:
        if "pin" not in seen:
            os.kill(household.workers()[0], signal.SIGKILL)
            _until(lambda: household.metrics().get("state") == "up")
        for process in household.workers():
            with contextlib.suppress(OSError):  # one of them was just killed
                seen.update(found_in(process, wanted))
        return seen == set(wanted)

    assert under_load(household, look), f"only {seen} was found"
    assert all(modules_of(process) for process in household.workers())


STRANGER = """
import os, sys
from pathlib import Path
from core.errors import CodedError
from hsm.client import BrokerKeystore
from hsm.keys import Scheme, SignTask
os.setgroups([]); os.setgid(65534); os.setuid(65534)
client = BrokerKeystore(Path(sys.argv[1]))
print(client.key("ocsp-citizen-sign-g1-1").label)
for ask in (
    lambda: client.key("citizen-sign-g1"),
    lambda: client.sign_by_name("citizen-sign-g1", b"k" * 20, SignTask(Scheme.ECDSA, "sha256", b"d" * 32)),
    lambda: client.mac("page-mac-1", b""),
    lambda: client.destroy("citizen-sign-g1"),
):
    try:
        print("allowed", ask())
    except CodedError as error:
        print(error.code)
"""


def test_another_user_who_asks_for_an_authoritys_key_is_refused_and_logged(household: Household) -> None:
    if os.geteuid() != 0:
        missing("the right to become another user", "run as root")
    for folder in (household.instance.directory, *household.instance.directory.parents):
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o001)
    done = run(sys.executable, "-c", STRANGER, household.socket, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout.split() == ["ocsp-citizen-sign-g1-1", *["key_not_allowed"] * 4], done.output
    refused = [line for line in household.log.read_text().splitlines() if '"hsm_key_not_allowed"' in line]
    assert len(refused) == 4
    assert all(f'"user": {NOBODY}' in line for line in refused)
    assert sum("citizen-sign-g1" in line for line in refused) == 3


def test_nothing_but_the_broker_is_started_again_whatever_dies(household: Household, tmp_path: Path) -> None:
    """Under load: workers killed and crashed, then the whole broker. The web goes on, and no answer is wrong."""
    instance, stamps = household.instance, Stamps(household.instance, tmp_path)
    web = instance.server.pid
    stamps.start()
    try:
        for number in (signal.SIGKILL, signal.SIGSEGV):
            os.kill(household.workers()[0], number)
            stamps.until_more()
        assert household.broker is not None
        household.broker.kill()
        stamps.until_refused()
        assert instance.healthy()
        household.start_broker()
        stamps.until_more()
    finally:
        stamps.stop()
    assert stamps.wrong == []
    assert instance.server.pid == web
    assert instance.server.running()


class Stamps:
    """Asks for time-stamps all the time, and has OpenSSL verify each."""

    def __init__(self, instance: Instance, folder: Path) -> None:
        self._instance = instance
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.good = 0
        self.refused = 0
        self.wrong: list[str] = []

    def start(self) -> None:
        (self._folder / "data").write_bytes(b"what is stamped")
        slugs = [row["slug"] for row in self._instance.cli("ca", "list")]
        shown = {slug: self._instance.cli("ca", "show", slug)["certificate"] for slug in slugs}
        for name, wanted in (("root.pem", True), ("issuing.pem", False)):
            text = "".join(pem for slug, pem in shown.items() if slug.startswith("root") is wanted)
            (self._folder / name).write_text(text)
        self._openssl("ts", "-query", "-data", "data", "-sha256", "-cert", "-out", "query.tsq")
        self._thread.start()
        self.until_more()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def until_more(self) -> None:
        before = self.good
        _until(lambda: self.good > before or bool(self.wrong))

    def until_refused(self) -> None:
        before = self.refused
        _until(lambda: self.refused > before or bool(self.wrong))

    def _openssl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["openssl", *arguments], cwd=self._folder, capture_output=True, text=True, check=False)

    def _run(self) -> None:
        number = 0
        http = urllib3.PoolManager(retries=False, timeout=30)
        query = (self._folder / "query.tsq").read_bytes()
        headers = {"Content-Type": "application/timestamp-query"}
        while not self._stop.is_set():
            number += 1
            try:
                answer = http.request("POST", f"{self._instance.base_url}/tsa", body=query, headers=headers)
            except urllib3.exceptions.HTTPError as error:
                self.wrong.append(repr(error))  # the web process itself never goes away
                return
            (self._folder / "answer.tsr").write_bytes(answer.data)
            if answer.status != 200 or not self._granted():
                self.refused += 1
            else:
                self._check()
        http.clear()

    def _granted(self) -> bool:
        told = self._openssl("ts", "-reply", "-in", "answer.tsr", "-text")
        return "Status: Granted" in told.stdout

    def _check(self) -> None:
        trust = ("-CAfile", "root.pem", "-untrusted", "issuing.pem")
        told = self._openssl("ts", "-verify", "-in", "answer.tsr", "-queryfile", "query.tsq", *trust)
        if "Verification: OK" in told.stdout:
            self.good += 1
        else:
            self.wrong.append(told.stdout + told.stderr)


def _until(true: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
