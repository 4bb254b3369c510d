"""Where graphs' checkpoints are kept beside a store in a file."""

from __future__ import annotations

from pathlib import Path


def checkpoints_file(path: str) -> Path:
    """The file of the checkpoints beside a store in the file `path`."""
    file = Path(path)
    return file.with_name(f"{file.stem}-checkpoints{file.suffix or '.db'}")
