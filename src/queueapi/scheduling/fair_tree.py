"""Fair Tree: users ranked by shares over use, level by level of a tree of accounts.

If an account is better served than its sibling, so are all users below it. Source: Slurm's
documentation, "Fair Tree Fairshare Algorithm" (Cox and Morrison, Brigham Young University).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from queueapi.scheduling.model import Group

Owner = tuple[int, int]  # (group id, user id)


@dataclass(slots=True)
class User:
    """A leaf. `shares` of None: as many as the whole account, so first within it."""

    key: Hashable
    shares: int | None  # against its siblings
    usage: float  # recent use, in any unit
    level_fs: float = math.inf  # shares over use, both normalised among siblings


@dataclass(slots=True)
class Account:
    """A branch. `shares` of None: what is in it counts as if it were in the account above."""

    key: Hashable
    shares: int | None
    children: list[Account | User] = field(default_factory=list)
    usage: float = 0.0  # of all below it
    level_fs: float = math.inf  # likewise; not used where `shares` is None


def factors(root: Account) -> dict[Hashable, float]:
    """The fairshare factor of each user by its key: rank / users, in (0, 1]; ties share the best.

    Sets `usage` of all accounts and `level_fs` of all below the root.
    """
    _measure(root)
    ranks = _ranks(root)
    users = left = sum(map(len, ranks))
    found: dict[Hashable, float] = {}
    for tied in ranks:
        found.update((user.key, left / users) for user in tied)
        left -= len(tied)
    return found


def _measure(root: Account) -> None:
    """Sum use up the tree, then compare siblings on each level."""
    accounts = [root]
    for account in accounts:  # grows while it is read: parents come before children
        accounts += [child for child in account.children if isinstance(child, Account)]
    for account in reversed(accounts):
        account.usage = math.fsum(child.usage for child in account.children)
    for account in accounts:
        if account is root or account.shares is not None:
            level = list(_level(account))
            shares = sum(child.shares or 0 for child in level)
            for child in level:
                child.level_fs = _level_fs(child, shares, account.usage)


def _level(account: Account) -> Iterator[Account | User]:
    """The children that compete on one level: those of a child without shares are in its place."""
    children = list(reversed(account.children))
    while children:
        child = children.pop()
        if isinstance(child, Account) and child.shares is None:
            children += reversed(child.children)
        else:
            yield child


def _level_fs(child: Account | User, level_shares: int, level_usage: float) -> float:
    """LF = S / U; 0 without shares, infinite without use."""
    if child.shares is None:
        return math.inf
    if not child.shares:
        return 0.0
    if not child.usage:
        return math.inf
    return (child.shares / level_shares) / (child.usage / level_usage)


def _ranks(root: Account) -> list[list[User]]:
    """Users, best first; each list holds those that tie.

    On a level, users of equal level_fs tie, and so do the best below sibling accounts of the same
    level_fs, whose children are merged.
    """
    ranks: list[list[User]] = []
    # Siblings of equal level_fs, and whether they tie with the users ranked last. Best on top.
    stack: list[tuple[list[Account | User], bool]] = [([root], False)]
    while stack:
        equals, tied = stack.pop()
        users = [each for each in equals if isinstance(each, User)]
        if users and tied:
            ranks[-1] += users
        elif users:
            ranks.append(users)
        merged = [child for each in equals if isinstance(each, Account) for child in _level(each)]
        merged.sort(key=_by_level_fs, reverse=True)
        below = [list(group) for _, group in groupby(merged, _by_level_fs)]
        ties = (place == 0 and (tied or bool(users)) for place in range(len(below)))
        stack += reversed(list(zip(below, ties, strict=True)))
    return ranks


def _by_level_fs(child: Account | User) -> float:
    return child.level_fs


def grow(
    groups: Mapping[int, Group],
    members: Mapping[int, Mapping[int, int | None]],
    recent: Mapping[Owner, float],
) -> Account:
    """The tree of all groups and users. `members` are shares by user, by group.

    Of a group whose members are not known, everyone has one share; of another, who is no member
    has none. A group whose parent is not known, or is below itself, stands at the root.
    """
    of_groups = {*groups, *members, *(group_id for group_id, _ in recent)}
    accounts = {
        group_id: Account(group_id, groups[group_id].shares if group_id in groups else 1)
        for group_id in sorted(of_groups)
    }
    root = Account(None, None)
    for group_id, account in accounts.items():
        parent_id = _parent(groups, group_id)
        parent = root if parent_id is None else accounts[parent_id]
        parent.children.append(account)
    owners = dict.fromkeys((group_id, user) for group_id in members for user in members[group_id])
    for owner in sorted({*owners, *recent}):
        group_id, user_id = owner
        shares = members[group_id].get(user_id, 0) if group_id in members else 1
        accounts[group_id].children.append(User(owner, shares, recent.get(owner, 0.0)))
    return root


def _parent(groups: Mapping[int, Group], group_id: int) -> int | None:
    """The group above, unless the way up from there does not end."""
    seen: set[int] = set()
    above: int | None = group_id
    while above is not None and above not in seen:
        seen.add(above)
        above = groups[above].parent_id if above in groups else None
    if above == group_id or group_id not in groups:
        return None
    parent_id = groups[group_id].parent_id
    return parent_id if parent_id in groups else None
