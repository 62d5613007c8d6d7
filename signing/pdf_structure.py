"""What signing and validation ask of a PDF's structure, over pyHanko; every parser fault becomes one of our errors.

Importing this module imports pyHanko, which takes half a second: serving code imports it inside functions.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pyhanko.pdf_utils import generic, misc
from pyhanko.pdf_utils.crypt import AuthStatus, StandardSecurityHandler
from pyhanko.pdf_utils.crypt.permissions import StandardPermissions
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.fields import enumerate_sig_fields

from signing.document_errors import (
    DocEncrypted,
    DocPermissions,
    DocumentError,
    DocUnreadable,
    ParserLimit,
    PlacementOutsidePage,
)

MAX_PAGES = 10_000
MAX_OBJECTS = 1_000_000
MAX_REVISIONS = 500
MAX_SIGNATURES = 200
MAX_NESTING = 256  # of the page tree

# What escapes from the parser on damaged files, besides its own errors.
PARSER_FAULTS: tuple[type[Exception], ...] = (
    misc.PdfError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, ArithmeticError,
    NotImplementedError, OSError, EOFError, RecursionError, struct.error, zlib.error, StopIteration,
)  # fmt: skip

DOCUMENT_FAULTS: tuple[type[Exception], ...] = (DocumentError, *PARSER_FAULTS)


@dataclass(frozen=True)
class Page:
    """A page as a reader shows it: crop box in default user space (points) and clockwise rotation in degrees."""

    left: float
    bottom: float
    width: float
    height: float
    rotation: int

    @property
    def displayed_size(self) -> tuple[float, float]:
        """Width and height after rotation."""
        return (self.height, self.width) if self.rotation in (90, 270) else (self.width, self.height)

    def rectangle(self, x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
        """A rectangle given from the lower left of the displayed page, in default user space.

        Raises PlacementOutsidePage unless all of it is on the page.
        """
        shown_width, shown_height = self.displayed_size
        if (
            min(x, y) < 0
            or min(width, height) <= 0
            or x + width > shown_width + 0.01
            or y + height > shown_height + 0.01
        ):
            raise PlacementOutsidePage(f"the page is {shown_width:g} x {shown_height:g} points")
        corners = (self._to_user_space(x, y), self._to_user_space(x + width, y + height))
        (x0, y0), (x1, y1) = corners
        return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)

    def _to_user_space(self, x: float, y: float) -> tuple[float, float]:
        turned = {
            0: (x, y),
            90: (self.width - y, x),
            180: (self.width - x, self.height - y),
            270: (y, self.height - x),
        }[self.rotation]
        return self.left + turned[0], self.bottom + turned[1]


def read(data: bytes) -> PdfFileReader:
    """A reader over the document, opened with the empty user password when it is encrypted.

    Raises DocUnreadable, DocEncrypted, ParserLimit.
    """
    try:
        reader = PdfFileReader(BytesIO(data), strict=False)
        check_limits(reader)
        if reader.encrypted:
            authenticate(reader)
        root = reader.root
    except DocumentError:
        raise
    except misc.PdfDecodeLimitError as error:
        raise ParserLimit("a stream of the document grows beyond the limit when decoded") from error
    except MemoryError as error:
        raise ParserLimit("reading the document takes too much memory") from error
    except PARSER_FAULTS as error:
        raise DocUnreadable("the cross-references or the trailer cannot be read") from error
    if not isinstance(root, generic.DictionaryObject):
        raise DocUnreadable("the document catalog is not a dictionary")
    return reader


def check_limits(reader: PdfFileReader) -> None:
    """Raise ParserLimit when the document has more revisions or objects than anybody should need."""
    if reader.xrefs.total_revisions > MAX_REVISIONS:
        raise ParserLimit(f"more than {MAX_REVISIONS} revisions")
    size = reader.trailer["/Size"] if "/Size" in reader.trailer else 0  # noqa: SIM401 - get would not follow
    if not isinstance(size, int) or size > MAX_OBJECTS:
        raise ParserLimit(f"more than {MAX_OBJECTS} objects")


def authenticate(reader: PdfFileReader) -> None:
    """Open an encrypted document with the empty user password, or raise DocEncrypted."""
    if not isinstance(reader.security_handler, StandardSecurityHandler):
        raise DocEncrypted("the document is encrypted for certain recipients")
    if reader.decrypt(b"").status == AuthStatus.FAILED:
        raise DocEncrypted("the document opens with a password only")


def check_permissions(reader: PdfFileReader, *, new_field: bool) -> None:
    """Raise DocPermissions when an encrypted document does not let everybody sign (ISO 32000-2 Table 22)."""
    handler = reader.security_handler
    if handler is None:
        return
    flags = reader.decrypt(b"").permission_flags
    if flags is None or not isinstance(flags, StandardPermissions):
        return
    wanted = StandardPermissions.ALLOW_MODIFICATION_GENERIC | StandardPermissions.ALLOW_ANNOTS_FORM_FILLING
    if not new_field:
        wanted |= StandardPermissions.ALLOW_FORM_FILLING
    if not flags & wanted:
        raise DocPermissions("the document's permissions do not include signing")


def pages(reader: PdfFileReader) -> tuple[Page, ...]:
    """Every page in order. Raises DocUnreadable for a page tree that loops or is no tree, ParserLimit beyond limits."""
    try:
        return tuple(_page(leaf, inherited) for leaf, inherited in _leaves(reader))
    except PARSER_FAULTS as error:
        raise DocUnreadable("the page tree cannot be read") from error


def _leaves(reader: PdfFileReader) -> Iterator[tuple[Any, dict[str, Any]]]:
    waiting: list[tuple[Any, dict[str, Any], int]] = [(reader.root.raw_get("/Pages"), {}, 0)]
    seen: set[tuple[int, int]] = set()
    count = 0
    while waiting:
        pointer, inherited, depth = waiting.pop()
        if isinstance(pointer, generic.IndirectObject):
            if (pointer.idnum, pointer.generation) in seen:
                raise DocUnreadable("a page or page tree node occurs twice in the page tree")
            seen.add((pointer.idnum, pointer.generation))
        node = pointer.get_object()
        if not isinstance(node, generic.DictionaryObject) or depth > MAX_NESTING:
            raise DocUnreadable("the page tree is not a tree of dictionaries")
        here = {**inherited, **{key: node[key] for key in ("/MediaBox", "/CropBox", "/Rotate") if key in node}}
        if "/Kids" in node:
            kids = node["/Kids"]
            waiting += [(kids.raw_get(index), here, depth + 1) for index in reversed(range(len(kids)))]
            continue
        count += 1
        if count > MAX_PAGES:
            raise ParserLimit(f"more than {MAX_PAGES} pages")
        yield node, here


def _page(_node: Any, attributes: dict[str, Any]) -> Page:
    media = _box(attributes.get("/MediaBox", (0, 0, 612, 792)))
    crop = _box(attributes["/CropBox"]) if "/CropBox" in attributes else media
    left, bottom = max(crop[0], media[0]), max(crop[1], media[1])
    right, top = min(crop[2], media[2]), min(crop[3], media[3])
    if right <= left or top <= bottom:
        left, bottom, right, top = media
    rotation = int(attributes.get("/Rotate", 0)) % 360
    return Page(left, bottom, right - left, top - bottom, rotation if rotation in (0, 90, 180, 270) else 0)


def _box(value: Any) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(number) for number in value)
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def entry(dictionary: Any, key: str, default: Any = None) -> Any:
    """An entry of a dictionary with references followed; pyHanko's ``get`` does not follow them."""
    return dictionary[key] if isinstance(dictionary, dict) and key in dictionary else default


