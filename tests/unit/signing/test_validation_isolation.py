"""PDF work in workers: same answers, limits that hold, no keys; a dead worker costs one answer at most (S31)."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from signing import isolation
from signing.document_errors import DocUnreadable, ParserLimit, TooLarge
from signing.documents import open_document
from signing.isolation import PdfWorkers, WorkerLimits, pdf_workers
from signing.pades import Placement, PreparedSignature, SignerFacts, finish
from signing.validation import TrustAnchors, validate

from .conftest import NOW, Pki, sign


@pytest.fixture(scope="module")
def workers() -> Iterator[PdfWorkers]:
    with pdf_workers(2) as pool:
        yield pool


def test_a_worker_answers_as_the_room_does(workers: PdfWorkers, pki: Pki, signed: bytes) -> None:
    trust, at = TrustAnchors((pki.root.der,)), NOW + timedelta(minutes=1)
    assert workers.open_document(signed) == open_document(signed)
    assert workers.validate(signed, trust=trust, at=at).simple() == validate(signed, trust=trust, at=at).simple()
    assert workers.page_png(signed, 1, width=100).startswith(b"\x89PNG")


def test_a_worker_answers_about_strangers_signatures_as_the_room_does(
    workers: PdfWorkers, pki: Pki, foreign_pki: Pki, signed: bytes
) -> None:
    data = sign(foreign_pki, signed, at=NOW + timedelta(minutes=1), placement=Placement(1, 30, 30)).data
    trust, at = TrustAnchors((pki.root.der,)), NOW + timedelta(minutes=2)
    report = workers.validate(data, trust=trust, at=at).simple()
    assert report == validate(data, trust=trust, at=at).simple()
    assert [one["indication"] for one in report["signatures"]] == ["TOTAL-PASSED", "INDETERMINATE"]


def test_preparing_in_a_worker_leads_to_a_signature(workers: PdfWorkers, pki: Pki, pdf: bytes) -> None:
    prepared = workers.prepare(
        pdf, signer=SignerFacts("Бат"), chain=pki.chain, placement=Placement(), language="mn", signing_time=NOW
    )
    assert isinstance(prepared, PreparedSignature)
    done = finish(prepared, key=pki.signer.key, chain=pki.chain, time_stamp=pki.time_stamp(), evidence=pki.evidence())
    assert done.level == "B-LT"


def test_coded_errors_come_through(workers: PdfWorkers, pdf: bytes) -> None:
    with pytest.raises(DocUnreadable) as raised:
        workers.open_document(b"%PDF-1.7 nothing")
    assert raised.value.detail
    with pytest.raises(TooLarge) as large:
        workers.preflight(pdf, limit=10)
    assert large.value.facts == {"limit": 10}


def test_a_worker_out_of_memory_is_a_finding_for_validation_and_an_error_for_signing(pki: Pki, pdf: bytes) -> None:
    large = pdf + b"\n" * 40_000_000
    with pdf_workers(1, limits=WorkerLimits(memory=1)) as pool:
        report = pool.validate(large, trust=TrustAnchors(()), at=NOW, language="en")
        assert (report.document_status, report.sub_indication) == ("TOTAL-FAILED", "FORMAT_FAILURE")
        assert [finding["code"] for finding in report.simple()["findings"]] == ["PARSER_LIMIT"]
        with pytest.raises(ParserLimit) as raised:
            pool.open_document(large)
        assert raised.value.status == 422


def test_a_worker_that_takes_too_long_is_stopped(pdf: bytes) -> None:
    with pdf_workers(1, limits=WorkerLimits(deadline=0.0)) as pool, pytest.raises(ParserLimit):
        pool.open_document(pdf)


def test_after_a_dead_worker_the_next_one_serves(pdf: bytes) -> None:
    with pdf_workers(1) as pool:
        assert pool.open_document(pdf).pages == 2
        worker = pool._free.get()
        assert worker is not None
        os.kill(worker._process.pid, 9)
        worker._process.wait()
        pool._free.put(worker)
        assert pool.open_document(pdf).pages == 2


def test_callers_from_many_threads_each_get_their_answer(workers: PdfWorkers, pdf: bytes, signed: bytes) -> None:
    sizes: list[int] = []

    def ask(data: bytes) -> None:
        sizes.append(workers.open_document(data).size)

    threads = [threading.Thread(target=ask, args=(data,)) for data in (pdf, signed) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sizes) == sorted([len(pdf), len(signed)] * 4)


def test_a_worker_has_neither_keys_nor_database_nor_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(isolation.__file__).resolve().parent.parent)
    program = (
        "import sys; from signing import isolation_worker as w; w._work();"
        "print(sorted({'pkcs11', 'hsm', 'sqlalchemy', 'flask', 'authlib'} & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": root}, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"
    monkeypatch.setenv("TAMGA_SECRET", "secret")
    worker = isolation._Worker(WorkerLimits())
    try:
        environment = Path(f"/proc/{worker._process.pid}/environ").read_bytes()
        assert b"secret" not in environment
    finally:
        worker.end()


def test_nothing_but_values_is_taken_from_a_worker() -> None:
    class Attack:
        def __reduce__(self) -> object:
            return os.system, ("true",)

    for answer in (Attack(), Path("/"), subprocess.Popen):
        with pytest.raises(pickle.UnpicklingError):
            isolation._load(pickle.dumps(("ok", answer)))
