"""Signed answers kept in memory for as long as the register says the same."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from ocsp.ports import Status


@dataclass(frozen=True)
class SignedAnswer:
    """A `successful` response in DER and what its HTTP headers need, as texts where they stay the same.

    ``steady_since`` is set where the status is known to have been the same from then on.
    """

    body: bytes
    etag: str
    produced_at: datetime
    next_update: datetime
    steady_since: datetime | None
    nonced: bool
    last_modified: str
    expires: str

    @classmethod
    def of(
        cls, body: bytes, *, produced_at: datetime, next_update: datetime, steady_since: datetime | None, nonced: bool
    ) -> SignedAnswer:
        """An answer with its entity tag and dates written out; ``body`` is in DER."""
        return cls(
            body=body,
            etag=f'"{hashlib.sha256(body).hexdigest()}"',
            produced_at=produced_at,
            next_update=next_update,
            steady_since=steady_since,
            nonced=nonced,
            last_modified=_http_date(produced_at),
            expires=_http_date(next_update),
        )


class AnswerCache:
    """The last signed answer for each CertID, oldest use out first.

    The key is the CertID's own bytes: they hold the hash algorithm and its parameters' form, so an answer for one form
    is never given to another. An answer is given back only for the very status it was signed for, which the caller
    has just read; a revocation therefore shows with the next question, whichever process made it.
    """

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._lock = threading.Lock()
        self._answers: OrderedDict[bytes, tuple[Status, SignedAnswer]] = OrderedDict()

    def get(self, cert_id: bytes, status: Status) -> SignedAnswer | None:
        """The answer signed for this status, fresh or not."""
        with self._lock:
            entry = self._answers.get(cert_id)
            if entry is None or entry[0] != status:
                return None
            self._answers.move_to_end(cert_id)
            return entry[1]

    def last(self, cert_id: bytes) -> SignedAnswer | None:
        """The last answer whatever the status is by now; only for when that cannot be read."""
        with self._lock:
            entry = self._answers.get(cert_id)
            return entry[1] if entry else None

    def put(self, cert_id: bytes, status: Status, answer: SignedAnswer) -> None:
        """Keep ``answer`` in place of any before it."""
        with self._lock:
            self._answers[cert_id] = (status, answer)
            self._answers.move_to_end(cert_id)
            while len(self._answers) > self._entries:
                self._answers.popitem(last=False)


def _http_date(moment: datetime) -> str:
    return format_datetime(moment.astimezone(UTC), usegmt=True)