def references(signature: Any) -> list[tuple[str, Any]]:
    """(transform method, its parameters) of a signature's reference dictionaries (ISO 32000-2 Table 256)."""
    found = [listed.get_object() for listed in entry(signature, "/Reference", [])]
    return [(str(entry(each, "/TransformMethod")), entry(each, "/TransformParams", {})) for each in found]


def signature_fields(handler: Any) -> list[tuple[str, Any, Any]]:
    """(fully qualified name, value or None, reference) of every signature field. Raises DocUnreadable."""
    try:
        fields = [(str(name), _resolved(value), pointer) for name, value, pointer in enumerate_sig_fields(handler)]
    except PARSER_FAULTS as error:
        raise DocUnreadable("the form's fields cannot be read") from error
    if len(fields) > MAX_SIGNATURES:
        raise ParserLimit(f"more than {MAX_SIGNATURES} signature fields")
    return fields


def _resolved(value: Any) -> Any:
    return value.get_object() if isinstance(value, generic.IndirectObject) else value  # type: ignore[no-untyped-call]


def is_signed(value: Any) -> bool:
    """Whether a signature field's value is a signature; an empty /Contents leaves the field unsigned (S29)."""
    if value is None or isinstance(value, generic.NullObject):
        return False
    if not isinstance(value, generic.DictionaryObject):
        return True
    try:
        contents = value.raw_get("/Contents", decrypt=generic.EncryptedObjAccess.RAW)
    except KeyError:
        return True
    octets = getattr(contents, "original_bytes", None)
    return not (isinstance(octets, bytes) and not octets.strip(b"\x00"))


class RevisionWriter(IncrementalPdfFileWriter):
    """Appends one revision and touches neither document information, XMP metadata nor the declared version (S9)."""

    output_version = (1, 3)

    def _update_meta(self) -> None:
        """Leave the metadata as the author made it."""

    @classmethod
    def over(cls, reader: PdfFileReader) -> RevisionWriter:
        """A writer that appends to what ``reader`` reads."""
        return cls(reader.stream, prev=reader)

    def whole(self) -> bytes:
        """The document with the revision appended."""
        output: Any = BytesIO()
        self.write(output)  # type: ignore[no-untyped-call]
        return bytes(output.getvalue())
