"""What a citizen reads for each code that can end on a page: one plain sentence and the next step."""

from __future__ import annotations

from core.errors import CodedError
from core.text import N_
from signing.errors import SigningError

GENERAL = N_("Something went wrong on our side. Nothing was signed.")
BUSY = N_("The service is busy just now. Nothing was signed. Try again in a minute.")

OF_CODE = {
    "forged_form": N_("This page was open too long, or the form did not come from it. Open it again."),
    "EMPTY_BODY": N_("Choose a file first."),
    "NOT_A_PDF": N_("This is not a PDF document. Only PDF documents can be checked here."),
    "UNSUPPORTED_FORMAT": N_("This kind of file cannot be checked here. Only PDF documents can."),
    "TOO_LARGE": N_("This file is too large for this page."),
    "DOC_ENCRYPTED": N_("This document opens with a password only, so it cannot be read here."),
    "DOC_UNREADABLE": N_("This document is damaged and cannot be read."),
    "PARSER_LIMIT": N_("This document is too complicated to be read safely."),
    "DOC_XFA": N_("This document draws its own pages, so it cannot be signed."),
    "DOC_HYBRID_XREF": N_("This document could look different in different programs, so it cannot be signed."),
    "DOC_CERTIFIED_NO_CHANGES": N_("This document's first signature forbids any other."),
    "DOC_FIELD_LOCKED": N_("An earlier signature closed the place that was to be signed."),
    "DOC_PERMISSIONS": N_("This document does not permit signing."),
    "EXISTING_SIGNATURE_BROKEN": N_("An earlier signature of this document does not hold, so it cannot be signed."),
    "FIELD_ALREADY_SIGNED": N_("The place that was to be signed is signed already."),
    "FIELD_NOT_FOUND": N_("The place that was to be signed is not in the document."),
    "PLACEMENT_OUTSIDE_PAGE": N_("The place that was to be signed is not on the page."),
    "FONT_GLYPH_MISSING": N_("Your name holds a letter that cannot be drawn. Ask the operator for help."),
    "SIGNATURE_SELF_CHECK_FAILED": N_("The signed file did not pass our own check, so it was thrown away."),
    "LEVEL_NOT_REACHED": N_("The signed file did not pass our own check, so it was thrown away."),
    "TIME_STAMP_UNUSABLE": N_("The time stamp could not be used, so nothing was signed."),
    "SIGNING_INTERRUPTED": N_("Signing was interrupted, so nothing was signed."),
}

NEXT_STEP_CREDENTIAL = N_("Create a new digital signature, then come back to this document.")
NEXT_STEP_ASK_AGAIN = N_("Ask the organisation to send a new request.")
NEXT_STEP_TRY_AGAIN = N_("Try again in a minute.")


def sentence_of(error: CodedError) -> str:
    """The sentence for a refusal or failure (English; the page translates it)."""
    return sentence_of_code(error.code) or (
        error.sentence if isinstance(error, SigningError) else BUSY if error.status == 503 else GENERAL
    )


def sentence_of_code(code: str | None) -> str | None:
    """The sentence for a stored code, or None."""
    return OF_CODE.get(code or "")
