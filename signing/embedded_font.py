"""The font of signature appearances and its subsetting, so that every viewer draws the same letters.

Only what an embedded CIDFontType2 font needs (ISO 32000-1 9.7.4, 9.9) is read and written. Glyph numbers stay as they
are; outlines nobody uses are emptied. That takes a fraction of a millisecond, where a general subsetter takes dozens.
"""

from __future__ import annotations

import functools
import hashlib
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources

from signing.document_errors import FontGlyphMissing

FONT_FILE = "DejaVuSans-latin-cyrillic.ttf"
_EMBEDDED_TABLES = ("glyf", "head", "hhea", "hmtx", "loca", "maxp")  # ISO 32000-1 9.9, Table 126
_MORE_COMPONENTS, _WORDS, _SCALE, _XY_SCALE, _TWO_BY_TWO = 0x20, 0x01, 0x08, 0x40, 0x80  # OpenType glyf, composites


@dataclass(frozen=True)
class FontSubset:
    """A font program for one text: ``program`` is the sfnt, ``widths`` in thousandths of an em by glyph number."""

    tag: str
    program: bytes
    glyphs: Mapping[str, int]
    widths: Mapping[int, int]

    def to_unicode(self) -> bytes:
        """A ToUnicode CMap, so that copied text and screen readers get characters (ISO 32000-1 9.10.3)."""
        pairs = sorted((glyph, char) for char, glyph in self.glyphs.items())
        blocks = [pairs[i : i + 100] for i in range(0, len(pairs), 100)]
        body = "".join(
            f"{len(block)} beginbfchar\n"
            + "".join(f"<{glyph:04X}> <{char.encode('utf-16-be').hex().upper()}>\n" for glyph, char in block)
            + "endbfchar\n"
            for block in blocks
        )
        return (
            "/CIDInit /ProcSet findresource begin 12 dict begin begincmap\n"
            "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def\n"
            "/CMapName /Adobe-Identity-UCS def /CMapType 2 def\n"
            "1 begincodespacerange <0000> <FFFF> endcodespacerange\n"
            f"{body}endcmap CMapName currentdict /CMap defineresource pop end end\n"
        ).encode("ascii")

    def widths_array(self) -> list[int | list[int]]:
        """The /W array: glyph number, then its width in brackets."""
        listed: list[int | list[int]] = []
        for glyph in sorted(self.widths):
            listed += [glyph, [self.widths[glyph]]]
        return listed


class TrueTypeFont:
    """A TrueType font read for measuring and subsetting."""

    def __init__(self, program: bytes) -> None:
        self._tables = _read_tables(program)
        head, maxp, hhea = self._tables["head"], self._tables["maxp"], self._tables["hhea"]
        self.units_per_em: int = struct.unpack_from(">H", head, 18)[0]
        self.bounding_box: tuple[int, int, int, int] = struct.unpack_from(">4h", head, 36)
        self.ascent, self.descent = struct.unpack_from(">2h", hhea, 4)
        self._glyph_count: int = struct.unpack_from(">H", maxp, 4)[0]
        self._offsets = _read_loca(self._tables["loca"], self._glyph_count, struct.unpack_from(">h", head, 50)[0])
        self._advances = _read_advances(self._tables["hmtx"], struct.unpack_from(">H", hhea, 34)[0], self._glyph_count)
        self._characters = _read_character_map(self._tables["cmap"])

    def glyph(self, character: str) -> int:
        """The glyph number of a character. Raises FontGlyphMissing; a box or question mark is never drawn instead."""
        try:
            return self._characters[ord(character)]
        except KeyError:
            raise FontGlyphMissing(f"the font has no glyph for U+{ord(character):04X}") from None

    def advance(self, character: str) -> float:
        """Width of a character in thousandths of an em."""
        return self._advances[self.glyph(character)] * 1000 / self.units_per_em

    def width(self, text: str, size: float) -> float:
        """Width of a line in points at the given size."""
        return sum(self.advance(character) for character in text) * size / 1000

    def subset(self, characters: Iterable[str]) -> FontSubset:
        """The font with outlines for the given characters only."""
        return _subset(self, "".join(sorted(set(characters))))

    def build_subset(self, characters: str) -> FontSubset:
        """Cut the font program; see ``subset``, which remembers results."""
        glyphs = {character: self.glyph(character) for character in characters}
        kept = self._with_components({0, *glyphs.values()})
        program = self._program(kept)
        tag = "".join(chr(65 + octet % 26) for octet in hashlib.sha256(characters.encode()).digest()[:6])
        widths = {glyph: round(self._advances[glyph] * 1000 / self.units_per_em) for glyph in sorted(kept)}
        return FontSubset(tag, program, glyphs, widths)

    def _outline(self, glyph: int) -> bytes:
        return self._tables["glyf"][self._offsets[glyph] : self._offsets[glyph + 1]]

    def _with_components(self, glyphs: set[int]) -> frozenset[int]:
        waiting, kept = list(glyphs), set(glyphs)
        while waiting:
            for component in _components(self._outline(waiting.pop())):
                if component not in kept:
                    kept.add(component)
                    waiting.append(component)
        return frozenset(kept)

    def _program(self, kept: frozenset[int]) -> bytes:
        outlines = [self._outline(glyph) if glyph in kept else b"" for glyph in range(self._glyph_count)]
        offsets = [0]
        for outline in outlines:
            offsets.append(offsets[-1] + len(outline))
        head = bytearray(self._tables["head"])
        struct.pack_into(">h", head, 50, 1)  # long offsets in loca
        tables = {name: self._tables[name] for name in _EMBEDDED_TABLES}
        tables["head"], tables["glyf"] = bytes(head), b"".join(outlines)
        tables["loca"] = struct.pack(f">{len(offsets)}I", *offsets)
        return _write_sfnt(tables)


