"""The tree of groups that Fair Tree ranks."""

from sqlalchemy import exists, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.errors import Conflict, FieldError, NotFound
from queueapi.groups.models import Group

TREE_LOCK = 0x71_75_65_75_65_03  # an advisory lock's key: "queue", 3

_ABOVE = text("""
WITH RECURSIVE above AS (
    SELECT id, parent_id FROM groups WHERE id = :parent_id
    UNION
    SELECT g.id, g.parent_id FROM groups g JOIN above a ON g.id = a.parent_id
)
SELECT id FROM above
""")


async def check_parent(session: AsyncSession, parent_id: int, group_id: int | None = None) -> None:
    """Raises NotFound or Conflict unless the group (None: a new one) may be below that one.

    The tree is changed by one after another, and the parent stays until the transaction ends.
    """
    await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": TREE_LOCK})
    parent = select(Group.id).where(Group.id == parent_id)
    if await session.scalar(parent.with_for_update(read=True, key_share=True)) is None:
        raise NotFound(
            f"There is no group {parent_id}. GET /api/groups?view=all lists all groups.",
            errors=[FieldError("/parent_id", "name a group that exists")],
        )
    if group_id in set(await session.scalars(_ABOVE, {"parent_id": parent_id})):
        raise Conflict(
            f"Group {parent_id} is group {group_id} itself or below it. Choose another parent, "
            "or null for none.",
            errors=[FieldError("/parent_id", "name a group that is not below this one")],
        )


async def check_no_children(session: AsyncSession, group: Group) -> None:
    """Raises Conflict if groups are below this one, which is locked."""
    if await session.scalar(select(exists().where(Group.parent_id == group.id))):
        raise Conflict(
            f"There are groups below {group.name}. Give them another parent_id first, or null."
        )
