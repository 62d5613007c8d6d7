"""The room's doors for the web: partner API, ceremony, credentials and verification, as one blueprint."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from flask import Blueprint

from core.pages import FormGuard
from core.principal import Principal
from signing.appearance import local_date_time
from signing.pages import CeremonyPages
from signing.partner_api import PartnerApi
from signing.parts import Parts
from signing.verify_page import VerifyPage


def blueprint(
    parts: Parts,
    *,
    person: Callable[[], Principal | None],
    client: Callable[[], Principal | None],
    login_url: Callable[[str], str],
    guard: FormGuard,
) -> Blueprint:
    """Everything this room answers. ``person`` and ``client`` say who is calling; ``login_url`` takes a path to come
    back to. Coded errors below /api are left to the application; pages show their own.
    """
    settings = parts.settings
    doors = Blueprint("signing", __name__, template_folder="templates")
    doors.add_app_template_global(local_time)
    doors.register_blueprint(
        PartnerApi(
            sign_requests=parts.sign_requests,
            recovery=parts.recovery,
            deliveries=parts.deliveries,
            relying_parties=parts.relying_parties,
            request_jwts=parts.request_jwts,
            pdf=parts.pdf,
            client=client,
            base_url=parts.base_url,
            document_limit=settings.document_limit,
            policy=settings.validation_policy,
            clock=parts.clock,
        ).blueprint()
    )
    doors.register_blueprint(
        CeremonyPages(
            review=parts.review,
            approval=parts.approval,
            sign_requests=parts.sign_requests,
            credentials=parts.credentials,
            recovery=parts.recovery,
            deliveries=parts.deliveries,
            relying_parties=parts.relying_parties,
            person=person,
            login_url=login_url,
            guard=guard,
            issuer=parts.base_url,
            clock=parts.clock,
        ).blueprint()
    )
    doors.register_blueprint(
        VerifyPage(
            pdf=parts.pdf,
            guard=guard,
            policy=settings.validation_policy,
            limit=settings.verify_page_limit,
            clock=parts.clock,
        ).blueprint()
    )
    return doors


def local_time(moment: datetime | str, language: str) -> str:
    """A moment as people here write it, in Mongolia's time with its offset."""
    return local_date_time(datetime.fromisoformat(moment) if isinstance(moment, str) else moment, language)
