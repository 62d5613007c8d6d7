"""The visible signature: who and when, drawn with an embedded font so that it looks the same everywhere (S8)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from signing.embedded_font import FontSubset, TrueTypeFont, appearance_font, compressed
from signing.pdf_objects import array, dictionary, name, number, stream
from signing.pdf_objects import text as string

if TYPE_CHECKING:
    from signing.pdf_structure import RevisionWriter

DEFAULT_WIDTH = 221.1  # points, 78 mm
DEFAULT_HEIGHT = 59.5  # points, 21 mm
TIME_ZONE = ZoneInfo("Asia/Ulaanbaatar")
MAX_NAME_CHARACTERS = 200
_SMALLEST_SCALE = 0.08
_LEADING = 1.22
_PADDING = 4.0
_BAR = 2.0  # the dark bar at the left edge
_HEADINGS = {"mn": "Тоон гарын үсэг", "en": "Electronic signature"}
_ALTERNATIVES = {"mn": "Тоон гарын үсэг: {name}, {date}", "en": "Electronic signature: {name}, {date}"}


@dataclass(frozen=True)
class AppearanceText:
    """What a visible signature says. ``masked_identifier`` is already masked; no personal number goes on a page."""

    name: str
    signing_time: datetime
    language: str
    masked_identifier: str | None = None
    reason: str | None = None

    @property
    def date(self) -> str:
        """The signing time in Mongolia's time, by CLDR, e.g. ``2026 оны 9-р сарын 20 14:05 (UTC+8)``."""
        return local_date_time(self.signing_time, self.language)

    @property
    def alternative(self) -> str:
        """The sentence that stands for the picture where it cannot be seen (ISO 32000-2 14.9.3)."""
        return _ALTERNATIVES[_known(self.language)].format(name=self.name, date=self.date)

    def paragraphs(self) -> Iterator[tuple[str, float, float]]:
        """(text, font size in points, grey level) from top to bottom."""
        yield _HEADINGS[_known(self.language)], 6.5, 0.35
        yield self.name[:MAX_NAME_CHARACTERS], 11.0, 0.0
        if self.masked_identifier:
            yield self.masked_identifier, 7.5, 0.2
        if self.reason:
            yield self.reason, 7.5, 0.2
        yield self.date, 7.5, 0.2


def local_date_time(moment: datetime, language: str) -> str:
    """A moment for people: date by CLDR, 24-hour time, and the offset, which is taken from the zone database."""
    from babel.dates import format_date, format_time

    local = moment.astimezone(TIME_ZONE)
    date_format = "medium" if _known(language) == "mn" else "long"
    date = format_date(local, date_format, locale=_known(language))
    time = format_time(local, "HH:mm", locale=_known(language), tzinfo=TIME_ZONE)
    return " ".join(f"{date} {time} ({_offset(local)})".split())  # CLDR's narrow spaces read like plain ones here


def _offset(local: datetime) -> str:
    offset = local.utcoffset()
    minutes = int(offset.total_seconds()) // 60 if offset else 0
    hours, rest = divmod(abs(minutes), 60)
    sign = "-" if minutes < 0 else "+"
    return f"UTC{sign}{hours}" + (f":{rest:02d}" if rest else "")


def _known(language: str) -> str:
    return language if language in _HEADINGS else "mn"


@dataclass(frozen=True)
class _Line:
    text: str
    size: float
    grey: float


def draw(writer: RevisionWriter, text: AppearanceText, width: float, height: float, rotation: int) -> Any:
    """Add the appearance's form XObject to the revision and return its reference.

    ``width`` and ``height`` are as displayed, in points; ``rotation`` is the page's. Raises FontGlyphMissing.
    """
    font = appearance_font()
    lines = lay_out(text, width, height, font)
    subset = font.subset("".join(line.text for line in lines))
    form = stream(_content(lines, subset, width, height))
    form.update(dictionary(_form_entries(width, height, rotation, _embed_font(writer, font, subset))))
    return writer.add_object(form)


def lay_out(text: AppearanceText, width: float, height: float, font: TrueTypeFont) -> tuple[_Line, ...]:
    """Lines that fit the rectangle; sizes shrink together until they do. Raises FontGlyphMissing."""
    paragraphs = [(unicodedata.normalize("NFC", words), size, grey) for words, size, grey in text.paragraphs()]
    scale = 1.0
    while True:
        lines = tuple(
            _Line(line, size * scale, grey)
            for words, size, grey in paragraphs
            for line in _wrap(words, size * scale, width - 2 * _PADDING - _BAR, font)
        )
        if sum(line.size * _LEADING for line in lines) <= height - _PADDING or scale < _SMALLEST_SCALE:
            return lines
        scale *= 0.94


