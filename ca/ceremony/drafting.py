"""Drafts of ceremony files: one completed for custodians, and the file of an authority's next generation."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from ca.ceremony.addresses import Addresses
from ca.ceremony.writing import ceremony_file
from ca.errors import AuthorityNotFound, CertificateNotFound
from ca.hierarchy import Authority, Hierarchy
from ca.register import Register
from ca.settings import CaSettings
from ca.tables import AuthorityRow, CeremonyRow
from core.database import Database
from policies import names
from policies.keys import algorithm_name
from policies.profiles import load_profile

_EVIDENCE = "ceremony:"
_CARRIED = ("policy_url", "token", "quorum", "custodian")


@dataclass(frozen=True)
class CustodianEntry:
    """A custodian as the file lists one; ``public_key`` is PEM."""

    name: str
    public_key: str


class Drafting:
    """Writes ceremony files that people then read, change and sign."""

    def __init__(
        self, *, settings: CaSettings, database: Database, hierarchy: Hierarchy, register: Register
    ) -> None:
        self._settings = settings
        self._database = database
        self._hierarchy = hierarchy
        self._register = register

    def completed(
        self,
        text: str,
        *,
        token: str,
        custodians: Sequence[CustodianEntry],
        approvals: int,
        countersignatures: int,
    ) -> str:
        """A ceremony file with all that one with custodians must hold: token, addresses, profile versions, quorum."""
        document = tomllib.loads(text)
        for table in ("authority", "credential", "cross"):
            for row in document.get(table, ()):
                row.setdefault("version", load_profile(row.get("profile", "cross-certificate")).version)
        document["token"] = token
        document["addresses"] = Addresses.of(self._settings).table()
        document["quorum"] = {"approvals": approvals, "countersignatures": countersignatures}
        document["custodian"] = [{"name": each.name, "public_key": each.public_key} for each in custodians]
        return ceremony_file(document)

    def next_generation(self, purpose: str) -> str:
        """The ceremony file of this purpose's next generation under the live root: authority, responder, and for a root
        the cross-certificates both ways. Custodians and policy are those of the ceremony before.

        Raises AuthorityNotFound, and why there is no root in force.
        """
        old = self._newest(purpose)
        slug = self._next_slug(old.slug)
        document: dict[str, Any] = {"name": slug, "kind": "hierarchy" if old.is_root else "issuing-ca"}
        document |= self._carried(old)
        profile = self._register.get(old.certificate_id).profile
        document["authority"] = [
            {
                "slug": slug,
                "purpose": purpose,
                "issuer": slug if old.is_root else self._hierarchy.for_purpose("root").slug,
                "profile": profile,
                "version": load_profile(profile).version,
                "key": algorithm_name(old.public_key),
                "subject": next_subject(dict(names.read_name(old.name)), old.slug, slug),
            }
        ]
        if old.is_root:
            document["cross"] = self._crossing(old, slug)
        document["credential"] = [self._responder(old, slug)]
        return ceremony_file(document, comment=f"The generation of {purpose} after {old.slug}.")

    def _newest(self, purpose: str) -> Authority:
        found = [authority for authority in self._hierarchy.authorities() if authority.purpose == purpose]
        if not found:
            raise AuthorityNotFound(f"there is no authority for {purpose}")
        return found[-1]

    def _next_slug(self, slug: str) -> str:
        """The first free number after the newest: slugs are never used again."""
        stem, number = generation(slug)
        with self._database.reading() as session:
            taken = set(session.scalars(select(AuthorityRow.slug)))
        while f"{stem}-g{number + 1}" in taken:
            number += 1
        return f"{stem}-g{number + 1}"

    def _carried(self, old: Authority) -> dict[str, Any]:
        name = self._register.get(old.certificate_id).evidence.removeprefix(_EVIDENCE)
        with self._database.reading() as session:
            row = session.get(CeremonyRow, name)
        before: Mapping[str, Any] = tomllib.loads(row.plan) if row is not None else {}
        carried = {key: before[key] for key in _CARRIED if key in before}
        if "quorum" in carried:
            carried["addresses"] = Addresses.of(self._settings).table()
        return {"policy_url": "", **carried}

    def _responder(self, old: Authority, slug: str) -> dict[str, Any]:
        try:
            newest = self._hierarchy.responder(old.slug).certificate
            subject = next_subject(dict(names.read_name(names.subject_of(newest.der))), old.slug, slug)
        except CertificateNotFound:
            subject = next_subject(dict(names.read_name(old.name)), old.slug, slug)
            subject = {**{label: subject[label] for label in ("C", "O")}, "CN": f"{subject['CN']} OCSP"}
        profile = "ocsp-responder-root" if old.is_root else "ocsp-responder"
        return {
            "label": f"ocsp-{slug}-1",
            "issuer": slug,
            "profile": profile,
            "version": load_profile(profile).version,
            "key": "P-256",
            "purpose": "ocsp",
            "subject": subject,
        }

    def _crossing(self, old: Authority, slug: str) -> list[dict[str, Any]]:
        version = load_profile("cross-certificate").version
        return [
            {"slug": f"{of}-by-{by}", "issuer": by, "authority": of, "profile": "cross-certificate", "version": version}
            for of, by in ((slug, old.slug), (old.slug, slug))
        ]


def generation(slug: str) -> tuple[str, int]:
    """``citizen-sign`` and 1 of ``citizen-sign-g1``; 1 when it says none."""
    match = re.fullmatch(r"(.+)-g([0-9]+)", slug)
    return (match[1], int(match[2])) if match else (slug, 1)


def next_subject(subject: dict[str, str], old: str, new: str) -> dict[str, str]:
    """A subject whose CN names the new generation instead of the old one."""
    before, after = generation(old)[1], generation(new)[1]
    text, changed = re.subn(rf"\bG{before}\b", f"G{after}", subject["CN"])
    return {**subject, "CN": text if changed else f"{subject['CN']} G{after}"}
