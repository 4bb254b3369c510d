"""`python -m threadwire` is the command `threadwire`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
