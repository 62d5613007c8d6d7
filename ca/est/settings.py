"""What an operator decides about EST."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EstSettings:
    """The labels that are open, and how long things last."""

    labels: tuple[str, ...] = ("tls-server", "tls-client")
    """Machines' profiles that may be enrolled for; each is a label of RFC 7030 3.2.2. None closes EST."""

    default_label: str = "tls-server"
    """The label for clients that name none (RFC 7030 3.2.2 lets them); empty: they are answered 404."""

    permit_hours: int = 72
    """How long a one-time secret waits for its use unless the command says otherwise."""

    retry_after_seconds: int = 300
    """When to ask again about an enrolment that waits for an officer (RFC 7030 4.2.3)."""

    def __post_init__(self) -> None:
        """Refuse what could not be served."""
        if self.default_label and self.labels and self.default_label not in self.labels:
            raise ValueError("default_label must be one of labels")
        if not 1 <= self.permit_hours <= 24 * 90 or not 1 <= self.retry_after_seconds <= 86_400:
            raise ValueError("permit_hours is 1 to 2160, retry_after_seconds 1 to 86400")
