"""Which roles each command needs: the matrix of role and command, as data.

A command that only reads is for whoever can read the instance's files, an auditor first of all, and names no role. One
with UNATTENDED is also run by timers and by whoever runs the machine: without an officer's key it acts in their name.
One with FOUNDING needs no officer until there are some. The commands themselves ask ``Context.acting`` for these roles;
the tests hold both to each other.
"""

from __future__ import annotations

from collections.abc import Mapping

from ca.officers.roles import CA_ADMINISTRATOR, RA_OFFICER, SECURITY_OFFICER
from cli.context import FOUNDING, UNATTENDED

READS: tuple[str, ...] = ()
MACHINE = (UNATTENDED,)
ADMINISTRATION = (CA_ADMINISTRATOR,)
REGISTRATION = (RA_OFFICER,)
SECURITY = (SECURITY_OFFICER,)

ROLES: Mapping[str, tuple[str, ...]] = {
    "acme account deactivate": (CA_ADMINISTRATOR, RA_OFFICER),
    "acme account list": READS,
    "acme key add": (CA_ADMINISTRATOR, RA_OFFICER),
    "acme key list": READS,
    "acme key revoke": (CA_ADMINISTRATOR, RA_OFFICER),
    "acme replacement announce": (CA_ADMINISTRATOR, RA_OFFICER),
    "acme replacement list": READS,
    "acme replacement withdraw": (CA_ADMINISTRATOR, RA_OFFICER),
    "acme validate": MACHINE,
    "application approve": REGISTRATION,
    "application issue": (RA_OFFICER, UNATTENDED),
    "application list": READS,
    "application reject": REGISTRATION,
    "application show": READS,
    "application submit": REGISTRATION,
    "approval approve": (CA_ADMINISTRATOR, SECURITY_OFFICER),
    "approval list": READS,
    "approval reject": (CA_ADMINISTRATOR, RA_OFFICER, SECURITY_OFFICER),
    "approval show": READS,
    "audit export": READS,
    "audit verify": READS,
    "ca accept": ADMINISTRATION,
    "ca ceremony approve": READS,
    "ca ceremony countersign": READS,
    "ca ceremony draft": READS,
    "ca ceremony plan": READS,
    "ca ceremony rehearse": READS,
    "ca ceremony run": (CA_ADMINISTRATOR, FOUNDING),
    "ca ceremony verify": READS,
    "ca chain": ADMINISTRATION,
    "ca check": READS,
    "ca list": READS,
    "ca reconcile": (CA_ADMINISTRATOR, SECURITY_OFFICER),
    "ca recover": (CA_ADMINISTRATOR, SECURITY_OFFICER, UNATTENDED),
    "ca renew": (CA_ADMINISTRATOR, UNATTENDED),
    "ca request": ADMINISTRATION,
    "ca retire": ADMINISTRATION,
    "ca rollover": ADMINISTRATION,
    "ca show": READS,
    "cert check": READS,
    "cert export": READS,
    "cert issue": REGISTRATION,
    "cert list": READS,
    "cert mass-revoke": (CA_ADMINISTRATOR, RA_OFFICER, SECURITY_OFFICER),
    "cert resume": (RA_OFFICER, SECURITY_OFFICER),
    "cert revoke": (RA_OFFICER, SECURITY_OFFICER),
    "cert show": READS,
    "cert suspend": (RA_OFFICER, SECURITY_OFFICER),
    "client create": ADMINISTRATION,
    "client disable": ADMINISTRATION,
    "client list": READS,
    "client show": READS,
    "config check": READS,
    "crl publish": (CA_ADMINISTRATOR, UNATTENDED),
    "crl show": READS,
    "database upgrade": MACHINE,
    "deliver": MACHINE,
    "demo": MACHINE,
    "est approve": REGISTRATION,
    "est list": READS,
    "est permit": REGISTRATION,
    "est reject": REGISTRATION,
    "est revoke": REGISTRATION,
    "hsm broker": MACHINE,
    "hsm keys": READS,
    "hsm status": READS,
    "hsm test": MACHINE,
    "init": MACHINE,
    "officer apply": SECURITY,
    "officer bootstrap": MACHINE,
    "officer keygen": READS,
    "officer list": READS,
    "officer propose": SECURITY,
    "officer show": READS,
    "person create": REGISTRATION,
    "person list": READS,
    "person show": READS,
    "profile list": READS,
    "profile propose": (CA_ADMINISTRATOR, SECURITY_OFFICER),
    "serve": MACHINE,
    "sign": MACHINE,
    "trust check": READS,
    "trust export": READS,
    "trust import": ADMINISTRATION,
    "trust list": READS,
    "trust publish": (CA_ADMINISTRATOR, UNATTENDED),
    "trust reject": ADMINISTRATION,
    "trust remove": ADMINISTRATION,
    "verify": READS,
    "wrapping destroy": SECURITY,
    "wrapping list": READS,
    "wrapping rotate": SECURITY,
}
