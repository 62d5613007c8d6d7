"""The signing room's parts, put together once for the roof and the commands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from core.audit import AuditLog
from core.clock import Clock
from core.database import Database
from core.egress import Egress
from core.one_time import OneTimeStore
from core.outbox import Outbox
from core.passwords import Passwords
from hsm.keystore import Keystore
from hsm.wrapped import WrappedKeys
from signing.activation import Activations
from signing.approval import Approval
from signing.credentials import Credentials
from signing.deliveries import Deliveries
from signing.isolation import PdfWorkers
from signing.local_signing import LocalSigning
from signing.pdf import Pdf
from signing.ports import Persons, RelyingParties, RevocationEvidence, SignerCertificates, TimeStamps, TrustAnchors
from signing.recovery import Recovery
from signing.request_objects import RequestJwts
from signing.review import Review
from signing.settings import SigningSettings
from signing.sign_requests import SignRequests
from signing.wrapping import WrappingKeys


@dataclass(frozen=True)
class Parts:
    """What others use of this room."""

    settings: SigningSettings
    base_url: str
    clock: Clock
    pdf: Pdf
    relying_parties: RelyingParties
    request_jwts: RequestJwts
    sign_requests: SignRequests
    credentials: Credentials
    review: Review
    approval: Approval
    local_signing: LocalSigning
    recovery: Recovery
    deliveries: Deliveries
    wrapping_keys: WrappingKeys

    def close(self) -> None:
        """End the processes that read documents."""
        self.pdf.close()


def assemble(
    *,
    settings: SigningSettings,
    base_url: str,
    database: Database,
    audit: AuditLog,
    clock: Clock,
    keystore: Keystore,
    one_time: OneTimeStore,
    outbox: Outbox,
    egress: Egress,
    passwords: Passwords,
    persons: Persons,
    relying_parties: RelyingParties,
    signer_certificates: SignerCertificates,
    time_stamps: TimeStamps,
    revocation_evidence: RevocationEvidence,
    trust_anchors: TrustAnchors,
    pdf_workers: PdfWorkers | None = None,
) -> Parts:
    """Put the room together. Nothing is read or opened yet; worker processes start when the first document comes."""
    pdf = Pdf(pdf_workers or PdfWorkers(settings.pdf_workers), trust_anchors, revocation_evidence)
    wrapping_keys = WrappingKeys(
        database=database, audit=audit, clock=clock, keystore=keystore, first=settings.wrapping_key
    )
    credentials = Credentials(
        database=database,
        audit=audit,
        clock=clock,
        wrapped_keys=WrappedKeys(keystore, settings.wrapping_key),
        wrapped_keys_now=wrapping_keys.wrapped_keys,
        passwords=passwords,
        certificates=signer_certificates,
        settings=settings,
    )
    sign_requests = SignRequests(
        database=database,
        audit=audit,
        clock=clock,
        outbox=outbox,
        one_time=one_time,
        keystore=keystore,
        persons=persons,
        pdf=pdf,
        settings=settings,
        base_url=base_url,
    )
    return Parts(
        settings=settings,
        base_url=base_url,
        clock=clock,
        pdf=pdf,
        relying_parties=relying_parties,
        request_jwts=RequestJwts(relying_parties, one_time, clock, base_url),
        sign_requests=sign_requests,
        credentials=credentials,
        review=Review(
            database=database,
            clock=clock,
            sign_requests=sign_requests,
            credentials=credentials,
            persons=persons,
            time_stamps=time_stamps,
            revocation_evidence=revocation_evidence,
            pdf=pdf,
        ),
        approval=Approval(
            database=database,
            audit=audit,
            clock=clock,
            sign_requests=sign_requests,
            credentials=credentials,
            activations=Activations(audit, clock),
            time_stamps=time_stamps,
            revocation_evidence=revocation_evidence,
            pdf=pdf,
            policy=settings.validation_policy,
        ),
        local_signing=LocalSigning(
            database=database,
            audit=audit,
            clock=clock,
            credentials=credentials,
            persons=persons,
            time_stamps=time_stamps,
            revocation_evidence=revocation_evidence,
            pdf=pdf,
            limit=settings.document_limit,
            policy=settings.validation_policy,
        ),
        recovery=Recovery(
            database=database,
            audit=audit,
            clock=clock,
            sign_requests=sign_requests,
            credentials=credentials,
            time_limit=timedelta(seconds=settings.signing_time_limit),
        ),
        deliveries=Deliveries(
            database=database,
            outbox=outbox,
            egress=egress,
            keystore=keystore,
            clock=clock,
            issuer=base_url,
            key_label=settings.token_signing_key,
        ),
        wrapping_keys=wrapping_keys,
    )
