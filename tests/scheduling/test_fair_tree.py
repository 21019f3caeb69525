"""Fair Tree against Slurm's own test of it, and against its documentation."""

from __future__ import annotations

import csv
import math
from collections.abc import Hashable

import pytest

from queueapi.scheduling import (
    Config,
    Fairness,
    Group,
    GroupChanged,
    MembersChanged,
    UserUsage,
    UserUsageChanged,
)
from queueapi.scheduling.fair_tree import Account, User, factors, grow
from tests.scheduling.scenario import NOON, Scenario

# What `sshare -lP` shows for the tree of Slurm's testsuite/expect/test24.4.
SSHARE = """\
parent,account,user,raw_shares,norm_shares,raw_usage,norm_usage,eff_usage,fairshare,level_fs
,root,,,0.000000,240,,1.000000,,
root,root,u1,10,0.048077,0,0.000000,0.000000,1.000000,inf
root,root,u2,10,0.048077,10,0.041667,0.041667,0.666667,1.153846
root,aA,,40,0.192308,45,0.187500,0.187500,,1.025641
aA,aAA,,30,0.750000,20,0.083333,0.444444,,1.687500
aAA,aAA,uAA1,1,1.000000,20,0.083333,1.000000,0.619048,1.000000
aA,aAB,,10,0.250000,25,0.104167,0.555556,,0.450000
aAB,aAB,uAB1,1,0.500000,25,0.104167,1.000000,0.523810,0.500000
aAB,aAB,uAB2,1,0.500000,0,0.000000,0.000000,0.571429,inf
root,aB,,60,0.288462,25,0.104167,0.104167,,2.769231
aB,aBA,,25,0.416667,25,0.104167,1.000000,,0.416667
aBA,aBA,uBA1,1,1.000000,25,0.104167,1.000000,0.714286,1.000000
aB,aBB,,35,0.583333,0,0.000000,0.000000,,inf
aBB,aBB,uBB1,1,1.000000,0,0.000000,0.000000,0.761905,inf
root,aC,,0,0.000000,30,0.125000,0.125000,,0.000000
aC,aC,uC1,0,0.000000,30,0.125000,1.000000,0.047619,0.000000
root,aD,,50,0.240385,110,0.458333,0.458333,,0.524476
aD,aD,uD1,parent,0.240385,20,0.083333,0.181818,0.476190,
aD,aD,uD2,40,0.235294,20,0.083333,0.181818,0.238095,1.294118
aD,aD,uD3,50,0.294118,25,0.104167,0.227273,0.333333,1.294118
aD,aDA,,parent,0.240385,45,0.187500,0.409091,,
aDA,aDA,uDA1,parent,0.240385,10,0.041667,0.090909,0.476190,
aDA,aDA,uDA2,30,0.176471,10,0.041667,0.090909,0.380952,1.941176
aDA,aDA,uDA3,50,0.294118,25,0.104167,0.227273,0.333333,1.294118
root,aE,,10,0.048077,0,0.000000,0.000000,,inf
aE,aE,aE1,10,0.500000,0,0.000000,0.000000,1.000000,inf
aE,aE,aE2,10,0.500000,0,0.000000,0.000000,1.000000,inf
root,aF,,20,0.096154,0,0.000000,0.000000,,inf
aF,aF,uF1,10,0.333333,0,0.000000,0.000000,1.000000,inf
aF,aF,uF2,20,0.666667,0,0.000000,0.000000,1.000000,inf
root,aG,,8,0.038462,20,0.083333,0.083333,,0.461538
aG,aG,uG1,10,0.500000,10,0.041667,0.500000,0.190476,1.000000
aG,aGA,,10,0.500000,10,0.041667,0.500000,,1.000000
aGA,aGA,uGA1,20,0.500000,4,0.016667,0.400000,0.190476,1.250000
aGA,aGA,uGA2,20,0.500000,6,0.025000,0.600000,0.095238,0.833333
"""
ROWS = list(csv.DictReader(SSHARE.splitlines()))
ACCOUNTS = [row for row in ROWS if not row["user"]]
USERS = [row for row in ROWS if row["user"]]


def shares(row: dict[str, str]) -> int | None:
    return None if row["raw_shares"] in ("parent", "") else int(row["raw_shares"])


def slurms_tree() -> tuple[Account, dict[str, Account | User]]:
    """The root, and all that is below it by name."""
    nodes: dict[str, Account | User] = {}
    for row in ACCOUNTS:
        account = nodes[row["account"]] = Account(row["account"], shares(row))
        if row["parent"]:
            parent = nodes[row["parent"]]
            assert isinstance(parent, Account)
            parent.children.append(account)
    for row in USERS:
        user = nodes[row["user"]] = User(row["user"], shares(row), float(row["raw_usage"]))
        holder = nodes[row["account"]]
        assert isinstance(holder, Account)
        holder.children.append(user)
    root = nodes["root"]
    assert isinstance(root, Account)
    return root, nodes


ROOT, NODES = slurms_tree()
FACTORS = factors(ROOT)


def test_all_rows_of_slurms_test_are_tried() -> None:
    assert (len(ROWS), len(USERS)) == (35, 21)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["user"] or row["account"])