@functools.lru_cache(maxsize=1)
def appearance_font() -> TrueTypeFont:
    """The font that is shipped for appearances."""
    return TrueTypeFont((resources.files("signing") / "fonts" / FONT_FILE).read_bytes())


@functools.lru_cache(maxsize=64)
def _subset(font: TrueTypeFont, characters: str) -> FontSubset:
    return font.build_subset(characters)


@functools.lru_cache(maxsize=64)
def compressed(program: bytes) -> bytes:
    """A font program deflated for embedding."""
    return zlib.compress(program, 9)


def _read_tables(program: bytes) -> dict[str, bytes]:
    (count,) = struct.unpack_from(">H", program, 4)
    tables = {}
    for index in range(count):
        tag, _checksum, offset, length = struct.unpack_from(">4sIII", program, 12 + 16 * index)
        tables[tag.decode("ascii")] = program[offset : offset + length]
    return tables


def _read_loca(table: bytes, glyph_count: int, long_offsets: int) -> tuple[int, ...]:
    if long_offsets:
        return struct.unpack_from(f">{glyph_count + 1}I", table)
    return tuple(2 * half for half in struct.unpack_from(f">{glyph_count + 1}H", table))


def _read_advances(table: bytes, long_metrics: int, glyph_count: int) -> tuple[int, ...]:
    advances = [struct.unpack_from(">H", table, 4 * index)[0] for index in range(long_metrics)]
    return tuple(advances + [advances[-1]] * (glyph_count - long_metrics))


def _read_character_map(table: bytes) -> dict[int, int]:
    """Characters of the Basic Multilingual Plane (OpenType cmap, format 4)."""
    (count,) = struct.unpack_from(">H", table, 2)
    for index in range(count):
        _platform, _encoding, offset = struct.unpack_from(">HHI", table, 4 + 8 * index)
        if struct.unpack_from(">H", table, offset)[0] == 4:
            return _read_format_4(table[offset:])
    raise ValueError("the font has no character map of format 4")


def _read_format_4(table: bytes) -> dict[int, int]:
    (doubled,) = struct.unpack_from(">H", table, 6)
    count = doubled // 2
    ends = struct.unpack_from(f">{count}H", table, 14)
    starts = struct.unpack_from(f">{count}H", table, 16 + doubled)
    deltas = struct.unpack_from(f">{count}h", table, 16 + 2 * doubled)
    ranges_at = 16 + 3 * doubled
    ranges = struct.unpack_from(f">{count}H", table, ranges_at)
    characters = {}
    for segment in range(count):
        for code in range(starts[segment], min(ends[segment], 0xFFFE) + 1):
            glyph = code
            if ranges[segment]:
                at = ranges_at + 2 * segment + ranges[segment] + 2 * (code - starts[segment])
                (glyph,) = struct.unpack_from(">H", table, at)
                if glyph == 0:
                    continue
            glyph = (glyph + deltas[segment]) & 0xFFFF
            if glyph:
                characters[code] = glyph
    return characters


def _components(outline: bytes) -> Iterable[int]:
    """Glyphs that a composite glyph is made of (OpenType glyf, composite description)."""
    if len(outline) < 10 or struct.unpack_from(">h", outline)[0] >= 0:
        return
    at, flags = 10, _MORE_COMPONENTS
    while flags & _MORE_COMPONENTS:
        flags, glyph = struct.unpack_from(">HH", outline, at)
        yield glyph
        at += 8 if flags & _WORDS else 6
        at += 2 if flags & _SCALE else 4 if flags & _XY_SCALE else 8 if flags & _TWO_BY_TWO else 0


def _write_sfnt(tables: Mapping[str, bytes]) -> bytes:
    count = len(tables)
    power = 1 << (count.bit_length() - 1)
    header = struct.pack(">IHHHH", 0x00010000, count, power * 16, power.bit_length() - 1, (count - power) * 16)
    directory, body = b"", b""
    start = len(header) + 16 * count
    for name in sorted(tables):
        data = tables[name]
        directory += struct.pack(">4sIII", name.encode(), _checksum(data), start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    return header + directory + body


def _checksum(data: bytes) -> int:
    padded = data + bytes(-len(data) % 4)
    return int(sum(struct.unpack(f">{len(padded) // 4}I", padded))) & 0xFFFFFFFF
