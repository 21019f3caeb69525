"""Accounts and groups that a request names, as the ids that rules keep."""

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.models import User
from queueapi.errors import FieldError, NotFound
from queueapi.groups.models import Group


async def user_ids(session: AsyncSession, pointer: str, emails: Sequence[str]) -> list[int]:
    """Raises NotFound for the first that nobody has; `pointer` says where they stand."""
    rows = await session.execute(select(User.email, User.id).where(User.email.in_(emails)))
    return _found(pointer, "an account", emails, dict(rows.all()))


async def group_ids(session: AsyncSession, pointer: str, names: Sequence[str]) -> list[int]:
    """Raises NotFound for the first that there is not; `pointer` says where they stand."""
    rows = await session.execute(select(Group.name, Group.id).where(Group.name.in_(names)))
    return _found(pointer, "a group", names, dict(rows.all()))


def _found(pointer: str, what: str, names: Sequence[str], known: Mapping[str, int]) -> list[int]:
    for index, name in enumerate(names):
        if name not in known:
            raise NotFound(
                f"{name} is not {what} here.",
                errors=[FieldError(f"{pointer}/{index}", f"name {what}")],
            )
    return sorted({known[name] for name in names})
