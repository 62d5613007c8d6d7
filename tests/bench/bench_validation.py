"""How fast signed documents are validated, beside stock pyHanko with revocation required and evidence from the DSS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import BytesIO
from typing import Any

from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko.sign.validation.dss import DocumentSecurityStore

from core.clock import utc_now
from signing.validation import TrustAnchors, validate
from tests.bench.harness import Bench, Contest
from tests.unit.signing.conftest import Pki, make_pdf, make_pki, sign


def contest(pki: Pki, document: bytes) -> Contest:
    """Both must find every signature valid, or the comparison means nothing."""
    trust, at = TrustAnchors((pki.root.der,)), utc_now() + timedelta(minutes=1)

    def ours() -> None:
        report = validate(document, trust=trust, at=at)
        if report.document_status != "TOTAL-PASSED":
            raise ValueError(f"our verdict is {report.document_status}/{report.sub_indication}")

    def peer() -> None:
        reader = PdfFileReader(BytesIO(document))
        store = DocumentSecurityStore.read_dss(reader)
        for embedded in reader.embedded_signatures:
            settings: dict[str, Any] = {
                "trust_roots": [_loaded(pki.root.der)], "moment": at, "revocation_mode": "require",
                "time_tolerance": timedelta(minutes=10),
            }  # fmt: skip
            context = store.as_validation_context(settings)
            if not validate_pdf_signature(embedded, context, context).bottom_line:
                raise ValueError("the peer's verdict is negative")

    ours()
    peer()
    return Contest(ours, peer)


def _loaded(certificate: bytes) -> Any:
    from asn1crypto import x509

    return x509.Certificate.load(certificate)


@contextmanager
def one_signature() -> Iterator[Contest]:
    """One B-LT signature on one page."""
    pki = make_pki()
    yield contest(pki, sign(pki, make_pdf(), at=utc_now()).data)


@contextmanager
def six_signatures() -> Iterator[Contest]:
    """Six B-LT signatures: twelve revisions after the first."""
    pki, document = make_pki(), make_pdf()
    for _ in range(6):
        document = sign(pki, document, at=utc_now(), placement=None).data
    yield contest(pki, document)


BENCHES = (
    Bench("validate-b-lt", one_signature, peer_name="pyHanko", unit="documents/s"),
    Bench("validate-6-signatures", six_signatures, peer_name="pyHanko", unit="documents/s", rounds=3),
)
