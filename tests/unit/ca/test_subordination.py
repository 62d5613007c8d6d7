"""Subordination under an outside root: openssl plays the nation's, asks nobody, and accepts both chains."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca import errors
from ca.ceremony.verification import verify

SLUG = "citizen-sign-g1"
CONF = """
[ca]
default_ca = national
[national]
dir = .
database = index.txt
serial = serial
new_certs_dir = .
default_md = sha384
policy = anything
copy_extensions = none
unique_subject = no
preserve = yes
[anything]
C = optional
O = optional
organizationIdentifier = optional
CN = optional
[req]
distinguished_name = dn
[dn]
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[subordinate]
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
[leaf]
basicConstraints = CA:FALSE
keyUsage = critical,digitalSignature
subjectKeyIdentifier = hash
[constrained]
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[other-identifier]
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = 00112233445566778899
"""


@dataclass(frozen=True)
class NationalRoot:
    """A certificate authority of openssl's."""

    folder: Path

    def openssl(self, *arguments: str) -> None:
        """Run openssl in the folder; it must succeed."""
        done = subprocess.run(["openssl", *arguments], cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def make(self, extensions: str = "root", name: str = "root") -> bytes:
        """A self-signed certificate, PEM."""
        self.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", f"{name}.key")
        subject = ["-subj", "/C=MN/O=Nation/CN=National Root", "-config", "ca.conf"]
        self.openssl("req", "-new", "-key", f"{name}.key", *subject, "-out", "root.csr")
        self.openssl(
            "ca", "-selfsign", "-batch", "-notext", "-config", "ca.conf", "-keyfile", f"{name}.key", "-in", "root.csr",
            "-startdate", "20261101000000Z", "-enddate", "20361101000000Z", "-extensions", extensions,
            "-out", f"{name}.pem",
        )  # fmt: skip
        return (self.folder / f"{name}.pem").read_bytes()

    def answer(self, request: bytes, *, extensions: str = "subordinate", days: tuple[str, str] | None = None,
               subject: str = "", name: str = "root") -> bytes:  # fmt: skip
        """The certificate for a request, PEM."""
        (self.folder / "request.pem").write_bytes(request)
        times = ["-startdate", (days or ("20261101000000Z", ""))[0], "-enddate", (days or ("", "20301101000000Z"))[1]]
        self.openssl(
            "ca", "-batch", "-notext", "-config", "ca.conf", "-cert", f"{name}.pem", "-keyfile", f"{name}.key",
            "-in", "request.pem", "-out", "answer.pem", "-extensions", extensions, *times,
            *(["-subj", subject] if subject else []),
        )  # fmt: skip
        return (self.folder / "answer.pem").read_bytes()


@pytest.fixture
def nation(tmp_path: Path) -> NationalRoot:
    folder = tmp_path / "nation"
    folder.mkdir()
    (folder / "ca.conf").write_text(CONF)
    (folder / "index.txt").write_text("")
    (folder / "serial").write_text("1000\n")
    root = NationalRoot(folder)
    root.make()
    return root


@pytest.fixture
def request_pem(room) -> bytes:
    der = room.parts.subordination.request(SLUG, actor="test")
    return x509.load_der_x509_csr(der).public_bytes(Encoding.PEM)


def accept(room, answer: bytes, chain: bytes, *, slug: str = "national-1", served: bool = False):
    return room.parts.subordination.accept(
        SLUG, slug=slug, certificate=answer, chain=chain, served=served, actor="test"
    )


def test_openssl_finds_the_request_signed_by_the_authoritys_key(room, request_pem: bytes, tmp_path: Path) -> None:
    (tmp_path / "request.pem").write_bytes(request_pem)
    done = subprocess.run(
        ["openssl", "req", "-in", "request.pem", "-verify", "-noout", "-text"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "verify OK" in done.stderr + done.stdout and "Citizen Signature CA G1" in done.stdout
    request = x509.load_pem_x509_csr(request_pem)
    authority = room.parts.hierarchy.authority(SLUG)
    assert request.public_key() == authority.public_key
    assert request.subject.public_bytes() == authority.name
    assert room.events().count("ca:authority:certification_requested") == 1


def test_an_answer_is_taken_in_and_both_chains_lead_to_their_root(
    room, nation: NationalRoot, request_pem: bytes, citizen
) -> None:
    root = (nation.folder / "root.pem").read_bytes()
    further = accept(room, nation.answer(request_pem), root)
    leaf = room.parts.issuance.certify(room.parts.registration.apply(**citizen()), actor="test")
    assert room.openssl_verify(leaf.der, "-crl_check_all").returncode == 0
    command = ["openssl", "verify", "-x509_strict", "-no-CApath", "-no-CAstore"]
    command += ["-CAfile", str(nation.folder / "root.pem"), "-attime", str(int(room.clock.moment.timestamp()))]
    command += ["-untrusted", str(room.pem("further", further.der)), str(room.pem("leaf", leaf.der))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_which_chain_is_served_is_chosen_and_can_be_taken_back(room, nation: NationalRoot, request_pem: bytes) -> None:
    own = room.parts.hierarchy.served_chain(SLUG)
    root = (nation.folder / "root.pem").read_bytes()
    further = accept(room, nation.answer(request_pem), root)
    assert room.parts.hierarchy.served_chain(SLUG) == own
    room.parts.subordination.serve(SLUG, "national-1", actor="test")
    assert room.parts.hierarchy.served_chain(SLUG) == (further.der, *further.chain)
    assert room.parts.hierarchy.certificate_at(SLUG) == further.der
    assert room.parts.hierarchy.certificate_at(f"{SLUG}-own") == own[0]
    assert room.parts.hierarchy.served_chain("seal-g1")[-1] == own[-1]
    room.parts.subordination.serve(SLUG, None, actor="test")
    assert room.parts.hierarchy.served_chain(SLUG) == own
    assert room.parts.hierarchy.certificate_at("national-1") == further.der
    with pytest.raises(errors.AuthorityNotFound):
        room.parts.subordination.serve("seal-g1", "national-1", actor="test")


def test_an_answer_may_be_served_at_once(room, nation: NationalRoot, request_pem: bytes) -> None:
    further = accept(room, nation.answer(request_pem), (nation.folder / "root.pem").read_bytes(), served=True)
    assert room.parts.hierarchy.served_chain(SLUG)[0] == further.der
    facts = room.facts("ca:authority:outside_certificate_accepted")
    assert facts == {"served": True, "sha256": hashlib.sha256(further.der).hexdigest(), "slug": "national-1"}


def reason(room, answer: bytes, chain: bytes, slug: str = "national-1") -> str:
    """Why an answer is refused; nothing of it is kept."""
    before = room.parts.hierarchy.further_certificates()
    with pytest.raises(errors.OutsideCertificateRefused) as caught:
        accept(room, answer, chain, slug=slug)
    assert room.parts.hierarchy.further_certificates() == before
    assert caught.value.exit_code == 3
    return str(caught.value.facts["reason"])


def test_an_answer_that_does_not_fit_is_refused_with_its_reason(
    room, nation: NationalRoot, request_pem: bytes
) -> None:
    root = (nation.folder / "root.pem").read_bytes()
    other = room.parts.subordination.request("seal-g1", actor="test")
    other_pem = x509.load_der_x509_csr(other).public_bytes(Encoding.PEM)
    good = nation.answer(request_pem)
    assert reason(room, nation.answer(other_pem), root) == "key"
    assert reason(room, nation.answer(request_pem, subject="/C=MN/O=Other/CN=Other"), root) == "name"
    assert reason(room, nation.answer(request_pem, extensions="other-identifier"), root) == "key_identifier"
    assert reason(room, nation.answer(request_pem, extensions="leaf"), root) == "constraints"
    past = ("20250101000000Z", "20260101000000Z")
    assert reason(room, nation.answer(request_pem, days=past), root) == "validity"
    future = ("20300101000000Z", "20310101000000Z")
    assert reason(room, nation.answer(request_pem, days=future), root) == "validity"
    assert reason(room, good, b"") == "chain"
    assert reason(room, good, good) == "constraints"  # pathlen 0 leaves no room for itself below
    stranger = nation.make(name="stranger")
    assert reason(room, good, stranger) == "chain"
    assert reason(room, good, root + stranger) == "chain"
    assert reason(room, b"no certificate", root) == "unreadable"
    assert reason(room, good + good, root) == "unreadable"
    assert reason(room, good, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n") == "unreadable"
    assert reason(room, good, root, slug="seal-g1") == "slug"


def test_a_root_whose_path_length_leaves_no_room_is_refused(room, nation: NationalRoot, request_pem: bytes) -> None:
    # RFC 5280 4.2.1.9: pathlen 0 allows end entities below, and our authority is none.
    narrow = nation.make(extensions="constrained", name="narrow")
    assert reason(room, nation.answer(request_pem, name="narrow"), narrow) == "constraints"


def test_request_and_acceptance_as_ceremonies_are_replayed(room, nation: NationalRoot) -> None:
    head = 'policy_url = "https://localhost/cps"\n'
    asked = room.parts.ceremony.read(f'name = "asked"\nkind = "request"\n{head}[[request]]\nauthority = "{SLUG}"\n')
    transcript = room.parts.ceremony.hold(asked, actor="test")
    assert verify(transcript).signed_by == SLUG
    line = transcript.find("request", SLUG)
    request = x509.load_der_x509_csr(base64.b64decode(line.output["request"])).public_bytes(Encoding.PEM)
    answer, root = nation.answer(request).decode(), (nation.folder / "root.pem").read_text()
    text = (
        f'name = "answered"\nkind = "acceptance"\n{head}[[acceptance]]\nslug = "national-1"\nauthority = "{SLUG}"\n'
        f"certificate = '''\n{answer}'''\nchain = '''\n{root}'''\nserved = true\n"
    )
    verify(room.parts.ceremony.hold(room.parts.ceremony.read(text), actor="test"))
    assert [each.slug for each in room.parts.hierarchy.further_certificates()] == ["national-1"]
    assert room.parts.hierarchy.served_chain(SLUG)[-1] == x509.load_pem_x509_certificate(root.encode()).public_bytes(
        Encoding.DER
    )


def test_a_retired_authority_asks_nobody(room) -> None:
    room.parts.retirement.retire(SLUG, actor="test", without_successor=True)
    with pytest.raises(errors.AuthorityRetired):
        room.parts.subordination.request(SLUG, actor="test")
