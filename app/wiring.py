"""The only place where parts are put together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import ca.parts
import ocsp.parts
import signing.parts
import sso.parts
from app import schema
from app.adapters.people import RegisteredPeople
from app.adapters.register_status import RegisterResponders, RegisterStatus
from app.adapters.relying_parties import RegisteredRelyingParties
from app.adapters.revocation_evidence import HouseEvidence
from app.adapters.signer_certificates import CitizenCertificates
from app.adapters.time_stamps import HouseUnit
from app.adapters.trust import ListedAnchors, RegisterAnchors
from app.offline import with_addresses
from app.settings import ROOMS, Settings
from ca.acme.parts import Parts as AcmeServer
from ca.acme.parts import assemble as assemble_acme
from core.audit import AuditLog
from core.clock import Clock, utc_now
from core.database import Database
from core.egress import Egress
from core.one_time import OneTimeStore, ProcessLocalStore, RedisStore
from core.outbox import Outbox
from core.passwords import Passwords
from hsm.keystore import Keystore, open_keystore
from signing.time_stamp_authority import TimeStampAuthority
from signing.timestamping import TimeStampClient

ACTOR = "service:start"


@dataclass(frozen=True)
class Services:
    """Everything an instance consists of."""

    settings: Settings
    clock: Clock
    database: Database
    one_time: OneTimeStore
    audit: AuditLog
    outbox: Outbox
    keystore: Keystore
    ca: ca.parts.Parts
    acme: AcmeServer
    ocsp: ocsp.parts.Parts
    sso: sso.parts.Parts
    signing: signing.parts.Parts
    time_stamp_authority: TimeStampAuthority

    def check_before_serving(self) -> None:
        """Refuse to serve with an old schema, changed profiles or keys that are not in custody. Raises CodedError.

        What ran out while nobody served (responders, CRLs) is renewed first; timers do it from then on.
        """
        schema.check(self.database)
        self.keystore.check()
        self.ca.issuance.check_profiles()
        self.ca.renewals.renew_due(actor=ACTOR)
        self.ca.crls.publish_all(actor=ACTOR, only_due=True)
        if "ca" in self.settings.serve.rooms and self.keystore.has(self.settings.ca.trust_list_key):
            self.ca.trust_lists.publish(actor=ACTOR)

    def settle_at_start(self) -> None:
        """Close what a crash left open: all of it where this process does everything alone, else what is old."""
        serve = self.settings.serve
        alone = serve.workers == 1 and set(serve.rooms) == set(ROOMS) and not self.settings.floor.redis_url
        self.ca.recovery.settle(min_age=timedelta(0) if alone else None)
        self.signing.recovery.settle(alone=alone)
        if alone:
            self.acme.release()

    def warm_up(self) -> None:
        """Load what the first issuance and the first signature would otherwise wait for."""
        self.ca.linter.warm_up()
        self.signing.pdf.warm_up()

    def root_certificates(self) -> bytes:
        """The roots of this instance, PEM."""
        roots = [x509.load_der_x509_certificate(der) for der in RegisterAnchors(self.ca.hierarchy).anchors()]
        return b"".join(root.public_bytes(Encoding.PEM) for root in roots)

    def close(self) -> None:
        """Let go of the database and the token, as before a fork."""
        self.ca.linter.close()
        self.signing.close()
        self.database.close()
        self.keystore.close()


def build(settings: Settings, *, keystore: Keystore | None = None, clock: Clock = utc_now) -> Services:
    """Put an instance together. Nothing is opened yet: database and token are reached when first used."""
    settings = with_addresses(settings)
    database = Database(settings.floor.database_url)
    audit, outbox = AuditLog(clock), Outbox(clock)
    one_time = _one_time(settings, clock)
    keystore = keystore or open_keystore(settings.hsm)
    passwords = Passwords(slots=2)
    authority = ca.parts.assemble(
        settings=settings.ca, database=database, audit=audit, clock=clock, keystore=keystore
    )
    status = ocsp.parts.assemble(
        settings=settings.ocsp,
        clock=clock,
        statuses=RegisterStatus(authority.hierarchy, authority.register),
        responders=RegisterResponders(authority.hierarchy, keystore),
    )
    identity = sso.parts.assemble(
        settings=settings.sso,
        issuer=settings.base_url,
        database=database,
        audit=audit,
        clock=clock,
        keystore=keystore,
        one_time=one_time,
        passwords=passwords,
    )
    stamps = TimeStampAuthority(HouseUnit(authority.hierarchy, keystore), clock=clock)
    anchors = RegisterAnchors(authority.hierarchy)
    documents = signing.parts.assemble(
        settings=settings.signing,
        base_url=settings.base_url,
        database=database,
        audit=audit,
        clock=clock,
        keystore=keystore,
        one_time=one_time,
        outbox=outbox,
        egress=Egress(allowed_networks=settings.floor.egress_networks),
        passwords=passwords,
        persons=RegisteredPeople(identity.people, identity.subjects),
        relying_parties=RegisteredRelyingParties(identity.relying_parties),
        signer_certificates=CitizenCertificates(authority, identity.people),
        time_stamps=TimeStampClient(stamps, anchors=anchors.anchors, clock=clock),
        revocation_evidence=HouseEvidence(status.responder, authority.crls, authority.hierarchy),
        trust_anchors=ListedAnchors(anchors, authority.trust_lists),
    )
    acme = assemble_acme(
        authority=authority,
        database=database,
        audit=audit,
        clock=clock,
        keystore=keystore,
        one_time=one_time,
        egress_networks=settings.floor.egress_networks,
    )
    return Services(
        settings=settings,
        clock=clock,
        database=database,
        one_time=one_time,
        audit=audit,
        outbox=outbox,
        keystore=keystore,
        ca=authority,
        acme=acme,
        ocsp=status,
        sso=identity,
        signing=documents,
        time_stamp_authority=stamps,
    )


def _one_time(settings: Settings, clock: Clock) -> OneTimeStore:
    return RedisStore(settings.floor.redis_url) if settings.floor.redis_url else ProcessLocalStore(clock)
