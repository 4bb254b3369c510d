"""What agents wrote can't do anything to a terminal."""

from __future__ import annotations

import io
import re
import sys

import pytest
from rich.console import Console

from threadwire.cli.chat.command import _write
from threadwire.cli.chat.printable import printable
from threadwire.cli.chat.terminal import RichScreen
from threadwire.cli.chat.transcript import Entry

EVIL = "a\x1b]0;title\x07b\x1b[2Jc\x9b31md\x08e\x7ff\u202eg\u2066h\x00i"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, 漢字 👩\u200d👩 e\u0301\tand\nlines", "plain, 漢字 👩\u200d👩 e\u0301\tand\nlines"),
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        (EVIL, "a␛]0;title␇b␛[2Jc�31md␈e␡f�g�h␀i"),
        ("half \ud83d", "half �"),
    ],
)
def test_control_characters_are_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("kind", ["user", "text", "thinking", "call", "result", "file", "error", "changed"])
def test_no_entry_reaches_the_terminal_raw(kind: str) -> None:
    out = io.StringIO()
    screen = RichScreen(Console(file=out, width=200, force_terminal=True))
    screen.show(Entry(kind, EVIL))  # type: ignore[arg-type]
    screen.show(Entry(kind, f"```\n{EVIL}\n```\n"))  # type: ignore[arg-type]
    screen.say(EVIL)
    own = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())  # colours
    assert "title" in own
    assert not set(own) & set("\x1b\x07\x08\x7f\x9b\u202e\u2066\x00")


def test_answer_over_a_pipe_stays_as_it_is_unless_it_goes_to_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for out, written in ((io.StringIO(), EVIL), (Terminal(), printable(EVIL))):
        monkeypatch.setattr(sys, "stdout", out)
        _write(EVIL)
        assert out.getvalue() == written
