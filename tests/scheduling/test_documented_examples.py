"""The figures in docs/scheduling.md are those that the scheduler comes to."""

from __future__ import annotations

from pathlib import Path

import pytest

from queueapi.scheduling import (
    Config,
    Fairness,
    Group,
    GroupChanged,
    GroupUsage,
    GroupUsageChanged,
    JobQueued,
    MembersChanged,
    Priority,
    Request,
    UserUsage,
    UserUsageChanged,
    WaitingJob,
    Weights,
)
from queueapi.scheduling.accounts import Accounts
from queueapi.scheduling.fair_tree import factors, grow
from queueapi.scheduling.formula import TICKS_PER_MINUTE, WaitBoost, billed, decayed
from tests.scheduling.scenario import DAY, HOUR, MINUTE, NOON, Scenario

GUIDE = Path(__file__).parents[2] / "docs" / "scheduling.md"
Row = dict[str, str]


def table(heading: str, first_column: str) -> list[Row]:
    """The rows of a table below a heading, by the names of its columns."""
    section = GUIDE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line] for line in lines]
    start = next(number for number, line in enumerate(cells) if line[0] == first_column)
    names = cells[start]
    rows: list[Row] = []
    for line in cells[start + 2 :]:
        if len(line) != len(names):
            break
        rows.append(dict(zip(names, line, strict=True)))
    return rows


def number(text: str) -> float:
    words = text.replace(",", "").split()
    return float("inf") if words[0] == "infinite" else float(words[0])


EXAMPLE = table("An example", "")
GROUPS = sorted({row["group"] for row in EXAMPLE})


def example() -> Scenario:
    """All that the table gives; job n is that of its nth row."""
    scenario = Scenario()
    scenario.checked = True
    for user_id, row in enumerate(EXAMPLE, start=1):
        group_id = 1 + GROUPS.index(row["group"])
        used, own = number(row["group's use"]), number(row["own use"])
        for event in (
            GroupChanged(Group(group_id, 10_000.0)),
            GroupUsageChanged(GroupUsage(group_id, used, NOON, 0.0)),
            UserUsageChanged(UserUsage(group_id, user_id, own, NOON)),
        ):
            scenario.scheduler.apply(event)
        queued_at = NOON - number(row["waited"]) * MINUTE
        base = int(row["base"])
        request = Request(4, 1000)
        job = WaitingJob(user_id, user_id, group_id, base, request, 2 * HOUR, queued_at)
        scenario.scheduler.apply(JobQueued(job))
    return scenario


@pytest.mark.parametrize("line", range(len(EXAMPLE)), ids=[row[""] for row in EXAMPLE])
def test_a_line_of_the_example_is_what_the_scheduler_says(line: int) -> None:
    row = EXAMPLE[line]
    entry = example().scheduler.position(line + 1, NOON)
    assert entry is not None
    priority = entry.priority
    assert priority.base == number(row["base"])
    assert priority.fair_share == pytest.approx(number(row["fair share"]), abs=5e-5)
    assert priority.wait_boost == number(row["boost"])
    assert priority.final == pytest.approx(number(row["final"]), abs=5e-5)
    product = number(row["of the group"]) * number(row["part"])
    assert min(product, 2.0) == pytest.approx(number(row["fair share"]), abs=1e-4)


def test_the_order_of_the_example() -> None:
    order = [row.job_id for row in example().scheduler.ranking(NOON, limit=9)]
    assert [EXAMPLE[job_id - 1]["group"] for job_id in order] == ["astro", "chem", "astro", "bio"]


def test_what_follows_the_example() -> None:
    accounts = Accounts(Config())
    accounts.usage.set_group(GroupUsage(1, 8000, NOON, 0))
    accounts.start(WaitingJob(1, 1, 1, 5, Request(4, 1000), 2 * HOUR, NOON))
    assert accounts.recent_usage(1, NOON) == 8480
    assert accounts.fair_share(1, 1, NOON) == pytest.approx(1.1792, abs=5e-5)
    assert decayed(8000, 7 * DAY, Config().half_life) == 4000


def test_the_documented_weights() -> None:
    ticks = billed(Request(4, 16 * 1024, 1), HOUR, Weights(1, 30, 0.25))
    assert ticks == 2280 * TICKS_PER_MINUTE


@pytest.mark.parametrize("row", table("The factors", "waited"), ids=lambda row: row["waited"])
def test_the_documented_boosts(row: Row) -> None:
    queued_at = NOON - number(row["waited"]) * HOUR
    gentle = Config(wait_boost_slope=0.01, wait_boost_cap=1.5)
    assert WaitBoost.at(NOON, Config()).of(queued_at) == number(row["default"])
    assert WaitBoost.at(NOON, gentle).of(queued_at) == number(row["0.01 with a cap of 1.5"])


def test_the_documented_fair_tree() -> None:
    rows = table("Fair Tree", "user")
    assert len(rows) == 3
    names = ["physics", "chemistry"]
    owners = {(names.index(row["group"]), user): row for user, row in enumerate(rows)}
    groups = {
        group: Group(group, shares=int(row["group's shares"])) for (group, _), row in owners.items()
    }
    members = {
        group: {u: int(row["own shares"]) for (g, u), row in owners.items() if g == group}
        for group in groups
    }
    recent = {owner: number(row["own use"]) for owner, row in owners.items()}
    root = grow(groups, members, recent)
    found = factors(root)
    levels = {child.key: child.level_fs for child in root.children}
    for owner, row in owners.items():
        assert found[owner] == pytest.approx(number(row["factor"]), abs=5e-5)
        assert levels[owner[0]] == pytest.approx(number(row["level of the group"]))
    scenario = Scenario(Config(fairness=Fairness.FAIR_TREE))
    for owner, row in owners.items():
        scenario.scheduler.apply(MembersChanged(owner[0], members[owner[0]]))
        scenario.scheduler.apply(GroupChanged(groups[owner[0]]))
        scenario.scheduler.apply(UserUsageChanged(UserUsage(*owner, recent[owner], NOON)))
        scenario.job(owner[1], user=owner[1], group=owner[0])
        assert row["user"]
    order = [entry.job_id for entry in scenario.scheduler.ranking(NOON, limit=9)]
    assert [rows[job_id]["user"] for job_id in order] == ["cy", "bob", "ann"]


def test_the_documented_hours_after_which_a_job_outranks_others() -> None:
    """With base 10 against 1 and fair share 2 against 0.5: 39 hours, and 79 after an hour."""
    for waited, hours in ((0, 39), (1, 79)):
        others = Priority(10, 2.0, 1.0 + waited).final
        assert Priority(1, 0.5, 1.0 + hours).final == others
