"""`admin doctor`: check what must always hold, and mend it."""

from typing import Annotated

import typer

from queueapi.cli.commands import Failure
from queueapi.cli.connection import Connection
from queueapi.cli.exits import FAILED, USAGE
from queueapi.cli.output import Table, note
from queueapi.client import Client
from queueapi.client.doctor import Check, Finding

Names = Annotated[
    list[str] | None, typer.Option("--check", metavar="NAME", help="Only this one; may be repeated")
]


def doctor(
    connection: Connection,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what has one right answer")
    ] = False,
    names: Names = None,
    listed: Annotated[
        bool, typer.Option("--list", help="Say what is checked, and check nothing")
    ] = False,
) -> None:
    """Check what must always hold of the database and the clusters, and mend it."""
    with connection.client() as client:
        checks = _chosen(client, names or [])
        if listed:
            connection.out.result(checks, _table_of(checks))
            return
        found: list[Finding] = []
        rows = 0
        for check in checks:
            new, looked_at = _run(client, check, repair=repair)
            found += new
            rows += looked_at
    left = [finding for finding in found if not finding.mended]
    connection.out.result(found, _table(found) if found else "Nothing is wrong.")
    note(f"{len(checks)} checks of {rows} rows; {len(found)} findings, {len(left)} left.")
    if left:
        raise typer.Exit(FAILED)


def _chosen(client: Client, names: list[str]) -> list[Check]:
    known = {check.name: check for check in client.checks()}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise Failure(f"There is no check {unknown[0]!r}; --list shows all.", USAGE)
    return [check for name, check in known.items() if name in names or not names]


def _run(client: Client, check: Check, *, repair: bool) -> tuple[list[Finding], int]:
    """All that it finds, and how many rows it went through."""
    found: list[Finding] = []
    rows, after = 0, 0
    while True:
        part = client.run_check(check.name, repair=repair, after=after)
        found += part.findings
        rows += part.looked_at
        if part.next is None:
            return found, rows
        after = part.next


def _table(found: list[Finding]) -> Table:
    rows = [(f.check, f.subject, f.message, _remedy(f)) for f in found]
    return Table(("CHECK", "WHERE", "WHAT", "REMEDY"), rows)


def _remedy(finding: Finding) -> str:
    if finding.mended:
        return f"mended: {finding.remedy}"
    return f"--repair: {finding.remedy}" if finding.mendable else finding.remedy


def _table_of(checks: list[Check]) -> Table:
    rows = [
        (check.name, check.what, "yes" if check.mends else "", check.remedy) for check in checks
    ]
    return Table(("CHECK", "WHAT MUST HOLD", "MENDS", "REMEDY"), rows)
