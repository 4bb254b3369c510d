"""Runs the benchmarks, each in a process of its own, and sums up what was to be reached and what was.

python -m benchmarks [NAME ...] [--quick] [--json FILE]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from benchmarks.support import Report, arguments, show

NAMES = (
    "engine",
    "websocket",
    "assistant",
    "fanout",
    "memory",
    "snapshot",
    "diff",
    "langgraph",
    "nodes",
    "playground",
)


def run(name: str, quick: bool) -> Report:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "report.json"
        options = ["--json", str(path), *(["--quick"] if quick else [])]
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=True)
        return msgspec.json.decode(path.read_bytes(), type=Report)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}")
    reports = []
    for name in options.names or NAMES:
        print(f"\n== {name} ==", flush=True)
        reports.append(run(name, options.quick))
    print("\n== targets ==")
    show(
        [
            msgspec.structs.replace(figure, name=f"{report.benchmark}: {figure.name}")
            for report in reports
            for figure in report.figures
            if figure.met is not None
        ]
    )
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(reports)) + b"\n")


if __name__ == "__main__":
    main()
