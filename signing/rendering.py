"""Pages as pictures: what a signer reviews. Nothing in the document is run and nothing is fetched."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from signing.document_errors import DocEncrypted, DocUnreadable, PlacementOutsidePage

MAX_WIDTH = 3000  # pixels
MAX_HEIGHT = 12_000  # pixels


def page_png(data: bytes, page: int, *, width: int = 900) -> bytes:
    """A page (counted from 1) as PNG, ``width`` pixels wide, drawn with annotations and form fields as they look.

    PDFium is built without JavaScript and XFA and has no network. Raises DocUnreadable, DocEncrypted,
    PlacementOutsidePage when there is no such page.
    """
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise _reason(error) from error
    try:
        if not 1 <= page <= len(document):
            raise PlacementOutsidePage(f"the document has {len(document)} pages")
        return _draw(document, page - 1, min(max(width, 50), MAX_WIDTH))
    except pypdfium2.PdfiumError as error:
        raise DocUnreadable(f"page {page} cannot be drawn") from error
    finally:
        document.close()


def _draw(document: Any, index: int, width: int) -> bytes:
    document.init_forms()  # signatures and filled fields are drawn as widgets
    page = document[index]
    page_width, page_height = page.get_size()
    scale = min(width / max(page_width, 1), MAX_HEIGHT / max(page_height, 1))
    picture = page.render(scale=scale, may_draw_forms=True).to_pil()
    png = BytesIO()
    picture.save(png, format="PNG")
    return png.getvalue()


def _reason(error: Exception) -> DocEncrypted | DocUnreadable:
    if "password" in str(error).lower():
        return DocEncrypted("the document opens with a password only")
    return DocUnreadable("the document cannot be drawn")
