"""Refusals of documents: what is wrong with the bytes somebody sent, one class per wire code."""

from __future__ import annotations

from core.errors import CodedError


class DocumentError(CodedError):
    """Something about the document itself."""

    status = 422
    exit_code = 3


class EmptyBody(DocumentError):
    """Nothing was sent."""

    code = "EMPTY_BODY"
    status = 400


class NotAPdf(DocumentError):
    """No PDF header where readers look for one."""

    code = "NOT_A_PDF"
    status = 400


class UnsupportedFormat(DocumentError):
    """A known format, but not one this service signs or checks; ``facts["format"]`` names it."""

    code = "UNSUPPORTED_FORMAT"
    status = 415


class TooLarge(DocumentError):
    """More octets than are taken inline."""

    code = "TOO_LARGE"
    status = 413


class DocUnreadable(DocumentError):
    """The structure is damaged, so that a reader would have to guess."""

    code = "DOC_UNREADABLE"


class DocEncrypted(DocumentError):
    """The document opens with a password only."""

    code = "DOC_ENCRYPTED"


class DocXfa(DocumentError):
    """A dynamic XFA form draws its own pages; what is signed would not be what is seen."""

    code = "DOC_XFA"


class DocHybridXref(DocumentError):
    """Two cross-reference forms that may disagree: old and new readers would see different documents."""

    code = "DOC_HYBRID_XREF"


class ParserLimit(DocumentError):
    """Reading the document takes more memory, time or nesting than is allowed."""

    code = "PARSER_LIMIT"


class DocCertifiedNoChanges(DocumentError):
    """The certifying signature forbids every change (DocMDP, P = 1)."""

    code = "DOC_CERTIFIED_NO_CHANGES"
    status = 409


class DocFieldLocked(DocumentError):
    """An earlier signature locks the field that would be signed."""

    code = "DOC_FIELD_LOCKED"
    status = 409


class DocPermissions(DocumentError):
    """The document's permissions do not include signing."""

    code = "DOC_PERMISSIONS"
    status = 409


class ExistingSignatureBroken(DocumentError):
    """A signature that is already there does not hold; signing would lend it credit."""

    code = "EXISTING_SIGNATURE_BROKEN"
    status = 409


class FieldAlreadySigned(DocumentError):
    """The named field holds a signature."""

    code = "FIELD_ALREADY_SIGNED"
    status = 409


class FieldNotFound(DocumentError):
    """There is no signature field of that name."""

    code = "FIELD_NOT_FOUND"


class PlacementOutsidePage(DocumentError):
    """The rectangle is not on the page, or the page is not in the document."""

    code = "PLACEMENT_OUTSIDE_PAGE"


class FontGlyphMissing(DocumentError):
    """The appearance holds a character that the embedded font cannot draw."""

    code = "FONT_GLYPH_MISSING"


class ReservedSpaceTooSmall(DocumentError):
    """The signature outgrew the space kept for it; ``facts["needed"]`` is the size in octets."""

    code = "RESERVED_SPACE_TOO_SMALL"


class SignatureSelfCheckFailed(CodedError):
    """What was just made does not verify; it does not leave (S2)."""

    code = "SIGNATURE_SELF_CHECK_FAILED"
    status = 500
    exit_code = 70


class TimeStampUnusable(CodedError):
    """The time-stamping authority answered with a token that does not hold for this signature."""

    code = "TIME_STAMP_UNUSABLE"
    status = 503
    exit_code = 6


class PolicyUnknown(DocumentError):
    """No validation policy of that id is shipped."""

    code = "POLICY_UNKNOWN"
