"""The public API as a strict type checker sees it from outside, with what is right and what is wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CODE = Path(__file__).with_name("users_code.py")


def test_users_code_is_right_in_strict_mode_but_where_it_says_so(tmp_path: Path) -> None:
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-pretty", "--hide-error-context"),
            *("--config-file", "", "--cache-dir", str(CODE.parents[2] / ".mypy_cache" / "users"), str(CODE)),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(r"users_code\.py:(\d+): error: .*\[([\w-]+)\]$", checked.stdout, re.MULTILINE)
    said = [
        (str(number), kind[1])
        for number, line in enumerate(CODE.read_text().splitlines(), 1)
        if (kind := re.search(r"# error: ([\w-]+)", line))
    ]
    assert said
    assert sorted(set(found)) == sorted(said), checked.stdout + checked.stderr
