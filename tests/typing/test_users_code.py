"""The public API as a strict type checker sees it from outside, with what is right and what is wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


@pytest.mark.parametrize(("name", "is_wrong_somewhere"), [("users_code", True), ("runtimes_code", False)])
def test_users_code_is_right_in_strict_mode_but_where_it_says_so(
    tmp_path: Path, name: str, is_wrong_somewhere: bool
) -> None:
    code = FOLDER / f"{name}.py"
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-pretty", "--hide-error-context"),
            *("--config-file", "", "--cache-dir", str(code.parents[2] / ".mypy_cache" / "users"), str(code)),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(rf"{name}\.py:(\d+): error: .*\[([\w-]+)\]$", checked.stdout, re.MULTILINE)
    said = [
        (str(number), kind[1])
        for number, line in enumerate(code.read_text().splitlines(), 1)
        if (kind := re.search(r"# error: ([\w-]+)", line))
    ]
    assert bool(said) == is_wrong_somewhere
    assert is_wrong_somewhere or checked.returncode == 0, checked.stdout
    assert sorted(set(found)) == sorted(said), checked.stdout + checked.stderr
