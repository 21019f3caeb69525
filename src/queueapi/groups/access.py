"""What a person may do with a group. A group that one is not in looks as if it weren't there."""

from dataclasses import dataclass

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.principal import Principal
from queueapi.errors import Forbidden, NotFound
from queueapi.groups.models import Group, MemberRole, Membership


@dataclass(frozen=True, slots=True)
class Access:
    """A group, as one person stands to it."""

    group: Group
    is_manager: bool  # of the group, or an administrator

    def require_manager(self) -> None:
        if not self.is_manager:
            raise Forbidden(
                f"Only managers of the group {self.group.name} and administrators may do this."
            )


def not_found(group_id: int) -> NotFound:
    return NotFound(
        f"There is no group {group_id}, or you are not a member of it. GET /api/groups lists yours."
    )


async def get_access(
    session: AsyncSession, principal: Principal, group_id: int, *, lock: bool = False
) -> Access:
    """The group for an approved member or an administrator; NotFound for others."""
    statement = (
        select(Group, Membership)
        .outerjoin(
            Membership,
            and_(
                Membership.group_id == Group.id,
                Membership.user_id == principal.user_id,
                Membership.approved_at.is_not(None),
            ),
        )
        .where(Group.id == group_id)
    )
    if lock:
        statement = statement.with_for_update(of=Group)
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        raise not_found(group_id)
    group, membership = row
    if membership is None and not principal.is_admin:
        raise not_found(group_id)
    manages = membership is not None and membership.role == MemberRole.MANAGER
    return Access(group, principal.is_admin or manages)
