"""How many certificates a second are issued, end to end: applied for, checked, linted, recorded, signed in the token,
verified, entered and audited, in SQLite that syncs every commit.

The peers sign with a key in a file and keep no audit log; our key is in a SoftHSM token. All keys are P-256, though our
profiles give authorities P-384: what is compared is the work around the signature. Names that end in ``full_lint`` lint
every certificate in full, those in ``no_lint`` none (which no setting allows: it is there to be compared with); the
plain ones lint by shape as the settings' defaults have it.
"""

from __future__ import annotations

import itertools
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from sqlalchemy.orm import Session

import ca.parts
from ca.issuance import Signer
from ca.linting import FULL, FULL_LINT_ONE_IN, Linter
from ca.register import IssuedCertificate
from ca.registration import Application
from ca.settings import CaSettings
from ca.tables import AuthorityRow
from ca.to_be_signed import PublicKey
from core.audit import AuditLog
from core.clock import utc_now
from core.database import Database
from hsm.keystore import KeyAlgorithm, KeyPurpose, Keystore, initialise_token, open_keystore
from hsm.settings import HsmSettings
from policies.names import encode_name
from policies.profiles import CertificateProfile, load_profile
from tests.bench.harness import Bench, Contest
from tests.support import octets

BATCH = 100
SLUG = "bench-g1"
# The register's size in ``issuance.growth``. A hundred thousand take some ten minutes to issue.
CERTIFICATES = int(os.environ.get("TAMGA_BENCH_CERTIFICATES", "10000"))
DJANGO_CA = Path("var/bench/django-ca/bin/python")
REQUIREMENTS = Path("tests/bench/django-ca-requirements.txt")
SUBJECT = {"O": "Хаан Банк", "organizationIdentifier": "NTRMN-1234567"}
NAMES = (("URI", "https://id.example.mn/clients/bank-1"),)


class _NoLinter(Linter):
    """Passes everything, to see what linting costs. What issues the root's own certificate passes it too."""

    def check_to_be_signed(self, tbs: bytes, issuer_key: PublicKey, profile: CertificateProfile, today: object) -> str:
        return FULL


@contextmanager
def authority(linter: Linter) -> Iterator[ca.parts.Parts]:
    """Our certificate authority after its ceremony, on a token and a database of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = HsmSettings(pin_file=folder / "pin", softhsm_conf=folder / "softhsm2.conf")
        initialise_token(settings, "7316-not-a-secret")
        keystore, database = open_keystore(settings), Database(f"sqlite:///{folder / 'tamga.sqlite'}")
        database.create_all()
        try:
            yield with_linter(linter, database, keystore)
        finally:
            linter.close()
            database.close()
            keystore.close()


def with_linter(linter: Linter, database: Database, keystore: Keystore) -> ca.parts.Parts:
    """The parts with one authority, whose key is as small as its peers': P-256, which no profile of ours takes."""
    parts = ca.parts.assemble(
        settings=CaSettings(),
        database=database,
        audit=AuditLog(utc_now),
        clock=utc_now,
        keystore=keystore,
        linter=linter,
    )
    usual = load_profile("root")
    profile = replace(usual, version=usual.version + 1000, keys=frozenset({"P-256"}), digest="0" * 64)
    key = keystore.generate(SLUG, KeyPurpose.CERTIFICATE_SIGNING, KeyAlgorithm.P256).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    subject = (("C", "MN"), ("O", "Benchmark"), ("CN", "Benchmark CA"))
    application = Application(
        profile=profile,
        public_key=key,
        spki=octets.spki(key),
        subject=subject,
        alternative_names=(),
        holder="service:bench",
        evidence="bench",
        key_label=SLUG,
    )
    signer = Signer.new_root(SLUG, key, encode_name(subject))
    intent = parts.issuance.prepare_under(signer, application, actor="bench")
    parts.issuance.issue(intent, actor="bench", entering=established)
    linter.warm_up()
    return parts


def established(session: Session, certificate: IssuedCertificate) -> None:
    """The root certifies relying parties itself."""
    session.add(
        AuthorityRow(
            slug=SLUG,
            purpose=load_profile("tls-client").issuer,
            key_label=SLUG,
            issuer=SLUG,
            certificate_id=certificate.id,
            established_at=utc_now(),
            retired_at=None,
        )
    )


