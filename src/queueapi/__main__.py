"""`python -m queueapi`: the same as the command `queueapi`."""

from queueapi.cli.main import main

main()
