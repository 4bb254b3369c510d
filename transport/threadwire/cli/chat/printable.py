"""What agents and other users wrote, without the characters that a terminal would obey.

Escape sequences move the cursor, erase what is there, set the window's title or the clipboard; other
characters turn the direction of writing around. In a terminal all of them are shown instead.
"""

from __future__ import annotations

from typing import Final

_CONTROL: Final = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
_OTHERS: Final = (
    *range(0x80, 0xA0),  # more control characters
    *range(0x202A, 0x202F),  # directions of writing
    *range(0x2066, 0x206A),
    *range(0xD800, 0xE000),  # halves of characters: they can't be written
)
_SHOWN: Final = {**_CONTROL, 0x7F: "\u2421", **dict.fromkeys(_OTHERS, "\ufffd")}
"""Control characters by their pictures, what has none by a mark."""


def printable(text: str) -> str:
    """The text as it can be printed on a terminal; lines end with a line feed alone."""
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_SHOWN)
