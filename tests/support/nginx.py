"""nginx in front of an instance, configured by the very file in deploy/, with this machine's ports and certificate."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.processes import Server, free_port, listens
from tests.support.tools import require_tool, run
from tests.support.tree import ROOT

SITE = ROOT / "deploy" / "nginx" / "tamga.conf"
MAIN = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
worker_processes 1;
{user}
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@dataclass(frozen=True)
class Ports:
    """Where nginx will listen; chosen before the instance is made, whose certificates name them."""

    tls: int
    plain: int
    enrolment: int

    @classmethod
    def free(cls) -> Ports:
        return cls(free_port(), free_port(), free_port())


def certificate_for(host: str, folder: Path) -> Path:
    """A self-signed TLS certificate, its key beside it; returns the certificate's path."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fullchain.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "fullchain.pem"


def site(ports: Ports, upstream: int, tls: Path) -> str:
    """deploy/nginx/tamga.conf with everything that differs from machine to machine replaced."""
    text = SITE.read_text()
    replaced = {
        "server 127.0.0.1:8080;": f"server 127.0.0.1:{upstream};",
        "    listen 80;\n    listen [::]:80;\n": f"    listen 127.0.0.1:{ports.plain};\n",
        "    listen 443 ssl http2;\n    listen [::]:443 ssl http2;\n": f"    listen 127.0.0.1:{ports.tls} ssl http2;\n",
        "    listen 8443 ssl;\n    listen [::]:8443 ssl;\n": f"    listen 127.0.0.1:{ports.enrolment} ssl;\n",
        "server_name id.example.mn;": "server_name localhost;",
        "https://$host$request_uri": f"https://$host:{ports.tls}$request_uri",
        "proxy_set_header Host $host;": "proxy_set_header Host $http_host;",
        "/etc/tamga/tls/": f"{tls.parent}/",
    }
    for old, new in replaced.items():
        assert old in text, f"{old!r} is no longer in {SITE.name}"
        text = text.replace(old, new)
    return text


def start(folder: Path, ports: Ports, upstream: int, tls: Path) -> Server:
    """Serve the site."""
    program = require_tool("nginx", "nginx")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "site.conf").write_text(site(ports, upstream, tls))
    # As root nginx would hand its work to a user who may not enter the tests' folder.
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user=user))
    command = [program, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    tested = run(*command, "-t")
    assert tested.status == 0, tested.output
    server = Server(command, log=folder / "log")
    server.wait_until(lambda: listens(ports.tls) and listens(ports.plain) and listens(ports.enrolment))
    return server
