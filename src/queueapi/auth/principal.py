"""Who is asking, and what they may do."""

from dataclasses import dataclass
from enum import StrEnum

from queueapi.errors import Forbidden


class Scope(StrEnum):
    """What an API token may be limited to. A login has them all."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    GROUPS_READ = "groups:read"
    GROUPS_WRITE = "groups:write"
    ACCOUNT = "account"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    user_id: int
    email: str
    is_admin: bool
    managed_groups: frozenset[int]  # ids of groups that this person manages
    scopes: frozenset[Scope]
    session_id: int | None  # the login session; None for an API token

    def require(self, scope: Scope) -> None:
        if scope not in self.scopes:
            raise Forbidden(
                f"This token lacks the scope {scope}. Use a token that has it, or log in."
            )

    def require_admin(self) -> None:
        if not self.is_admin:
            raise Forbidden(
                "Only administrators may do this. Ask one, or use an administrator's login "
                f"or a token with the scope {Scope.ADMIN}."
            )

    def may_see(self, owner_id: int, group_id: int) -> bool:
        """Whether a job of this owner and group is theirs to read and to control."""
        return self.is_admin or owner_id == self.user_id or group_id in self.managed_groups
