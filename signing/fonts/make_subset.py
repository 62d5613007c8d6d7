"""Make the font that signature appearances are drawn with: ``python signing/fonts/make_subset.py DejaVuSans.ttf``.

Keeps the Latin and Cyrillic of Mongolian, Kazakh, Kyrgyz, Ukrainian, Russian and the European languages, the usual
punctuation and money signs; drops hinting, kerning and everything a PDF viewer does not read from an embedded
CIDFontType2 font (ISO 32000-1 9.9). Glyph names are dropped; the character map stays, the appearance code reads it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fontTools import subset

OUTPUT = Path(__file__).with_name("DejaVuSans-latin-cyrillic.ttf")
RANGES = (
    range(0x0020, 0x007F),  # Basic Latin
    range(0x00A0, 0x0180),  # Latin-1 and Latin Extended-A
    range(0x0218, 0x021C),  # Romanian
    range(0x0400, 0x0530),  # Cyrillic and its supplement
    range(0x2010, 0x2016),
    range(0x2018, 0x201F),
    (0x2022, 0x2026, 0x2030, 0x2039, 0x203A, 0x20AC, 0x20AE, 0x20BD, 0x2116, 0x2122, 0x2212),
)


def make(source: Path) -> None:
    """Write the subset of ``source`` beside this script."""
    options = subset.Options(
        hinting=False, layout_features=[], name_IDs=[0, 1, 2, 3, 4, 5, 6, 13, 14], notdef_outline=True
    )
    options.glyph_names = False
    options.recalc_timestamp = False
    options.drop_tables += ["FFTM", "GPOS", "GSUB", "GDEF", "kern", "gasp", "DSIG", "MATH"]
    font = subset.load_font(str(source), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=[code for group in RANGES for code in group])
    subsetter.subset(font)
    subset.save_font(font, str(OUTPUT), options)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
