"""What ends the command line with one clear line: wrong usage (status 2), or a failed start (status 1)."""

from __future__ import annotations

from typing import Final

_LONGEST: Final = 600


class UsageError(Exception):
    """The arguments or the environment are wrong; the message names which."""


class StartupError(Exception):
    """Something that is needed is missing or refuses. A cause is shown, with its traceback, by `--debug`."""


def one_line(text: object) -> str:
    """`text` on one line, shortened where it is very long."""
    line = " ".join(str(text).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def reason(error: BaseException) -> str:
    """What an exception says, with its type where that isn't clear from the text."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    name = type(error).__name__
    text = one_line(error)
    return f"{name}: {text}" if text else name
