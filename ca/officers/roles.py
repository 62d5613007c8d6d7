"""The trusted roles, which of them one person may not hold together, and who approves what (RFC 3647 5.2.1, 5.2.4)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations

from ca.officers.errors import RolesConflict, RoleUnknown

CA_ADMINISTRATOR = "ca-administrator"
RA_OFFICER = "ra-officer"
SECURITY_OFFICER = "security-officer"
AUDITOR = "auditor"
ROLES = (CA_ADMINISTRATOR, RA_OFFICER, SECURITY_OFFICER, AUDITOR)

# Who looks after the controls does not run what they control.
_APART = frozenset({frozenset({CA_ADMINISTRATOR, SECURITY_OFFICER})})

ROLE_CHANGE = "role-change"
PROFILE_CHANGE = "profile-change"
# Whose signatures count for a request of this kind. An auditor's never does: he judges afterwards.
_APPROVERS: Mapping[str, frozenset[str]] = {ROLE_CHANGE: frozenset({SECURITY_OFFICER})}
_OTHER_APPROVERS = frozenset({SECURITY_OFFICER, CA_ADMINISTRATOR})


def checked_roles(roles: Collection[str]) -> frozenset[str]:
    """The roles, if one person may hold them together. Raises RoleUnknown, RolesConflict."""
    unknown = sorted(set(roles) - set(ROLES))
    if unknown or not roles:
        raise RoleUnknown(f"an officer holds one or more of {', '.join(ROLES)}")
    for one, other in combinations(sorted(set(roles)), 2):
        if AUDITOR in (one, other) or frozenset({one, other}) in _APART:
            raise RolesConflict(f"nobody is {one} and {other} at once")
    return frozenset(roles)


def approvers(kind: str) -> frozenset[str]:
    """The roles whose holders may approve a request of this kind."""
    return _APPROVERS.get(kind, _OTHER_APPROVERS)
