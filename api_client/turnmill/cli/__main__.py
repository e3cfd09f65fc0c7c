"""`python -m turnmill.cli` is `turnmill`."""

from turnmill.cli import main

main()
