"""`python -m stgrpo`."""

from stgrpo.cli import main

main()
