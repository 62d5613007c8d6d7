"""What the trust list writes into the audit log."""

from __future__ import annotations

VERSION_MADE = "ca:trust_list:version_made"
