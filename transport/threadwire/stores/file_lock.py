"""A lock that one process holds on a file and that is gone when the process is."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from ..core.errors import StoreLocked

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # far behind the text, which others are to read
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class FileLock:
    """Held from construction to `release`. The file stays: removing it would let two processes hold "it".

    Raises:
        StoreLocked: it is held, by another process or by another FileLock of this one.
        OSError: the file can't be made.
    """

    def __init__(self, path: str, *, subject: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        try:
            _lock(self._descriptor)
        except (BlockingIOError, PermissionError):
            holder = os.pread(self._descriptor, 20, 0) if hasattr(os, "pread") else b""
            os.close(self._descriptor)
            which = f" (pid {holder.decode()})" if holder.isdigit() else ""
            raise StoreLocked(f"{subject} is open in another process{which}") from None
        except BaseException:
            os.close(self._descriptor)
            raise
        _held.add(self)
        with suppress(OSError):  # the pid is a courtesy to whoever is refused
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, str(os.getpid()).encode())

    def release(self) -> None:
        if self in _held:
            _held.discard(self)
            os.close(self._descriptor)


_held: set[FileLock] = set()


def _let_go_in_child() -> None:
    """A forked child shares the lock and would keep it after its parent's death."""
    while _held:
        os.close(_held.pop()._descriptor)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)
