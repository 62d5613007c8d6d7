"""``create_app``: the one WSGI callable, with the lean rooms' callables beside the Flask application."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, render_template
from werkzeug.middleware.proxy_fix import ProxyFix

from app import health
from app.callers import Callers
from app.client_certificates import ClientCertificates
from app.custody import PAGE_SECRET
from app.door import Door
from app.wiring import Services
from core.pages import FormGuard
from core.text import Catalogue
from core.wsgi import Environ, StartResponse, WSGIApplication

HERE = Path(__file__).parent
# Where whole documents arrive; everything else is small.
DOCUMENT_PATHS = ("/api/v1/sign-requests", "/api/v1/validations", "/verify")
MULTIPART_ALLOWANCE_OCTETS = 64 * 1024


def create_app(services: Services) -> WSGIApplication:
    """Everything this process answers; ``settings.serve.rooms`` picks which rooms' doors open."""
    rooms = services.settings.serve.rooms
    exact: dict[str, WSGIApplication] = {"/healthz": health.live(), "/readyz": health.ready(services)}
    below: dict[str, WSGIApplication] = {}
    if "ca" in rooms:
        from ca.endpoints import wsgi as ca_doors

        below["/crl/"] = below["/aia/"] = ca_doors(services.ca)
    if "ocsp" in rooms:
        from ocsp.endpoints import wsgi as ocsp_doors

        exact["/ocsp"] = below["/ocsp/"] = ocsp_doors(services.ocsp)
    if "signing" in rooms:
        from signing.time_stamp_authority import wsgi as time_stamp_door

        exact["/tsa"] = time_stamp_door(services.time_stamp_authority)
    return _mount(exact, below, _behind_proxy(services, create_flask(services)))


def create_flask(services: Services) -> Flask:
    """The Flask application: pages for people, the OpenID endpoints, the partner APIs."""
    settings = services.settings
    app = Flask("app", root_path=str(HERE), template_folder="templates", static_folder="static")
    app.config["MAX_FORM_MEMORY_SIZE"] = 1024 * 1024
    app.config["TRUSTED_HOSTS"] = _hosts(settings.base_url)
    guard = FormGuard(services.keystore.mac(PAGE_SECRET, b"forms"), settings.base_url)
    door = Door(
        catalogue=Catalogue([HERE / "translations"]),
        guard=guard,
        service_names={"mn": settings.name_mn, "en": settings.name_en},
        secure=not settings.development,
        large_paths=DOCUMENT_PATHS,
        max_document_octets=settings.signing.document_limit + MULTIPART_ALLOWANCE_OCTETS,
    )
    door.install(app)
    callers = Callers(services)
    if "sso" in settings.serve.rooms:
        from sso.endpoints import blueprint as sso_pages

        app.register_blueprint(sso_pages(services.sso, guard=guard))
    if "ca" in settings.serve.rooms:
        from ca.acme.endpoints import blueprint as acme_doors
        from ca.applications.endpoints import ApplicationDoors
        from ca.est.endpoints import blueprint as est_doors
        from ca.trust_list.endpoints import blueprint as trust_list_doors

        certificates = ClientCertificates(settings.serve.client_certificate_header)
        app.register_blueprint(
            est_doors(services.ca.est.enrolment, one_time=services.one_time, client_certificate=certificates.presented)
        )
        app.register_blueprint(
            ApplicationDoors(
                applications=services.ca.applications,
                register=services.ca.register,
                hierarchy=services.ca.hierarchy,
                revocation=services.ca.revocation,
                client=callers.client,
                base_url=settings.base_url,
            ).blueprint()
        )
        app.register_blueprint(acme_doors(services.acme, base_url=settings.base_url))
        app.register_blueprint(trust_list_doors(services.ca.trust_lists))
    if "signing" in settings.serve.rooms:
        from signing.endpoints import blueprint as signing_pages

        app.register_blueprint(
            signing_pages(
                services.signing,
                person=callers.person,
                client=callers.client,
                login_url=callers.login_url,
                guard=guard,
            )
        )
    app.add_url_rule("/", "start", _start)
    return app


def _start() -> str:
    return render_template("app/start.html")


def _hosts(base_url: str) -> list[str]:
    # A forged Host header is refused; a loopback instance answers to every loopback name.
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    return [host] if parts.scheme == "https" else [host, "localhost", "127.0.0.1", "[::1]"]


def _behind_proxy(services: Services, app: Flask) -> WSGIApplication:
    application: WSGIApplication = app
    if services.settings.serve.behind_proxy:
        application = ProxyFix(app, x_for=1, x_proto=1, x_host=0, x_port=0, x_prefix=0)
    return application


def _mount(
    exact: Mapping[str, WSGIApplication], below: Mapping[str, WSGIApplication], rest: WSGIApplication
) -> WSGIApplication:
    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path: str = environ.get("PATH_INFO", "")
        found = exact.get(path)
        if found is None:
            found = below.get(path[: path.find("/", 1) + 1], rest)
        return found(environ, start_response)

    return application
