"""Synthetic PDF documents, made by reportlab, and the ways to spoil them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

FONT = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")


def contract(*, pages: int = 2, title: str = "Loan agreement 2026/117", note: str = "") -> bytes:
    """A short agreement in two languages; the same arguments give the same bytes."""
    from reportlab.lib.pagesizes import A4
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont
    from reportlab.pdfgen.canvas import Canvas

    font = "Helvetica"
    if FONT.exists():
        pdfmetrics.registerFont(TTFont("DejaVu", str(FONT)))
        font = "DejaVu"
    written = io.BytesIO()
    canvas: Any = Canvas(written, pagesize=A4, invariant=1)
    canvas.setTitle(title)
    for page in range(1, pages + 1):
        canvas.setFont(font, 16)
        canvas.drawString(72, 770, title)
        canvas.setFont(font, 11)
        canvas.drawString(72, 740, f"Page {page} of {pages}. {note}")
        canvas.drawString(72, 720, "The bank lends 25 000 000 MNT to the borrower for 36 months.")
        if font == "DejaVu":
            canvas.drawString(72, 700, "Зээлийн гэрээ: Өлзийхүү, Үүр-Туяа, Ёлк.")
        canvas.showPage()
    canvas.save()
    return written.getvalue()


def encrypted(document: bytes) -> bytes:
    """The document behind a password that the service never hears."""
    import pikepdf

    written = io.BytesIO()
    with pikepdf.open(io.BytesIO(document)) as pdf:
        pdf.save(written, encryption=pikepdf.Encryption(user="unspoken", owner="unspoken", R=6))
    return written.getvalue()


def with_byte_changed(document: bytes, position: int, mask: int = 0x01) -> bytes:
    """The document with one bit, or the bits of `mask`, turned over at `position`."""
    return document[:position] + bytes([document[position] ^ mask]) + document[position + 1 :]


def with_page_added(document: bytes) -> bytes:
    """The document with an empty page appended in an incremental update, as an editor would save it."""
    from pyhanko.pdf_utils import generic
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter

    writer = IncrementalPdfFileWriter(io.BytesIO(document))
    page = generic.DictionaryObject(
        {
            generic.pdf_name("/Type"): generic.pdf_name("/Page"),
            generic.pdf_name("/MediaBox"): generic.ArrayObject(generic.NumberObject(n) for n in (0, 0, 595, 842)),
            generic.pdf_name("/Resources"): generic.DictionaryObject(),
        }
    )
    writer.insert_page(page)
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def byte_range(document: bytes) -> tuple[int, int, int, int]:
    """The first signature's /ByteRange, read without any PDF library."""
    import re

    found = re.search(rb"/ByteRange\s*\[\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s*\]", document)
    assert found, "the document carries no signature"
    first, second, third, fourth = (int(number) for number in found.groups())
    return first, second, third, fourth


def signature_contents(document: bytes) -> bytes:
    """The DER of the first signature's /Contents, without its padding."""
    _, before, after, _ = byte_range(document)
    padded = bytes.fromhex(document[before + 1 : after - 1].decode())
    # DER SEQUENCE with a long-form length: the padding behind it is zeros.
    octets = padded[1] & 0x7F if padded[1] & 0x80 else 0
    length = int.from_bytes(padded[2 : 2 + octets], "big") if octets else padded[1]
    return padded[: 2 + octets + length]


def signed_bytes(document: bytes) -> bytes:
    """What the first signature covers."""
    start, length, second, rest = byte_range(document)
    return document[start : start + length] + document[second : second + rest]
