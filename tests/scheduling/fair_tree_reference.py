"""Fair Tree read a second time: each user by a sort key, compared along the way from the root."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from queueapi.scheduling import Group

Owner = tuple[int, int]  # (group id, user id)
Node = int | Owner | None  # a group, a user, or the root


class Tree:
    def __init__(
        self,
        groups: Mapping[int, Group],
        members: Mapping[int, Mapping[int, int | None]],
        recent: Mapping[Owner, float],
    ) -> None:
        self.groups = groups
        self.recent = recent
        self.parents: dict[Node, Node] = {owner: owner[0] for owner in recent}
        self.parents |= {each: self._above(each) for each in {*groups, *(g for g, _ in recent)}}
        self.shares: dict[Node, int | None] = {g: group.shares for g, group in groups.items()}
        for group_id, user_id in recent:
            told = members.get(group_id)
            shares = 1 if told is None else told.get(user_id, 0)
            self.shares[group_id, user_id] = shares

    def _above(self, group_id: int) -> int | None:
        above = self.groups[group_id].parent_id if group_id in self.groups else None
        way = [group_id]
        while above in self.groups and above not in way:
            way.append(above)  # type: ignore[arg-type]
            above = self.groups[above].parent_id  # type: ignore[index]
        if above == group_id:
            return None
        return way[1] if len(way) > 1 else None

    def used(self, node: Node) -> float:
        below = [self.used(child) for child, above in self.parents.items() if above == node]
        return math.fsum(below) if not isinstance(node, tuple) else self.recent[node]

    def level_of(self, node: Node) -> Node:
        """The account whose level the node competes on."""
        above = self.parents[node]
        while above is not None and self.shares.get(above, 1) is None:
            above = self.parents[above]
        return above

    def level_fs(self, node: Node) -> float:
        shares = self.shares.get(node, 1)
        if shares is None:
            return math.inf
        if not shares:
            return 0.0
        used = self.used(node)
        if not used:
            return math.inf
        level = self.level_of(node)
        equals = [each for each in self.parents if self.level_of(each) == level]
        total = sum(self.shares.get(each, 1) or 0 for each in equals)
        return (shares / total) / (used / self.used(level))

    def way(self, owner: Owner) -> tuple[float, ...]:
        """Level fairshares from the root to the user: what it is ranked by, highest first."""
        steps: list[float] = []
        node: Node = owner
        while node is not None:
            steps.append(self.level_fs(node))
            node = self.level_of(node)
        return tuple(reversed(steps))


def fair_tree_factors(
    groups: Mapping[int, Group],
    members: Mapping[int, Mapping[int, int | None]],
    recent: Mapping[Owner, float],
) -> dict[Owner, float]:
    """Rank over users; a user ties with the best below an account of the same level fairshare."""
    tree = Tree(groups, members, recent)
    ways = {owner: tree.way(owner) for owner in recent}
    count = len(ways)
    factors = {}
    for tied, better in _ties(ways):
        factors.update(dict.fromkeys(tied, (count - better) / count))
    return factors


def _ties(ways: Mapping[Owner, tuple[float, ...]]) -> Iterator[tuple[list[Owner], int]]:
    """Those who tie, and how many are better; along equal ways a shorter one is a user's."""
    # A user whose way ends where others go on ranks with the best of those.
    order = sorted(ways, key=lambda owner: ([-step for step in ways[owner]], owner))
    ranked = 0
    while ranked < len(order):
        first = ways[order[ranked]]
        tied = [order[ranked]]
        deepest = first
        for owner in order[ranked + 1 :]:
            way = ways[owner]
            same = way == deepest
            goes_on = len(way) > len(deepest) and way[: len(deepest)] == deepest
            if not (same or goes_on):
                break
            tied.append(owner)
            deepest = way
        yield tied, ranked
        ranked += len(tied)
