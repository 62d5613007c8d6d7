"""Preflight: what is refused before a key is used, and by which code (signing specification S6, S32, chapter 9)."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from io import BytesIO

import pikepdf
import pytest

from signing import document_errors as errors
from signing.documents import HEADER_WINDOW, open_document
from signing.pades import Placement, preflight
from signing.rendering import page_png

from .conftest import Pki, make_pdf, sign


def edited(data: bytes, change: Callable[[pikepdf.Pdf], None], **kwargs: object) -> bytes:
    """A rewritten copy of a document."""
    output = BytesIO()
    with pikepdf.open(BytesIO(data)) as document:
        change(document)
        document.save(output, **kwargs)  # type: ignore[arg-type]
    return output.getvalue()


def zipped() -> bytes:
    output = BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        archive.writestr("mimetype", "application/vnd.etsi.asic-e+zip")
    return output.getvalue()


def test_facts_of_a_document() -> None:
    facts = open_document(make_pdf(3, title="Түрээсийн гэрээ"))
    assert (facts.pages, facts.existing_signatures, facts.title) == (3, 0, "Түрээсийн гэрээ")
    assert facts.page_sizes == ((595.0, 842.0),) * 3


def test_a_rotated_page_is_reported_as_displayed() -> None:
    def rotate(document: pikepdf.Pdf) -> None:
        document.pages[0].rotate(90, relative=False)

    assert open_document(edited(make_pdf(), rotate)).page_sizes == ((842.0, 595.0),)


def test_a_title_loses_its_bidirectional_overrides() -> None:
    assert open_document(make_pdf(title="Гэрээ\u202efdp.exe")).title == "Гэрээfdp.exe"


@pytest.mark.parametrize(
    ("data", "error", "status"),
    [
        (b"", errors.EmptyBody, 400),
        (b"hello", errors.NotAPdf, 400),
        (b" " * (HEADER_WINDOW + 1) + b"%PDF-1.7", errors.NotAPdf, 400),
        (b"<html></html>", errors.NotAPdf, 400),
        (b"<?xml version='1.0'?><a/>", errors.UnsupportedFormat, 415),
        (zipped(), errors.UnsupportedFormat, 415),
        (b"\x30\x80\x06\x09" + bytes.fromhex("2a864886f70d010702"), errors.UnsupportedFormat, 415),
        (b"%PDF-1.7", errors.DocUnreadable, 422),
        (b"%PDF-1.7\nxref\n0 0\ntrailer\n<<>>\nstartxref\n9\n%%EOF\n", errors.DocUnreadable, 422),
    ],
)  # fmt: skip
def test_what_is_no_usable_pdf_is_named(data: bytes, error: type[errors.DocumentError], status: int) -> None:
    with pytest.raises(error) as raised:
        open_document(data)
    assert raised.value.status == status


def test_a_document_over_the_limit_is_refused_unparsed() -> None:
    data = make_pdf()
    open_document(data, limit=len(data))
    with pytest.raises(errors.TooLarge):
        open_document(data, limit=len(data) - 1)


def test_bytes_before_the_header_are_refused() -> None:
    with pytest.raises(errors.DocUnreadable):
        open_document(b"\n" + make_pdf())


@pytest.mark.parametrize("keep", [0.25, 0.5, 0.9, 0.99])
def test_a_cut_tail_is_refused(keep: float) -> None:
    data = make_pdf()
    with pytest.raises(errors.DocUnreadable):
        open_document(data[: int(len(data) * keep)])


def test_a_page_tree_that_loops_is_refused() -> None:
    data = make_pdf()
    kids = data.index(b"/Kids [")
    node = next(
        number for number in range(1, 20) if b"/Kids" in data.split(b"%d 0 obj" % number)[-1].split(b"endobj")[0]
    )
    looping = data[: kids + 8] + b"%d" % node + data[kids + 9 :]
    with pytest.raises(errors.DocUnreadable):
        open_document(looping)


def test_encryption_with_a_password_is_refused_and_without_is_opened() -> None:
    locked = edited(make_pdf(), lambda _: None, encryption=pikepdf.Encryption(owner="o", user="u"))
    with pytest.raises(errors.DocEncrypted):
        open_document(locked)
    assert (
        open_document(edited(make_pdf(), lambda _: None, encryption=pikepdf.Encryption(owner="o", user=""))).pages == 1
    )


def test_permissions_that_exclude_signing_are_respected() -> None:
    nothing = pikepdf.Permissions(modify_annotation=False, modify_form=False, modify_other=False, modify_assembly=False)
    data = edited(make_pdf(), lambda _: None, encryption=pikepdf.Encryption(owner="o", user="", allow=nothing))
    with pytest.raises(errors.DocPermissions):
        open_document(data)


def test_a_dynamic_xfa_form_is_refused() -> None:
    def make_dynamic(document: pikepdf.Pdf) -> None:
        document.Root.NeedsRendering = True
        document.Root.AcroForm = pikepdf.Dictionary(Fields=[], XFA=document.make_stream(b"<xdp/>"))

    with pytest.raises(errors.DocXfa):
        open_document(edited(make_pdf(), make_dynamic))


def test_hybrid_cross_references_are_refused() -> None:
    """Trap P5: the stock reader refuses them when strict and signs them when not."""
    data = make_pdf()
    stream_at = len(data)
    stream = (
        b"99 0 obj\n<</Type/XRef/Size 1/W[1 2 1]/Index[0 1]/Length 4>>\nstream\n\x00\x00\x00\x00\nendstream\nendobj\n"
    )
    start = data.rindex(b"startxref")
    trailer_at = data.rindex(b"trailer")
    hybrid = data + stream
    xref_at = len(hybrid)
    trailer = data[trailer_at:start].replace(
        b"<<", b"<< /XRefStm %d /Prev %d " % (stream_at, int(data[start:].split()[1])), 1
    )
    hybrid += b"xref\n0 1\n0000000000 65535 f \n" + trailer + b"startxref\n%d\n%%%%EOF\n" % xref_at
    with pytest.raises(errors.DocHybridXref):
        open_document(hybrid)


def certified(permission: int) -> bytes:
    def certify(document: pikepdf.Pdf) -> None:
        parameters = pikepdf.Dictionary(Type=pikepdf.Name.TransformParams, P=permission, V=pikepdf.Name("/1.2"))
        reference = pikepdf.Dictionary(TransformMethod=pikepdf.Name.DocMDP, TransformParams=parameters)
        signature = document.make_indirect(pikepdf.Dictionary(Type=pikepdf.Name.Sig, Reference=[reference]))
        document.Root.Perms = pikepdf.Dictionary(DocMDP=signature)

    return edited(make_pdf(), certify)


def test_a_certification_that_forbids_changes_is_respected() -> None:
    with pytest.raises(errors.DocCertifiedNoChanges) as raised:
        open_document(certified(1))
    assert raised.value.status == 409
    assert open_document(certified(2)).pages == 1


def with_field(data: bytes, *, lock: pikepdf.Dictionary | None = None) -> bytes:
    def add(document: pikepdf.Pdf) -> None:
        field = pikepdf.Dictionary(
            Type=pikepdf.Name.Annot, Subtype=pikepdf.Name.Widget, FT=pikepdf.Name.Sig, T=pikepdf.String("Гарын үсэг"),
            Rect=[50, 50, 250, 110], F=4,
        )  # fmt: skip
        if lock is not None:
            field.Lock = document.make_indirect(lock)
        reference = document.make_indirect(field)
        document.pages[0].Annots = pikepdf.Array([reference])
        document.Root.AcroForm = pikepdf.Dictionary(Fields=[reference], SigFlags=1)

    return edited(data, add)


def test_an_existing_field_is_signed_once(pki: Pki) -> None:
    data = with_field(make_pdf())
    place = Placement(field="Гарын үсэг")
    assert preflight(data, placement=place).existing_signatures == 0
    done = sign(pki, data, placement=place)
    assert done.field_name == "Гарын үсэг"
    with pytest.raises(errors.FieldAlreadySigned):
        preflight(done.data, placement=place)
    with pytest.raises(errors.FieldNotFound):
        preflight(data, placement=Placement(field="Өөр"))


def test_a_lock_that_covers_everything_is_respected(pki: Pki) -> None:
    """Trap P2: the stock signer signs here and breaks the first signature."""
    lock = pikepdf.Dictionary(Type=pikepdf.Name.SigFieldLock, Action=pikepdf.Name.All)
    done = sign(pki, with_field(make_pdf(), lock=lock), placement=Placement(field="Гарын үсэг"))
    with pytest.raises(errors.DocFieldLocked):
        preflight(done.data)


def test_a_lock_that_forbids_all_changes_is_respected(pki: Pki) -> None:
    lock = pikepdf.Dictionary(Type=pikepdf.Name.SigFieldLock, Action=pikepdf.Name.Include, Fields=["x"], P=1)
    done = sign(pki, with_field(make_pdf(), lock=lock), placement=Placement(field="Гарын үсэг"), level="B-T")
    with pytest.raises(errors.DocCertifiedNoChanges):
        preflight(done.data)


def test_a_broken_signature_is_not_lent_credit(signed: bytes) -> None:
    assert open_document(signed).existing_signatures == 1
    position = signed.index(b"/Type /Page")
    with pytest.raises(errors.ExistingSignatureBroken):
        open_document(signed[:position] + signed[position:].replace(b"/Rotate 0", b"/Rotate 9", 1))


@pytest.mark.parametrize(
    "place",
    [Placement(page=0), Placement(page=3), Placement(x=500), Placement(y=800), Placement(x=-1), Placement(width=0)],
)
def test_a_place_off_the_page_is_refused(pdf: bytes, place: Placement) -> None:
    with pytest.raises(errors.PlacementOutsidePage):
        preflight(pdf, placement=place)


def test_pages_are_drawn_as_pictures(pdf: bytes) -> None:
    from PIL import Image

    with Image.open(BytesIO(page_png(pdf, 2, width=300))) as picture:
        assert picture.format == "PNG"
        assert abs(picture.width - 300) <= 1
        assert picture.convert("L").getextrema() == (0, 255)
    with pytest.raises(errors.PlacementOutsidePage):
        page_png(pdf, 3)
    with pytest.raises(errors.DocUnreadable):
        page_png(b"%PDF-1.7 nonsense", 1)
