"""Lint workers: the same findings as in this process, off its threads, and no answer is never a pass."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ca import errors, lint_workers
from ca.lint_validators import linter_version
from ca.lint_workers import LintWorkers
from ca.linting import Linter
from policies.profiles import load_profile
from tests.support import octets

TODAY = octets.MOMENT.date()
PROFILE = load_profile("tls-client")
GOOD = octets.signed(octets.tbs(PROFILE))
BAD = GOOD.replace(b"https://id.example.mn", b"https://id..xample.mn")


@pytest.fixture(scope="module")
def workers() -> Iterator[LintWorkers]:
    made = LintWorkers(1, version=linter_version(), deadline=60)
    yield made
    made.close()


@pytest.fixture(scope="module")
def linter() -> Iterator[Linter]:
    made = Linter(workers=1)
    made.warm_up()
    yield made
    made.close()


def process_of(workers: LintWorkers):
    worker = workers._free.queue[-1]
    assert worker is not None
    return worker._process


def test_a_worker_finds_what_the_linter_finds_in_this_process(linter: Linter) -> None:
    here = Linter()
    for der in (GOOD, BAD):
        assert linter.certificate_findings(der, PROFILE) == here.certificate_findings(der, PROFILE)


def test_issuance_is_refused_when_a_worker_finds_an_error(linter: Linter) -> None:
    linter.check_certificate(GOOD, PROFILE, TODAY)
    with pytest.raises(errors.LintRefused):
        linter.check_certificate(BAD, PROFILE, TODAY)


def test_the_same_process_serves_again(workers: LintWorkers) -> None:
    workers.findings(PROFILE.linter, GOOD)
    first = process_of(workers).pid
    workers.findings(PROFILE.linter, GOOD)
    assert process_of(workers).pid == first


def test_a_worker_that_died_in_the_meantime_is_replaced(workers: LintWorkers) -> None:
    workers.findings(PROFILE.linter, GOOD)
    process_of(workers).kill()
    process_of(workers).wait()
    assert workers.findings(PROFILE.linter, GOOD) is not None


@pytest.mark.parametrize("answer", ["", "nonsense\n", "{}\n", '{"version": "0", "findings": []}\n'])
def test_a_worker_that_ends_or_answers_nonsense_is_a_refusal(answer: str, monkeypatch) -> None:
    monkeypatch.setattr(lint_workers.sys, "executable", "/bin/sh")
    monkeypatch.setattr(lint_workers, "_PROGRAM", ["-c", f"read line; printf '%s' '{answer}'"])
    workers = LintWorkers(1, version=linter_version(), deadline=20)
    with pytest.raises(errors.LinterUnavailable):
        workers.findings(PROFILE.linter, GOOD)
    workers.close()


def test_a_severity_nobody_knows_is_a_refusal(monkeypatch) -> None:
    answer = f'{{"version": "{linter_version()}", "findings": [["x", "PASSED", "", ""]]}}\n'
    monkeypatch.setattr(lint_workers.sys, "executable", "/bin/sh")
    monkeypatch.setattr(lint_workers, "_PROGRAM", ["-c", f"read line; printf '%s' '{answer}'"])
    with pytest.raises(errors.LinterUnavailable):
        LintWorkers(1, version=linter_version(), deadline=20).findings(PROFILE.linter, GOOD)


def test_a_worker_that_hangs_is_ended_and_the_next_question_gets_another(monkeypatch) -> None:
    workers = LintWorkers(1, version=linter_version(), deadline=0.3)
    with monkeypatch.context() as hanging:
        hanging.setattr(lint_workers.sys, "executable", "/bin/sh")
        hanging.setattr(lint_workers, "_PROGRAM", ["-c", "exec sleep 60"])
        with pytest.raises(errors.LinterUnavailable):
            workers.findings(PROFILE.linter, GOOD)
    workers._deadline = 60
    assert workers.findings(PROFILE.linter, GOOD) is not None
    workers.close()


def test_nobody_waits_for_a_worker_longer_than_the_deadline(workers: LintWorkers) -> None:
    workers.findings(PROFILE.linter, GOOD)
    taken = workers._free.get()
    before, workers._deadline = workers._deadline, 0.05
    try:
        with pytest.raises(errors.LinterUnavailable, match="busy"):
            workers.findings(PROFILE.linter, GOOD)
    finally:
        workers._deadline = before
        workers._free.put(taken)


def test_many_threads_share_the_workers(workers: LintWorkers) -> None:
    expected = workers.findings(PROFILE.linter, BAD)
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(workers.findings(PROFILE.linter, BAD))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 6


def test_a_worker_sees_neither_our_environment_nor_our_files(workers: LintWorkers, monkeypatch) -> None:
    monkeypatch.setenv("TAMGA_CANARY", "7316-not-a-secret")
    workers.close()
    workers.findings(PROFILE.linter, GOOD)
    pid = process_of(workers).pid
    seen = Path(f"/proc/{pid}")
    assert b"TAMGA" not in (seen / "environ").read_bytes()
    opened = {str(descriptor.readlink()) for descriptor in (seen / "fd").iterdir()}
    assert not {path for path in opened if path.startswith("/") and path != os.devnull}


def test_after_a_fork_each_process_has_workers_of_its_own(workers: LintWorkers, monkeypatch) -> None:
    workers.findings(PROFILE.linter, GOOD)
    mine = workers._free.queue[-1]
    monkeypatch.setattr(lint_workers.os, "getpid", lambda: -1)
    assert mine not in workers._mine().queue
    monkeypatch.undo()
    mine.end()


def test_workers_that_nobody_closed_end_with_their_owner() -> None:
    workers = LintWorkers(1, version=linter_version(), deadline=60)
    workers.findings(PROFILE.linter, GOOD)
    process = process_of(workers)
    del workers
    gc.collect()
    assert process.poll() is not None
