"""Administration of groups and people, through the REST API as a logged-in administrator."""

from typing import Annotated, Any

import typer

from queueapi.cli import views
from queueapi.cli.commands import Failure
from queueapi.cli.connection import Connection
from queueapi.client import Client
from queueapi.client.models import GroupSummary, User

AS_SERVER = "default"  # in place of a number: the server's setting
AS_PARENT = "parent"  # in place of shares, as Slurm has it

Name = Annotated[str, typer.Argument(metavar="NAME", help="The group's name")]
Email = Annotated[str, typer.Argument(metavar="EMAIL", help="The account's address")]
Quota = Annotated[
    str | None,
    typer.Option(metavar="N", help="CPU-minutes in 30 days, or `default`: the server's setting"),
]
JoinPolicy = Annotated[str | None, typer.Option(help="open, email or approval")]
EmailPattern = Annotated[str | None, typer.Option(help="For the policy email: *@lab.edu")]
MaxRunning = Annotated[str | None, typer.Option(metavar="N", help="Running jobs of the group")]
MaxPerUser = Annotated[str | None, typer.Option(metavar="N", help="Running jobs of one user")]
MaxSubmitted = Annotated[str | None, typer.Option(metavar="N", help="Unfinished jobs of one user")]
Parent = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The group above it in Fair Tree; '' for none"),
]
Shares = Annotated[
    str | None,
    typer.Option(
        metavar="N", help="In Fair Tree, or `parent`: as if its members were in the group above"
    ),
]
MemberShares = Annotated[
    str | None,
    typer.Option(metavar="N", help="In Fair Tree, or `parent`: first in the group"),
]


def _number(
    option: str, text: str, kind: type[int] | type[float], none: str = AS_SERVER
) -> float | None:
    try:
        return None if text == none else kind(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a number nor {none!r}", param_hint=option
        ) from None


def _fields(
    join_policy: str | None, email_pattern: str | None, quota: str | None, **limits: str | None
) -> dict[str, Any]:
    """What was given, as the API has it."""
    fields: dict[str, Any] = {}
    if join_policy is not None:
        fields["join_policy"] = join_policy
    if email_pattern is not None:
        fields["email_pattern"] = email_pattern or None
    if quota is not None:
        fields["quota_cpu_minutes"] = _number("--quota-cpu-minutes", quota, float)
    for name, text in limits.items():
        if text is not None:
            fields[name] = _number(f"--{name.replace('_', '-')}", text, int)
    return fields


def create_group(
    connection: Connection,
    name: Name,
    join_policy: JoinPolicy = None,
    email_pattern: EmailPattern = None,
    quota_cpu_minutes: Quota = None,
    max_running: MaxRunning = None,
    max_running_per_user: MaxPerUser = None,
    max_submitted_per_user: MaxSubmitted = None,
    parent: Parent = None,
    shares: Shares = None,
) -> None:
    """Create a group."""
    fields = _fields(
        join_policy,
        email_pattern,
        quota_cpu_minutes,
        max_running=max_running,
        max_running_per_user=max_running_per_user,
        max_submitted_per_user=max_submitted_per_user,
    )
    with connection.client() as client:
        fields |= _place_in_tree(client, parent, shares)
        group = client.create_group(name, **fields)
    connection.out.result(group, views.document(group))


def set_group(
    connection: Connection,
    name: Name,
    join_policy: JoinPolicy = None,
    email_pattern: EmailPattern = None,
    quota_cpu_minutes: Quota = None,
    max_running: MaxRunning = None,
    max_running_per_user: MaxPerUser = None,
    max_submitted_per_user: MaxSubmitted = None,
    parent: Parent = None,
    shares: Shares = None,
    new_name: Annotated[str | None, typer.Option(help="Rename it")] = None,
) -> None:
    """Change a group; what is not named stays."""
    changes = _fields(
        join_policy,
        email_pattern,
        quota_cpu_minutes,
        max_running=max_running,
        max_running_per_user=max_running_per_user,
        max_submitted_per_user=max_submitted_per_user,
    )
    if new_name is not None:
        changes["name"] = new_name
    if not changes and parent is None and shares is None:
        raise typer.BadParameter("Name something to change; --help lists what can be.")
    with connection.client() as client:
        changes |= _place_in_tree(client, parent, shares)
        group = client.change_group(_find_group(client, name).id, **changes)
    connection.out.result(group, views.document(group))


def _place_in_tree(client: Client, parent: str | None, shares: str | None) -> dict[str, Any]:
    """What was given of the group's place in Fair Tree, as the API has it."""
    fields: dict[str, Any] = {}
    if parent is not None:
        fields["parent_id"] = _find_group(client, parent).id if parent else None
    if shares is not None:
        fields["shares"] = _number("--shares", shares, int, AS_PARENT)
    return fields


def list_groups(connection: Connection) -> None:
    """List all groups."""
    with connection.client() as client:
        groups = list(client.groups("all"))
    connection.out.result(groups, views.groups(groups))


def add_member(
    connection: Connection,
    name: Name,
    email: Email,
    manager: Annotated[bool, typer.Option("--manager", help="As a manager of the group")] = False,
    shares: MemberShares = None,
) -> None:
    """Put someone into a group, approve who asked, or change a member."""
    fields = {} if shares is None else {"shares": _number("--shares", shares, int, AS_PARENT)}
    with connection.client() as client:
        group, user = _find_group(client, name), _find_user(client, email)
        member = client.set_member(group.id, user.id, "manager" if manager else "member", **fields)
    connection.out.result(member, f"{member.email} is a {member.role} of {group.name}.")


def list_users(connection: Connection) -> None:
    """List all accounts."""
    with connection.client() as client:
        users = list(client.users())
    connection.out.result(users, views.users(users))


def set_role(
    connection: Connection,
    email: Email,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="user or admin")],
) -> None:
    """Make someone an administrator, or no longer."""
    _change_user(connection, email, role=role)


def deactivate(connection: Connection, email: Email) -> None:
    """Close an account: its logins and tokens end."""
    _change_user(connection, email, is_active=False)


def activate(connection: Connection, email: Email) -> None:
    """Open a closed account again."""
    _change_user(connection, email, is_active=True)


def _change_user(connection: Connection, email: str, **changes: Any) -> None:
    with connection.client() as client:
        user = client.change_user(_find_user(client, email).id, **changes)
    state = "active" if user.is_active else "deactivated"
    connection.out.result(user, f"{user.email} has the role {user.role} and is {state}.")


def _find_group(client: Client, name: str) -> GroupSummary:
    for group in client.groups("all"):
        if group.name == name:
            return group
    raise Failure(f"There is no group named {name!r}; `queueapi admin group list` shows all.")


def _find_user(client: Client, email: str) -> User:
    for user in client.users():
        if user.email == email.lower():
            return user
    raise Failure(f"There is no account for {email}; `queueapi admin user list` shows all.")
