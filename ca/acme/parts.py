"""The ACME server's parts, put together once for the roof and the commands."""

from __future__ import annotations

from dataclasses import dataclass

import ca.parts
from ca.acme.accounts import Accounts
from ca.acme.challenges import Challenges
from ca.acme.external_keys import ExternalKeys
from ca.acme.issuing import Issuing
from ca.acme.nonces import Nonces
from ca.acme.orders import Orders
from ca.acme.renewal_information import RenewalInformation
from ca.acme.resolver import Resolver
from ca.acme.settings import AcmeSettings
from ca.acme.validation import Validation
from ca.acme.worker import Worker
from core.audit import AuditLog
from core.clock import Clock
from core.database import Database
from core.egress import Egress
from core.one_time import OneTimeStore
from hsm.keystore import Keystore


@dataclass(frozen=True)
class Parts:
    """What the endpoints and the commands use."""

    settings: AcmeSettings
    one_time: OneTimeStore
    nonces: Nonces
    external_keys: ExternalKeys
    accounts: Accounts
    orders: Orders
    challenges: Challenges
    worker: Worker
    issuing: Issuing
    renewal_information: RenewalInformation

    def release(self) -> None:
        """Take back what a process that died had taken; only where no other process can be at work."""
        self.challenges.release()
        self.orders.release()


def assemble(
    *,
    authority: ca.parts.Parts,
    database: Database,
    audit: AuditLog,
    clock: Clock,
    keystore: Keystore,
    one_time: OneTimeStore,
    egress_networks: tuple[str, ...],
) -> Parts:
    """Put the server together. ``egress_networks`` are the private networks that validations may reach."""
    settings = authority.settings.acme
    resolver = Resolver(servers=settings.resolvers, timeout=settings.resolver_timeout)
    egress = Egress(allowed_networks=egress_networks, plain_http=True, verify_servers=False, resolve=resolver.addresses)
    external_keys = ExternalKeys(
        database=database, audit=audit, clock=clock, keystore=keystore, sealing_key=settings.sealing_key
    )
    accounts = Accounts(database=database, audit=audit, clock=clock, external_keys=external_keys)
    orders = Orders(
        settings=settings,
        database=database,
        audit=audit,
        clock=clock,
        attempt_seconds=authority.settings.intent_expiry_seconds,
    )
    challenges = Challenges(
        settings=settings,
        database=database,
        audit=audit,
        clock=clock,
        one_time=one_time,
        validation=Validation(settings=settings, egress=egress, resolver=resolver),
        resolver=resolver,
    )
    return Parts(
        settings=settings,
        one_time=one_time,
        nonces=Nonces(store=one_time, clock=clock, secret=lambda: keystore.mac(settings.nonce_key, b"acme-nonces")),
        external_keys=external_keys,
        accounts=accounts,
        orders=orders,
        challenges=challenges,
        worker=Worker(challenges, threads=settings.validation_threads, clock=clock),
        issuing=Issuing(
            accounts=accounts,
            external_keys=external_keys,
            orders=orders,
            registration=authority.registration,
            issuance=authority.issuance,
            hierarchy=authority.hierarchy,
            register=authority.register,
            revocation=authority.revocation,
            crls=authority.crls,
        ),
        renewal_information=RenewalInformation(
            database=database,
            audit=audit,
            clock=clock,
            hierarchy=authority.hierarchy,
            register=authority.register,
        ),
    )
