"""Every room's settings in one frozen tree, read from the instance's ``tamga.toml`` and ``TAMGA_…`` variables."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from ca.settings import CaSettings
from core.configuration import ConfigurationError, load
from hsm.settings import HsmSettings
from ocsp.settings import OcspSettings
from signing.settings import SigningSettings
from sso.settings import SsoSettings

ROOMS = ("ca", "ocsp", "sso", "signing")


@dataclass(frozen=True)
class FloorSettings:
    """What every room stands on."""

    database_url: str
    """``sqlite:///…`` (embedded) or ``postgresql+psycopg://…``; a relative SQLite path is below the file's folder."""
    redis_url: str = ""
    """``redis://…``; empty keeps one-time values in the process, which then must be the only one."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    egress_networks: tuple[str, ...] = ()
    """Private networks that outgoing requests may reach, such as a partner's leased line; none by default."""

    def __post_init__(self) -> None:
        for network in self.egress_networks:
            ipaddress.ip_network(network)


@dataclass(frozen=True)
class ServeSettings:
    """How ``tamga serve`` listens."""

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    """Processes; more than one needs redis_url."""
    threads: int = 4
    """Threads a process answers with."""
    behind_proxy: bool = False
    """Whether a front such as nginx sets X-Forwarded-For; without one the header is a stranger's word."""
    client_certificate_header: Literal["none", "Client-Cert", "X-Client-Cert-Escaped"] = "none"
    """The header in which the front hands on the certificate that a client proved in TLS: Client-Cert (RFC 9440), or
    X-Client-Cert-Escaped as nginx can write it. Only with behind_proxy, and only when the front replaces it."""
    rooms: tuple[str, ...] = ROOMS
    """Which doors open in this process; sso apart from the others needs redis_url."""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError("port must be 1 to 65535")
        if self.client_certificate_header != "none" and not self.behind_proxy:
            raise ValueError("client_certificate_header needs behind_proxy: without a front it is a stranger's word")


@dataclass(frozen=True)
class Settings:
    """The whole instance."""

    base_url: str
    """The public origin, which is the OpenID issuer: https, or http on a loopback host for development."""
    floor: FloorSettings
    hsm: HsmSettings
    name_mn: str = "Тамга"
    """What people see as the service's name, in Mongolian."""
    name_en: str = "Tamga"
    """The same in English."""
    serve: ServeSettings = field(default_factory=ServeSettings)
    ca: CaSettings = field(default_factory=CaSettings)
    ocsp: OcspSettings = field(default_factory=OcspSettings)
    sso: SsoSettings = field(default_factory=SsoSettings)
    signing: SigningSettings = field(default_factory=SigningSettings)

    @property
    def development(self) -> bool:
        """Whether this instance speaks plain http, as only a loopback host may."""
        return urlsplit(self.base_url).scheme == "http"


def load_settings(path: Path, environ: Mapping[str, str]) -> Settings:
    """Read and check the settings. Raises ConfigurationError naming the first thing that is wrong."""
    settings = load(Settings, path, environ)
    settings = replace(settings, floor=_beside(path, settings.floor))
    _check_origin(settings.base_url)
    check_serve(settings)
    return settings


def _check_origin(base_url: str) -> None:
    parts = urlsplit(base_url)
    if parts.path or parts.query or parts.fragment or parts.username or not parts.hostname:
        raise ConfigurationError("base_url must be an origin such as https://id.example.mn, without a path")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ConfigurationError("base_url may be http on a loopback host only")
    if parts.scheme not in ("http", "https"):
        raise ConfigurationError("base_url must be https")


def check_serve(settings: Settings) -> None:
    """Raise ConfigurationError when what is to be served cannot be."""
    unknown = set(settings.serve.rooms) - set(ROOMS)
    if unknown or not settings.serve.rooms:
        raise ConfigurationError(f"serve.rooms must name rooms among {', '.join(ROOMS)}")
    if settings.serve.workers > 1 and not settings.floor.redis_url:
        raise ConfigurationError("serve.workers above 1 needs floor.redis_url: one-time values must be shared")
    if set(settings.serve.rooms) != set(ROOMS) and "sso" in settings.serve.rooms and not settings.floor.redis_url:
        raise ConfigurationError("sso apart from other rooms needs floor.redis_url: one-time values must be shared")
    if settings.serve.workers < 1 or settings.serve.threads < 1:
        raise ConfigurationError("serve.workers and serve.threads must be at least 1")


def _beside(path: Path, floor: FloorSettings) -> FloorSettings:
    """A relative SQLite file is beside the configuration, wherever the command is typed."""
    scheme, _, name = floor.database_url.partition("sqlite:///")
    if scheme or not name:
        return floor
    return replace(floor, database_url=f"sqlite:///{path.resolve().parent / name}")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
