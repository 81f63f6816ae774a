"""`python -m relay` is the same as `zegel`."""

from relay.cli.app import main

main()