def test_a_row_of_slurms_test_is_reproduced(row: dict[str, str]) -> None:
    node = NODES[row["user"] or row["account"]]
    assert node.usage == float(row["raw_usage"])
    if row["level_fs"]:  # not shown for what competes as its parent does
        assert f"{node.level_fs:.6f}" == row["level_fs"]
    if row["user"]:
        assert f"{FACTORS[row['user']]:.6f}" == row["fairshare"]


def test_a_tree_without_users_ranks_nobody() -> None:
    assert factors(Account("root", None)) == {}
    assert factors(Account("root", None, [Account("empty", 1), Account("bare", None)])) == {}


def test_a_deep_tree_is_ranked() -> None:
    root = account = Account(0, None)
    for depth in range(1, 5000):
        below = Account(depth, 1)
        account.children += [below, User(("u", depth), 1, 1.0)]
        account = below
    found = factors(root)
    assert len(found) == 4999
    assert 0 < min(found.values()) < max(found.values()) == 1


def test_groups_that_are_below_themselves_stand_at_the_root() -> None:
    groups = {
        1: Group(1, parent_id=2),
        2: Group(2, parent_id=1),
        3: Group(3, parent_id=1),
        4: Group(4, parent_id=4),
        5: Group(5, parent_id=99),
    }
    root = grow(groups, {}, {(each, 10): 1.0 for each in groups})
    assert [child.key for child in root.children] == [1, 2, 4, 5]


def fair_tree_of(scenario: Scenario) -> dict[int, float]:
    """The fair share of each waiting job by its id."""
    scenario.checked = True
    entries = scenario.scheduler.ranking(NOON, limit=99)
    return {entry.job_id: entry.priority.fair_share for entry in entries}


@pytest.fixture
def tree() -> Scenario:
    """Two groups; each has two users who wait, and one who does not."""
    scenario = Scenario(Config(fairness=Fairness.FAIR_TREE))
    for group_id, user_id in ((1, 11), (1, 12), (2, 21), (2, 22)):
        scenario.job(user_id, user=user_id, group=group_id)
    for group_id, members in ((1, (11, 12, 13)), (2, (21, 22, 23))):
        scenario.scheduler.apply(MembersChanged(group_id, dict.fromkeys(members, 1)))
    return scenario


def used(scenario: Scenario, group_id: int, user_id: int, minutes: float) -> None:
    scenario.scheduler.apply(UserUsageChanged(UserUsage(group_id, user_id, minutes, NOON)))


def test_without_use_everyone_is_first(tree: Scenario) -> None:
    assert set(fair_tree_of(tree).values()) == {1.0}


def test_all_users_of_the_group_served_worse_rank_before_all_of_the_other(tree: Scenario) -> None:
    used(tree, 1, 13, 100)
    used(tree, 2, 21, 99)
    # 22 and 23 used nothing, then 21; of the other group 11 and 12, then 13
    assert fair_tree_of(tree) == {22: 1.0, 21: 4 / 6, 11: 3 / 6, 12: 3 / 6}


def test_shares_weigh_use(tree: Scenario) -> None:
    tree.scheduler.apply(GroupChanged(Group(1, shares=3)))
    used(tree, 1, 11, 200)
    used(tree, 2, 21, 100)
    # (3/4) / (2/3) is above (1/4) / (1/3)
    assert fair_tree_of(tree) == {12: 1.0, 11: 4 / 6, 22: 3 / 6, 21: 1 / 6}


def test_who_left_the_group_has_no_share_of_it(tree: Scenario) -> None:
    tree.scheduler.apply(MembersChanged(2, {21: 1}))
    used(tree, 1, 11, 1)
    found = fair_tree_of(tree)
    assert found[21] == 1.0
    assert found[22] < found[21]


def test_running_jobs_count_at_once_and_in_the_next_plan(tree: Scenario) -> None:
    tree.node(cpus=8).running(9, user=11, group=1)
    assert fair_tree_of(tree) == {21: 1.0, 22: 1.0, 12: 3 / 6, 11: 1 / 6}


def test_the_plan_follows_the_tree(tree: Scenario) -> None:
    tree.node(cpus=3)
    used(tree, 1, 13, 100)
    used(tree, 2, 21, 99)
    tree.expect_starts(22, 21, 11)


def test_users_are_ranked_once_for_all_questions_about_one_instant(
    tree: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked: list[Account] = []

    def counting(root: Account) -> dict[Hashable, float]:
        ranked.append(root)
        return factors(root)

    monkeypatch.setattr("queueapi.scheduling.fair_tree.factors", counting)
    for job_id in tree.waiting:
        tree.scheduler.position(job_id, NOON)
    assert fair_tree_of(tree)
    assert len(ranked) == 1
    tree.plan()
    assert len(ranked) == 2  # a plan goes by its own
    used(tree, 1, 13, 100)
    assert set(fair_tree_of(tree).values()) != {1.0}


def test_level_fairshare_is_infinite_only_without_use() -> None:
    root = Account("root", None, [User("a", 1, 0.0), User("b", 1, 1.0), User("c", 0, 0.0)])
    factors(root)
    assert [child.level_fs for child in root.children] == [math.inf, 0.5, 0.0]
