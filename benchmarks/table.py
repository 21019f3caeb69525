"""Rows of the result table: a figure, its floor or ceiling, and the ratio to a peer."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """`at_least` and `at_most` are the targets; a peer has none."""

    what: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    peer: str | None = None  # the row that `value` is compared with
    ratio_at_least: float | None = None
    note: str = ""

    def meets(self, ratio: float | None) -> bool:
        if self.at_least is not None and self.value < self.at_least:
            return False
        if self.at_most is not None and self.value > self.at_most:
            return False
        return self.ratio_at_least is None or (ratio is not None and ratio >= self.ratio_at_least)

    @property
    def has_target(self) -> bool:
        return not (self.at_least is self.at_most is self.ratio_at_least is None)


def _target(row: Row) -> str:
    parts = []
    if row.at_least is not None:
        parts.append(f"≥ {row.at_least:,.10g}")
    if row.at_most is not None:
        parts.append(f"≤ {row.at_most:,.10g}")
    if row.ratio_at_least is not None:
        parts.append(f"ratio ≥ {row.ratio_at_least:g}")
    return ", ".join(parts)


def show(rows: list[Row]) -> bool:
    """Print the table; whether all targets are met."""
    values = {row.what: row.value for row in rows}
    table = Table(title="queueapi benchmarks, one run")
    for heading in ("what", "measured", "target", "ratio to peer", "", "note"):
        table.add_column(heading, justify="right" if heading == "measured" else "left")
    good = True
    for row in rows:
        ratio = row.value / values[row.peer] if row.peer in values and row.peer else None
        met = row.meets(ratio)
        good &= met
        shown = f"{ratio:.2f} × {row.peer}" if ratio is not None else ""
        verdict = ("met" if met else "MISSED") if row.has_target else "peer"
        figure = f"{row.value:,.0f}" if row.value >= 100 else f"{row.value:,.2f}"
        table.add_row(row.what, f"{figure} {row.unit}", _target(row), shown, verdict, row.note)
    Console(width=170).print(table)
    return good
