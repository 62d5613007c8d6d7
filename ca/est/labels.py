"""Labels: one for each profile that machines may enrol for (RFC 7030 3.2.2)."""

from __future__ import annotations

from ca.est.errors import LabelUnfit, LabelUnknown
from ca.est.settings import EstSettings
from policies.profiles import CertificateProfile, load_profile, profile_names

# A subject with one of these is a person's.
_PERSONAL = ("SN", "GN", "serialNumber")
_MACHINE_USAGES = frozenset({"serverAuth", "clientAuth"})


class Labels:
    """The labels that the settings open. A label that is not for machines stops the start (LabelUnfit)."""

    def __init__(self, settings: EstSettings) -> None:
        self._settings = settings
        for label in settings.labels:
            if label not in profile_names() or not _for_machines(load_profile(label)):
                raise LabelUnfit(f"ca.est.labels: {label} is no profile for machines")

    def names(self) -> tuple[str, ...]:
        """Every label, in the order of the settings."""
        return self._settings.labels

    def profile(self, label: str | None) -> CertificateProfile:
        """The profile behind a label; None is the default label. Raises LabelUnknown."""
        name = self._settings.default_label if label is None else label
        if name not in self._settings.labels:
            raise LabelUnknown("no certificates are enrolled for under this label")
        return load_profile(name)


def _for_machines(profile: CertificateProfile) -> bool:
    personal = profile.qualified is not None or any(profile.attribute(label) for label in _PERSONAL)
    usages = set(profile.extended_key_usage)
    return profile.enrolled and not personal and bool(usages) and usages <= _MACHINE_USAGES