def requests(count: int) -> list[bytes]:
    """Certification requests for fresh P-256 keys, DER."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(count)]
    return [builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER) for key in keys]


def applying(parts: ca.parts.Parts, csrs: list[bytes]) -> Callable[[], Application]:
    """A function that applies for the next certificate, another name and key each time."""
    turn = itertools.count()

    def apply() -> Application:
        number = next(turn)
        return parts.registration.apply(
            profile="tls-client",
            csr=csrs[number % len(csrs)],
            subject={**SUBJECT, "CN": f"Client {number}"},
            holder="bank-1",
            evidence="bench",
            alternative_names=NAMES,
        )

    return apply


def certifying(parts: ca.parts.Parts, csrs: list[bytes], batch: int = 1) -> Callable[[], int]:
    """A function that applies for the next certificates and gets them."""
    apply = applying(parts, csrs)
    return lambda: len(parts.issuance.certify_many([apply() for _ in range(batch)], actor="bench"))


def linter(one_in: int) -> Linter:
    return Linter(on_loopback=True, full_lint_one_in=one_in)


# --- django-ca -------------------------------------------------------------------------------------------------------


@contextmanager
def vs_django_ca(make_linter: Callable[[], Linter], batch: int) -> Iterator[Contest]:
    """In batches on our side, since it has none; or one after another on both, as requests come."""
    csrs = requests(400)
    with authority(make_linter()) as parts, django_ca(csrs) as peer:
        yield Contest(ours=certifying(parts, csrs, batch), peer=peer)


@contextmanager
def django_ca(csrs: list[bytes]) -> Iterator[Callable[[], int]]:
    """django-ca in its own environment, ten certificates at a word."""
    if not DJANGO_CA.exists():
        folder = DJANGO_CA.parent.parent
        raise FileNotFoundError(
            f"django-ca is not installed: {sys.executable} -m venv {folder} && "
            f"{folder}/bin/pip install -r {REQUIREMENTS}"
        )
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "requests.der"
        path.write_bytes(b"".join(struct.pack(">I", len(csr)) + csr for csr in csrs))
        program = [str(DJANGO_CA), str(Path(__file__).with_name("django_ca_peer.py")), name]
        with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            asked, answered = process.stdin, process.stdout
            assert asked is not None
            assert answered is not None
            if answered.readline() != "ready\n":
                raise RuntimeError("django-ca did not start")

            def issue() -> int:
                print(10, file=asked, flush=True)
                if not answered.readline():
                    raise RuntimeError("django-ca ended")
                return 10

            yield issue
            asked.close()


# --- openssl ca ------------------------------------------------------------------------------------------------------


@contextmanager
def vs_openssl_ca(make_linter: Callable[[], Linter]) -> Iterator[Contest]:
    """A batch of a hundred requests that lie ready."""
    csrs = requests(BATCH)
    with authority(make_linter()) as parts, openssl_ca(csrs) as peer:
        yield Contest(ours=certifying(parts, csrs, BATCH), peer=peer)


CONFIGURATION = """
[ca]
default_ca = it
[it]
database = index.txt
serial = serial
new_certs_dir = issued
certificate = ca.pem
private_key = ca.key
default_md = sha256
default_days = 365
policy = any
x509_extensions = extensions
unique_subject = no
copy_extensions = none
rand_serial = yes
[any]
commonName = supplied
[extensions]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
certificatePolicies = 1.3.6.1.4.1.32473.1.1
subjectAltName = URI:https://id.example.mn/clients/bank-1
crlDistributionPoints = URI:http://pki.example.mn/crl/0.crl
authorityInfoAccess = OCSP;URI:http://pki.example.mn/ocsp,caIssuers;URI:http://pki.example.mn/ca.cer
"""


@contextmanager
def openssl_ca(csrs: list[bytes]) -> Iterator[Callable[[], int]]:
    """``openssl ca -batch`` with an index that is empty each time."""
    if shutil.which("openssl") is None:
        raise FileNotFoundError("openssl is not installed: apt-get install openssl")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "ca.cnf").write_text(CONFIGURATION)
        (folder / "issued").mkdir()
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "ca.key").write_bytes(pem)
        make = ["openssl", "req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=Benchmark CA", "-out", "ca.pem"]
        subprocess.run([*make, "-days", "3650"], cwd=folder, check=True, capture_output=True)
        names = [f"{number}.csr" for number in range(len(csrs))]
        for file, csr in zip(names, csrs, strict=True):
            (folder / file).write_bytes(x509.load_der_x509_csr(csr).public_bytes(Encoding.PEM))
        command = ["openssl", "ca", "-config", "ca.cnf", "-batch", "-notext", "-subj", "/CN=Client"]

        def issue() -> int:
            (folder / "index.txt").write_text("")
            done = subprocess.run([*command, "-infiles", *names], cwd=folder, capture_output=True, check=False)
            made = list((folder / "issued").iterdir())
            if done.returncode or len(made) != len(csrs):
                raise RuntimeError(f"openssl ca: {len(made)} of {len(csrs)}: {done.stderr.decode()[-400:]}")
            for each in made:
                each.unlink()
            return len(made)

        yield issue


# --- linting and growth ----------------------------------------------------------------------------------------------


@contextmanager
def lint_in_workers() -> Iterator[Contest]:
    """A full lint in a warm worker process, beside pkilint alone in this process."""
    profile = load_profile("citizen-signature")
    der = octets.signed(octets.tbs(profile))
    here, there = Linter(), Linter(workers=1)
    there.warm_up()
    here.warm_up()
    try:
        yield Contest(
            ours=lambda: there.certificate_findings(der, profile) and 1,
            peer=lambda: here._validators[profile.linter](der) and 1,
        )
    finally:
        there.close()


@contextmanager
def lint_by_shape() -> Iterator[Contest]:
    """What lint by shape costs, beside a full lint of the same octets in this process."""
    profile = load_profile("tls-client")
    tbs, key, today = octets.tbs(profile), octets.key("P-384"), octets.MOMENT.date()
    shaped, full = Linter(draw=lambda _one_in: 1), Linter(full_lint_one_in=1)
    shaped.check_to_be_signed(tbs, key, profile, today)
    yield Contest(
        ours=lambda: shaped.check_to_be_signed(tbs, key, profile, today) and 1,
        peer=lambda: full.check_to_be_signed(tbs, key, profile, today) and 1,
    )


@contextmanager
def growth() -> Iterator[Contest]:
    """An authority that has issued CERTIFICATES beside one that has issued none: is the next one as cheap?"""
    csrs = requests(400)
    with ExitStack() as stack:
        grown, young = (stack.enter_context(authority(linter(FULL_LINT_ONE_IN))) for _ in range(2))
        grow(grown, CERTIFICATES)
        yield Contest(ours=certifying(grown, csrs), peer=certifying(young, csrs))


def grow(parts: ca.parts.Parts, count: int) -> None:
    """Issue so many certificates, each for a key of its own."""
    template = applying(parts, requests(1))()
    for begin in range(0, count, 500):
        applications = []
        for number in range(begin, min(begin + 500, count)):
            key = ec.generate_private_key(ec.SECP256R1()).public_key()
            spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            subject = tuple((label, f"Grown {number}" if label == "CN" else text) for label, text in template.subject)
            applications.append(replace(template, public_key=key, spki=spki, subject=subject))
        parts.issuance.certify_many(applications, actor="bench")


_AGAINST_DJANGO = "django-ca 3.2, its key in a file"
_AGAINST_OPENSSL = "openssl ca -batch, its key in a file"
_FULL = "every certificate linted in full"
_SHAPE = f"linted by shape, one in {FULL_LINT_ONE_IN} in full"
_NONE = "not linted"

BENCHES = (
    Bench(
        "issuance.vs_django_ca",
        partial(vs_django_ca, partial(linter, FULL_LINT_ONE_IN), BATCH),
        _AGAINST_DJANGO,
        unit="certificates/s",
        note=f"ours in batches of {BATCH}; {_SHAPE}",
        seconds=1.0,
    ),
    Bench(
        "issuance.vs_django_ca.full_lint",
        partial(vs_django_ca, partial(linter, 1), BATCH),
        _AGAINST_DJANGO,
        unit="certificates/s",
        note=f"ours in batches of {BATCH}; {_FULL}",
        seconds=1.0,
    ),
    Bench(
        "issuance.vs_django_ca.no_lint",
        partial(vs_django_ca, _NoLinter, BATCH),
        _AGAINST_DJANGO,
        unit="certificates/s",
        note=f"ours in batches of {BATCH}; {_NONE}",
        seconds=1.0,
    ),
    Bench(
        "issuance.vs_django_ca.one_by_one",
        partial(vs_django_ca, partial(linter, FULL_LINT_ONE_IN), 1),
        _AGAINST_DJANGO,
        unit="certificates/s",
        note=f"two synced commits for each of ours, one for theirs; {_SHAPE}",
        seconds=1.0,
    ),
    Bench(
        "issuance.vs_openssl_ca",
        partial(vs_openssl_ca, partial(linter, FULL_LINT_ONE_IN)),
        _AGAINST_OPENSSL,
        unit="certificates/s",
        note=f"batches of {BATCH}; {_SHAPE}",
        seconds=1.0,
    ),
    Bench(
        "issuance.vs_openssl_ca.full_lint",
        partial(vs_openssl_ca, partial(linter, 1)),
        _AGAINST_OPENSSL,
        unit="certificates/s",
        note=f"batches of {BATCH}; {_FULL}",
        seconds=1.0,
    ),
    Bench(
        "issuance.lint",
        lint_in_workers,
        "pkilint in this process",
        unit="certificates/s",
        note="a full lint, ours and theirs, in a warm worker; at most 50 ms at the 95th percentile",
    ),
    Bench(
        "issuance.lint.by_shape",
        lint_by_shape,
        "a full lint in this process",
        unit="certificates/s",
        note="the shape is known",
    ),
    Bench(
        "issuance.growth",
        growth,
        "an authority that has issued none",
        unit="certificates/s",
        note=f"after {CERTIFICATES} certificates; 1.0 says that the register's size costs nothing",
        seconds=1.0,
    ),
)
