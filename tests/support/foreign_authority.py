"""A foreign certification authority, made by openssl: a root, an issuing authority below it, and what it issues."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.tools import require_tool, run

_EXTENSIONS = """
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[issuing]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[constrained]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
nameConstraints = critical, permitted;dirName:only
[leaf]
keyUsage = critical, nonRepudiation
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[only]
C = FR
"""


@dataclass(frozen=True)
class Authority:
    """A certificate and the file of its key."""

    certificate: x509.Certificate
    path: Path
    key: Path

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


class ForeignAuthority:
    """`name` tells two of them apart; those of one name look alike and have different keys."""

    def __init__(self, folder: Path, name: str = "Foreign") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.name = name
        (folder / "extensions.cnf").write_text(_EXTENSIONS)
        self.root = self._made("root", f"/C=DE/O={name}/CN={name} Root", None, "root")
        self.issuing = self._made("issuing", f"/C=DE/O={name}/CN={name} Issuing CA", self.root, "issuing")

    def leaf(self, common_name: str = "Somebody", *, days: int = 30, issuer: Authority | None = None) -> Authority:
        """A certificate for signing documents."""
        subject = f"/C=DE/CN={common_name}"
        return self._made("leaf", subject, issuer or self.issuing, "leaf", days=days)

    def authority(self, common_name: str, issuer: Authority | None, extensions: str = "issuing") -> Authority:
        """One more authority."""
        return self._made("more", f"/C=DE/O={self.name}/CN={common_name}", issuer, extensions)

    def chain_file(self, *certificates: Authority) -> Path:
        """PEM of these, of issuing authority and root by default."""
        path = self.folder / "chain.pem"
        path.write_text("".join(each.path.read_text() for each in certificates or (self.issuing, self.root)))
        return path

    def _made(
        self, file: str, subject: str, issuer: Authority | None, extensions: str, *, days: int = 3650
    ) -> Authority:
        number = len(list(self.folder.glob("*.key")))
        key, request, path = (self.folder / f"{file}-{number}.{end}" for end in ("key", "req", "pem"))
        openssl = require_tool("openssl", "openssl")
        made = run(
            openssl, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-utf8",
            "-keyout", key, "-subj", subject, "-out", request,
        )  # fmt: skip
        assert made.status == 0, made.output
        signer = ["-CA", issuer.path, "-CAkey", issuer.key] if issuer else ["-signkey", key]
        signed = run(
            openssl, "x509", "-req", "-in", request, *signer, "-days", str(days), "-sha256", "-out", path,
            "-extfile", self.folder / "extensions.cnf", "-extensions", extensions,
        )  # fmt: skip
        assert signed.status == 0, signed.output
        return Authority(x509.load_pem_x509_certificate(path.read_bytes()), path, key)


def signed_document(document: bytes, signer: Authority, *issuers: Authority) -> bytes:
    """A PDF signed by pyHanko with a foreign certificate, the issuers' certificates beside it."""
    import asyncio
    import io

    from asn1crypto import keys as asn1_keys
    from asn1crypto import x509 as asn1_x509
    from cryptography.hazmat.primitives.serialization import NoEncryption, PrivateFormat, load_pem_private_key
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
    from pyhanko.sign import fields, signers
    from pyhanko_certvalidator.registry import SimpleCertificateStore

    key = load_pem_private_key(signer.key.read_bytes(), None)
    private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    metadata = signers.PdfSignatureMetadata(
        field_name="Foreign", subfilter=fields.SigSeedSubFilter.PADES, md_algorithm="sha256"
    )
    hand = signers.SimpleSigner(
        signing_cert=asn1_x509.Certificate.load(signer.der),
        signing_key=asn1_keys.PrivateKeyInfo.load(private),
        cert_registry=SimpleCertificateStore.from_certs([asn1_x509.Certificate.load(each.der) for each in issuers]),
    )
    writer = IncrementalPdfFileWriter(io.BytesIO(document))
    return bytes(asyncio.run(signers.PdfSigner(metadata, hand).async_sign_pdf(writer)).getvalue())
