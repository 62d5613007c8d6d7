"""django-ca issuing certificates on command: the other side of ``issuance.vs_django_ca``.

Run by the Python of django-ca's own environment: ``python django_ca_peer.py FOLDER``. The folder holds
``requests.der``, certification requests one after another, each after its length in four octets. Every line on standard
input asks for so many certificates and is answered by a line when they are in the database.
"""

from __future__ import annotations

import struct
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path


def main() -> None:
    """Make a CA like ours in that folder, then issue."""
    folder = Path(sys.argv[1])
    configure(folder)
    from cryptography import x509
    from django_ca.key_backends import key_backends
    from django_ca.key_backends.storages.models import StoragesUsePrivateKeyOptions
    from django_ca.models import Certificate
    from django_ca.profiles import profiles

    authority = make_authority(key_backends["default"])
    use = StoragesUsePrivateKeyOptions(password=None)
    profile, requests, issued = profiles["client"], read_requests(folder / "requests.der"), 0
    print("ready", flush=True)
    for line in sys.stdin:
        for _ in range(int(line)):
            csr = x509.load_der_x509_csr(requests[issued % len(requests)])
            subject = x509.Name(
                [
                    x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "MN"),
                    x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Хаан Банк"),
                    x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Client {issued}"),
                ]
            )
            names = x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier("https://id.example.mn/clients/bank-1")]
            )
            extension = x509.Extension(x509.SubjectAlternativeName.oid, False, names)
            Certificate.objects.create_cert(
                authority, use, csr, profile, subject=subject, extensions=[extension], not_after=timedelta(days=365)
            )
            issued += 1
        print(issued, flush=True)


def configure(folder: Path) -> None:
    """The settings of django-ca's own quick start, with SQLite as ours has it, and migrated tables."""
    import django
    from django.conf import settings
    from django.core.management import call_command

    settings.configure(
        SECRET_KEY="no secret: a benchmark",
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_ca"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": folder / "django-ca.sqlite",
                "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"},
            }
        },
        STORAGES={
            "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
            "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
            "django-ca": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": folder}},
        },
        CA_DEFAULT_HOSTNAME="pki.example.mn",
        CA_USE_CELERY=False,
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()
    from django.urls import include, path

    settings.ROOT_URLCONF = (path("django_ca/", include("django_ca.urls")),)
    call_command("migrate", verbosity=0)


def make_authority(backend):  # type: ignore[no-untyped-def]
    """A root with a P-256 key in a file."""
    from cryptography import x509
    from django_ca.key_backends.storages.models import StoragesCreatePrivateKeyOptions
    from django_ca.models import CertificateAuthority

    options = StoragesCreatePrivateKeyOptions(key_type="EC", password=None, path=Path("ca"), elliptic_curve="secp256r1")
    name = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "MN"),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, "Benchmark CA"),
        ]
    )
    ends = datetime.now(UTC) + timedelta(days=3650)
    return CertificateAuthority.objects.init("Benchmark CA", backend, options, name, ends, key_type="EC", path_length=0)


def read_requests(path: Path) -> list[bytes]:
    """The requests in the file."""
    data, requests = path.read_bytes(), []
    while data:
        (length,) = struct.unpack(">I", data[:4])
        requests.append(data[4 : 4 + length])
        data = data[4 + length :]
    return requests


if __name__ == "__main__":
    main()
