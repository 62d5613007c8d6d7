"""Sending a browser on."""

from __future__ import annotations

from flask import redirect
from werkzeug.wrappers import Response

SEE_OTHER = 303  # RFC 9700 4.12: a 307 would post the password on to the relying party


def see_other(location: str) -> Response:
    """A redirect to ``location`` byte for byte, by GET, kept in no cache."""
    response = redirect(location, SEE_OTHER)
    response.headers["Location"] = location  # werkzeug would normalise it
    response.autocorrect_location_header = False
    response.set_data(b"")
    response.headers["Cache-Control"] = "no-store"
    return response
