"""`demo`: a real pipeline on a server and a database of its own."""

from typing import Annotated

import typer

from queueapi.demo.main import run


def demo(
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Another is taken where it is in use")
    ] = 8080,
    once: Annotated[bool, typer.Option("--once", help="End when the pipeline has")] = False,
) -> None:
    """Two groups compete for this machine; then serve until Ctrl-C."""
    raise typer.Exit(run(port, once=once))