def _wrap(words: str, size: float, width: float, font: TrueTypeFont) -> list[str]:
    """Break at spaces, and inside a word only when the word alone is wider than the line."""
    lines = [""]
    for word in words.split():
        candidate = f"{lines[-1]} {word}".strip()
        if font.width(candidate, size) <= width:
            lines[-1] = candidate
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if lines[-1] and font.width(lines[-1] + character, size) > width:
                lines.append("")
            lines[-1] += character
    return lines


def _content(lines: tuple[_Line, ...], subset: FontSubset, width: float, height: float) -> bytes:
    # Grey is the one colour space that needs no output intent of its own (ISO 19005-1 6.2.3.4).
    drawn = [f"q 0.25 g 0 0 {_BAR:g} {height:g} re f 0.75 G 0.5 w 0.25 0.25 {width - 0.5:g} {height - 0.5:g} re S Q"]
    used = sum(line.size * _LEADING for line in lines)
    baseline = height - max((height - used) / 2, 0)
    for line in lines:
        baseline -= line.size * _LEADING
        glyphs = "".join(f"{subset.glyphs[character]:04X}" for character in line.text)
        left = _BAR + _PADDING
        drawn.append(
            f"BT /F1 {line.size:.3f} Tf {line.grey:g} g {left:g} {baseline + line.size * 0.3:.3f} Td <{glyphs}> Tj ET"
        )
    return "\n".join(drawn).encode("ascii")


def _form_entries(width: float, height: float, rotation: int, font: Any) -> dict[str, Any]:
    # The picture stands upright for the reader of a rotated page (ISO 32000-2 12.5.5, algorithm "appearance streams").
    matrices: dict[int, tuple[float, ...]] = {
        90: (0, 1, -1, 0, height, 0),
        180: (-1, 0, 0, -1, width, height),
        270: (0, -1, 1, 0, 0, width),
    }
    entries = {
        "/Type": name("/XObject"),
        "/Subtype": name("/Form"),
        "/BBox": array(number(side) for side in (0, 0, width, height)),
        "/Resources": dictionary({"/Font": dictionary({"/F1": font})}),
    }
    if rotation in matrices:
        entries["/Matrix"] = array(number(entry) for entry in matrices[rotation])
    return entries


def _embed_font(writer: RevisionWriter, font: TrueTypeFont, subset: FontSubset) -> Any:
    """A Type 0 font over an embedded CIDFontType2 program (ISO 32000-1 9.7)."""
    base_font = name(f"/{subset.tag}+DejaVuSans")
    system = {"/Registry": string("Adobe"), "/Ordering": string("Identity"), "/Supplement": number(0)}
    widths = [
        number(entry) if isinstance(entry, int) else array(number(width) for width in entry)
        for entry in subset.widths_array()
    ]
    descendant = {
        "/Type": name("/Font"),
        "/Subtype": name("/CIDFontType2"),
        "/BaseFont": base_font,
        "/CIDSystemInfo": dictionary(system),
        "/FontDescriptor": writer.add_object(_descriptor(writer, base_font, font, subset)),
        "/DW": number(600),
        "/W": array(widths),
        "/CIDToGIDMap": name("/Identity"),
    }
    composite = {
        "/Type": name("/Font"),
        "/Subtype": name("/Type0"),
        "/BaseFont": base_font,
        "/Encoding": name("/Identity-H"),
        "/DescendantFonts": array([writer.add_object(dictionary(descendant))]),
        "/ToUnicode": writer.add_object(stream(subset.to_unicode())),
    }
    return writer.add_object(dictionary(composite))


def _descriptor(writer: RevisionWriter, base_font: Any, font: TrueTypeFont, subset: FontSubset) -> Any:
    def em(value: int) -> Any:
        return number(round(value * 1000 / font.units_per_em))

    program = stream(subset.program, deflated=compressed(subset.program))
    program[name("/Length1")] = number(len(subset.program))
    return dictionary(
        {
            "/Type": name("/FontDescriptor"),
            "/FontName": base_font,
            "/Flags": number(4),  # symbolic: no encoding of its own applies
            "/FontBBox": array(em(value) for value in font.bounding_box),
            "/ItalicAngle": number(0),
            "/Ascent": em(font.ascent),
            "/Descent": em(font.descent),
            "/CapHeight": number(729),
            "/StemV": number(80),
            "/FontFile2": writer.add_object(program),
            "/CIDSet": writer.add_object(stream(_cid_set(subset))),  # ISO 19005-1 6.3.5
        }
    )


def _cid_set(subset: FontSubset) -> bytes:
    bits = bytearray(max(subset.widths) // 8 + 1)
    for glyph in subset.widths:
        bits[glyph // 8] |= 0x80 >> (glyph % 8)
    return bytes(bits)
