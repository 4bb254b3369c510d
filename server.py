#!/usr/bin/env python3
"""Runs the server from a checkout: `python server.py [ARGS]` is `threadwire serve [ARGS]`.

What it puts together is in `threadwire.cli`; here the two source roots are found and nothing else.
"""

import sys
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 (said in words, where an older Python is tried)
    sys.exit("server.py: Python 3.11 or newer is needed, this is " + sys.version.split()[0])

sys.path[:0] = [str(Path(__file__).resolve().parent / root) for root in ("transport", "agents")]

try:
    from threadwire.cli.main import main
except ModuleNotFoundError as missing:
    sys.exit(
        f"server.py: the package {missing.name!r} is not installed; `make serve` installs what is needed"
    )

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
