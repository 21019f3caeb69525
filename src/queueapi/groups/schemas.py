"""The documents that the group routes take and give."""

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict

from queueapi.auth.principal import Scope
from queueapi.auth.schemas import Email, NewPassword, UserView
from queueapi.fields import Body, BodyId, GroupName, Page, from_json
from queueapi.groups.models import JoinPolicy, MemberRole

EmailPattern = Annotated[
    str,
    Field(max_length=254, pattern=r"^[A-Za-z0-9._+*?-]+@[A-Za-z0-9.*?-]+$"),
    AfterValidator(str.lower),
]
Quota = Annotated[float, Strict(), Field(gt=0, le=1e12, allow_inf_nan=False)]
Limit = Annotated[int, Field(ge=0, le=1_000_000), BeforeValidator(from_json)]
POLICY = (
    "open: whoever asks is a member; email: whose address matches email_pattern is one, and others "
    "wait for a manager; approval: a manager decides. Addresses are not verified: let a pattern "
    "admit only where that is enough."
)

SHARES = (
    "Shares in Fair Tree, against the groups and members beside it. null, as Slurm's `parent`: its "
    "members count as if they were in the group above"
)
MEMBER_SHARES = (
    "Shares in Fair Tree, against the other members and groups in the group. null, as Slurm's "
    "`parent`: first among them"
)
PARENT = "The group above it in Fair Tree; null: none"


class Status(StrEnum):
    APPROVED = "approved"
    PENDING = "pending"  # waits for a manager of the group


class Registration(Body):
    email: Email = Field(description="Kept in lower case", examples=["ada@lab.edu"])
    password: NewPassword = Field(
        description="At least 10 characters", examples=["correct horse battery"]
    )
    group_id: BodyId | None = Field(
        None, description="A group to join, by id; its join policy decides", examples=[1]
    )
    group: GroupName | None = Field(
        None, description="The same by name. Without either, a group that admits the address"
    )


class MembershipView(BaseModel):
    group_id: int
    name: str
    role: MemberRole
    status: Status
    is_default: bool = Field(description="Whether jobs that name no group are charged to it")


class Registered(BaseModel):
    user: UserView
    memberships: list[MembershipView]


class Profile(BaseModel):
    """Who one is, for the token that asks."""

    user: UserView
    groups: list[MembershipView]
    scopes: list[Scope] = Field(description="What this token may do")


class DefaultGroup(Body):
    group_id: BodyId = Field(description="A group that you are an approved member of")


class NewGroup(Body):
    """A limit that is absent or null means: the server's setting."""

    name: GroupName = Field(description="Unique; begins with a letter", examples=["physics"])
    join_policy: JoinPolicy = Field(JoinPolicy.APPROVAL, description=POLICY)
    email_pattern: EmailPattern | None = Field(
        None, description="A shell pattern for addresses", examples=["*@lab.edu"]
    )
    quota_cpu_minutes: Quota | None = Field(
        None, description="CPU-minutes per rolling 30 days", examples=[10000]
    )
    max_submitted_per_user: Limit | None = Field(
        None, description="Jobs of one user that have not ended"
    )
    max_running_per_user: Limit | None = Field(None, description="Running jobs of one user")
    max_running: Limit | None = Field(None, description="Running jobs of the whole group")
    parent_id: BodyId | None = Field(None, description=PARENT)
    shares: Limit | None = Field(1, description=SHARES)


class GroupChange(Body):
    """What is absent stays. A null limit, pattern or parent is taken away; a null name or policy
    stays."""

    name: GroupName | None = Field(None, description="Administrators only")
    join_policy: JoinPolicy | None = Field(None, description=POLICY)
    email_pattern: EmailPattern | None = Field(None, examples=["*@lab.edu"])
    quota_cpu_minutes: Quota | None = Field(None, description="Administrators only")
    max_submitted_per_user: Limit | None = Field(None, description="Administrators only")
    max_running_per_user: Limit | None = Field(None, description="Administrators only")
    max_running: Limit | None = Field(None, description="Administrators only")
    parent_id: BodyId | None = Field(None, description=f"{PARENT}. Administrators only")
    shares: Limit | None = Field(None, description=f"{SHARES}. Administrators only")


class GroupView(BaseModel):
    """A null limit means: the server's setting."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    join_policy: JoinPolicy
    email_pattern: str | None
    quota_cpu_minutes: float | None
    max_submitted_per_user: int | None
    max_running_per_user: int | None
    max_running: int | None
    parent_id: int | None = Field(description=PARENT)
    shares: int | None = Field(description=SHARES)
    created_at: datetime


class GroupSummary(BaseModel):
    id: int
    name: str
    join_policy: JoinPolicy
    role: MemberRole | None = Field(description="Yours; null where you are not in it")
    status: Status | None = Field(description="Of your membership; null where you have none")


class GroupList(BaseModel):
    items: list[GroupSummary]
    next: str | None = Field(description="Pass it as `cursor` to get the next page")


class GroupsView(StrEnum):
    MINE = "mine"
    JOINABLE = "joinable"
    ALL = "all"


class GroupQuery(Page):
    view: GroupsView | None = Field(
        None,
        description="mine: that you are in, or asked to join; joinable: the others; all: for "
        "administrators. Without it, all for an administrator and mine for others.",
    )


class Member(BaseModel):
    user_id: int
    email: str
    role: MemberRole
    status: Status
    shares: int | None = Field(description=MEMBER_SHARES)
    created_at: datetime = Field(description="When they asked")
    approved_at: datetime | None


class MemberList(BaseModel):
    items: list[Member]
    next: str | None = Field(description="Pass it as `cursor` to get the next page")


class MemberQuery(Page):
    status: Status | None = Field(
        None, description="Only these. Requests that wait are shown to managers alone"
    )


class MemberChange(Body):
    role: MemberRole = Field(
        MemberRole.MEMBER, description="What they are to be; a request that waits is approved"
    )
    shares: Limit | None = Field(None, description=f"{MEMBER_SHARES}. Absent: as they were")


class Use(BaseModel):
    cpu_minutes: float = Field(description="Allocated CPUs × minutes")
    gpu_minutes: float
    memory_gb_minutes: float


class UserUse(Use):
    user_id: int
    email: str | None = Field(description="null where the account is gone")


class GroupUsage(Use):
    """What jobs that ended used. Running jobs are charged when they end."""

    group_id: int
    since: date = Field(description="The first of the 30 days (UTC) that count")
    quota_cpu_minutes: float
    remaining_cpu_minutes: float
    users: list[UserUse] | None = Field(
        description="By user, most first, 1,000 at most; null for those who don't manage the group"
    )
