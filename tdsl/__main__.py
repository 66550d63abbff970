"""`python -m tdsl` is `tdsl`."""

from tdsl.cli import main

main()
