"""``python -m pyhbt.cli``."""

from pyhbt.cli import main

main()
