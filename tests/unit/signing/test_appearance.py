"""The visible signature: letters, dates, wrapping, size, and how it looks on turned pages (S8)."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pikepdf
import pytest
from PIL import Image

from signing.appearance import AppearanceText, lay_out, local_date_time
from signing.document_errors import FontGlyphMissing
from signing.embedded_font import appearance_font
from signing.pades import Placement
from signing.rendering import page_png

from .conftest import NOW, Pki, make_pdf, sign

MOMENT = datetime(2026, 9, 20, 6, 5, tzinfo=UTC)


def test_dates_are_written_as_mongolians_write_them() -> None:
    assert local_date_time(MOMENT, "mn") == "2026 оны 9-р сарын 20 14:05 (UTC+8)"
    assert local_date_time(MOMENT, "en") == "September 20, 2026 14:05 (UTC+8)"


def test_old_dates_take_the_offset_of_their_day() -> None:
    assert local_date_time(datetime(2016, 7, 1, tzinfo=UTC), "mn").endswith("09:00 (UTC+9)")


@pytest.mark.parametrize(
    "text", ["Өлзий Үүрийнтуяа Ёндон", "Әділет Қыдырұлы Ғалым", "Ґалаґан Їжакевич", "Zoë Ñandú Šašo"]
)
def test_letters_of_our_neighbours_are_drawn(text: str) -> None:
    font = appearance_font()
    assert all(font.glyph(character) for character in text)


@pytest.mark.parametrize("text", ["山田太郎", "علي", "Бат🙂"])
def test_a_missing_glyph_is_an_error_and_never_a_substitute(pki: Pki, text: str) -> None:
    with pytest.raises(FontGlyphMissing):
        sign(pki, make_pdf(), name=text)


def test_two_hundred_characters_wrap_and_fit() -> None:
    name = ("Энхболдбаатарсүрэн " * 11)[:200].strip()
    font = appearance_font()
    lines = lay_out(AppearanceText(name, NOW, "mn"), 221.1, 59.5, font)
    assert "".join(name.split()) in "".join("".join(line.text.split()) for line in lines)
    assert sum(line.size * 1.22 for line in lines) <= 59.5
    assert all(font.width(line.text, line.size) <= 221.1 for line in lines)


def test_an_appearance_adds_at_most_forty_kilobytes(pki: Pki) -> None:
    data = make_pdf()
    visible = sign(pki, data, level="B-B", name="Бат-Эрдэнэ " * 18)
    invisible = sign(pki, data, level="B-B", placement=None)
    assert len(visible.data) - len(invisible.data) <= 40_000


def dark_pixels(picture: bytes, box: tuple[float, float, float, float]) -> int:
    """How many dark pixels a page's picture (drawn at one pixel a point) has inside a box from its lower left."""
    with Image.open(BytesIO(picture)) as image:
        grey = image.convert("L")
        left, bottom, width, height = box
        area = grey.crop((int(left), int(grey.height - bottom - height), int(left + width), int(grey.height - bottom)))
        return sum(count for level, count in enumerate(area.histogram()) if level < 128)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_the_signature_stands_upright_where_it_was_placed_on_a_turned_page(pki: Pki, rotation: int) -> None:
    output = BytesIO()
    with pikepdf.open(BytesIO(make_pdf(size=(400.0, 600.0)))) as document:
        document.pages[0].rotate(rotation, relative=False)
        document.save(output)
    done = sign(
        pki, output.getvalue(), level="B-B", placement=Placement(page=1, x=20, y=30, width=300, height=60), name="Бат"
    )
    width = 400 if rotation in (0, 180) else 600
    before, after = page_png(output.getvalue(), 1, width=width), page_png(done.data, 1, width=width)
    box = (20.0, 30.0, 300.0, 60.0)
    assert dark_pixels(after, box) > dark_pixels(before, box) + 150
    whole = (0.0, 0.0, 600.0, 600.0)
    assert dark_pixels(after, whole) - dark_pixels(before, whole) == pytest.approx(
        dark_pixels(after, box) - dark_pixels(before, box), abs=40
    )
    # Upright text is drawn from the left: the left half is darker than the right one.
    left, right = ((25.0, 30.0, 145.0, 60.0), (172.0, 30.0, 145.0, 60.0))
    drawn = [dark_pixels(after, half) - dark_pixels(before, half) for half in (left, right)]
    assert drawn[0] > drawn[1]


def test_another_renderer_draws_and_reads_the_text(pki: Pki, tmp_path: Path) -> None:
    done = sign(pki, make_pdf(), level="B-B", name="Ёндонжамц Өлзийхүү")
    file = tmp_path / "signed.pdf"
    file.write_bytes(done.data)
    read = subprocess.run(["pdftotext", str(file), "-"], capture_output=True, check=True, text=True).stdout
    assert "Ёндонжамц Өлзийхүү" in read
    assert "2026 оны 11-р сарын 21 12:05 (UTC+8)" in read
    fonts = subprocess.run(["pdffonts", str(file)], capture_output=True, check=True, text=True).stdout
    line = next(line for line in fonts.splitlines() if "DejaVuSans" in line)
    assert line.split()[-5:-2] == ["yes", "yes", "yes"]  # embedded, subset, with Unicode


def test_the_picture_has_an_alternative_text(pki: Pki) -> None:
    done = sign(pki, make_pdf(), level="B-B", name="Бат Болд", language="en")
    with pikepdf.open(BytesIO(done.data)) as document:
        field = document.Root.AcroForm.Fields[0]
        assert str(field.TU) == "Electronic signature: Бат Болд, November 21, 2026 12:05 (UTC+8)"
