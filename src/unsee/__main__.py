"""Where the command line begins: `unsee`, or `python -m unsee` where that is not on the path."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Load the command line and run it. From there on `unsee.exits` says how it ends."""
    try:
        from unsee.cli import main as run
    except KeyboardInterrupt:  # Ctrl-C while libraries load
        print("stopped: nothing had begun", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
