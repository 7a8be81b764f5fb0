"""`python -m continuad` is the command."""

from continuad.cli.app import main

main()
