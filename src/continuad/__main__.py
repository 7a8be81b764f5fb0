"""`python -m continuad` is the command."""

from continuad.cli import main

main()
