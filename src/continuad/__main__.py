"""`continuad`, and `python -m continuad`, is the command."""

from __future__ import annotations

import sys


def main() -> None:
    """Load the command and run it; Ctrl-C ends it quietly even while it is loaded."""
    try:
        from continuad.cli.app import main as run
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
