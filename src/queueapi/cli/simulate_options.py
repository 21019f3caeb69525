"""The options of `simulate` that are about the service's own history."""

from dataclasses import dataclass
from typing import Annotated

import typer


@dataclass
class History:
    from_database: Annotated[
        bool,
        typer.Option("--from-database", help="The service's own history, under its own settings"),
    ] = False
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Of it, jobs from then on: 2026-11-20[T14:30]")
    ] = ""
    until: Annotated[str, typer.Option(metavar="TIME", help="Of it, jobs before then")] = ""

    @property
    def policy(self) -> str:
        """What is simulated unless another policy is asked for."""
        return "fair_share" if self.from_database else "easy"
