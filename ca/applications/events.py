"""What the registration authority writes into the audit log."""

from __future__ import annotations

APPLICATION_SUBMITTED = "ca:application:submitted"
APPLICATION_APPROVED = "ca:application:approved"
APPLICATION_REJECTED = "ca:application:rejected"
APPLICATION_ISSUED = "ca:application:issued"
