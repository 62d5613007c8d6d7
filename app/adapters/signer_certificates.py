"""Citizens' signing certificates for the signing room, from the certificate authority and the register of people."""

from __future__ import annotations

from ca.errors import CertificateNotFound
from ca.parts import Parts
from ca.register import IssuedCertificate as RegisteredCertificate
from ca.register import State
from policies.names import natural_person_identifier
from signing.ports import CertificateStanding, IssuedCertificate
from sso.people import People

PROFILE = "citizen-signature"
_STANDING = {
    State.GOOD: CertificateStanding.GOOD,
    State.SUSPENDED: CertificateStanding.SUSPENDED,
    State.REVOKED: CertificateStanding.REVOKED,
}


class CitizenCertificates:
    """Answers ``signing.ports.SignerCertificates``."""

    def __init__(self, authority: Parts, people: People) -> None:
        self._authority = authority
        self._people = people

    def issue(self, *, person_id: str, csr: bytes, credential_id: str) -> IssuedCertificate:
        """A certificate that names the person as the register of people does; the CSR gives the key only."""
        facts = self._people.certificate_facts(person_id)
        subject = {
            "GN": facts.given_name,
            "CN": f"{facts.family_name} {facts.given_name}".strip(),
            "serialNumber": natural_person_identifier(facts.civil_id),
        }
        if facts.family_name:
            subject["SN"] = facts.family_name
        application = self._authority.registration.apply(
            profile=PROFILE, csr=csr, subject=subject, holder=person_id, evidence=_evidence(credential_id)
        )
        issued = self._authority.issuance.certify(application, actor=person_id)
        return self._with_chain(issued)

    def issued_for(self, *, person_id: str, credential_id: str) -> IssuedCertificate | None:
        """The certificate that the register holds for this credential."""
        for found in self._authority.register.certificates(holder=person_id, profile=PROFILE):
            if found.evidence == _evidence(credential_id):
                return self._with_chain(found)
        return None

    def standing(self, certificate: bytes) -> CertificateStanding:
        """The register's word, now."""
        try:
            found = self._authority.register.by_der(certificate)
        except CertificateNotFound:
            return CertificateStanding.UNKNOWN
        if found.status.state is State.GOOD and self._authority.clock() > found.not_after:
            return CertificateStanding.EXPIRED
        return _STANDING[found.status.state]

    def _with_chain(self, found: RegisteredCertificate) -> IssuedCertificate:
        return IssuedCertificate(
            certificate=found.der,
            chain=self._authority.hierarchy.served_chain(found.issuer),
            serial_number=found.serial_text,
            not_after=found.not_after,
        )


def _evidence(credential_id: str) -> str:
    return f"credential:{credential_id}"
