"""Clusters: registered, shown, changed, removed, tested."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.models import User
from queueapi.auth.principal import Principal
from queueapi.clock import utc_now
from queueapi.clusters import cluster_schemas as schemas
from queueapi.clusters.access import Who, admits, rules_of
from queueapi.clusters.caps import Caps, caps_of
from queueapi.clusters.models import BUILT_IN, OWN_KIND, PLAIN_KINDS, Cluster, ClusterState
from queueapi.clusters.people import group_ids, user_ids
from queueapi.clusters.secrets import Vault
from queueapi.db import inbox
from queueapi.errors import Conflict, FieldError, Invalid, NotFound
from queueapi.executors.accounts import LOGIN
from queueapi.executors.base import Executor
from queueapi.executors.data import OPTIONS, DataRules
from queueapi.fields import Page
from queueapi.groups.models import Group, Membership
from queueapi.paging import decode_cursor, encode_cursor

# Of the machine that the server is on: the settings have the rest.
_FIXED = {"host", "port", "login", "key_path", "private_key", "passphrase", "host_keys"}
_FIXED |= {"root_path", "options", "is_community_account", "user_accounts"}
_WHERE = {"host", "port", "login", "options"}  # say which cluster it is, and as whom
_IS_A_HOST = text("SELECT 1 FROM hosts WHERE cluster = :name AND gone_at IS NULL")
_ON_IT = text("""
SELECT count(*) FILTER (WHERE a.cluster = :name) AS running FROM attempts a WHERE a.ended_at IS NULL
""")


class Places(Protocol):
    """What the API may ask of the clusters' executors."""

    @property
    def kinds(self) -> Sequence[str]:
        """The kinds of clusters that this server knows."""
        ...

    @property
    def host(self) -> str | None:
        """The id of the machine that this server is on."""
        ...

    def problem(self, name: str) -> str | None:
        """Why this server can't use the cluster now."""
        ...

    def get(self, name: str) -> Executor | None: ...


async def register(
    session: AsyncSession,
    vault: Vault,
    places: Places,
    principal: Principal,
    wanted: schemas.NewCluster,
) -> schemas.ClusterDocument:
    """A new cluster. It is used as soon as its executor has connected, on each server."""
    if wanted.kind not in places.kinds:
        raise Invalid(
            f"There are no clusters of the kind {wanted.kind!r} here. Kinds: "
            f"{', '.join(places.kinds)}.",
            errors=[FieldError("/kind", "name a kind that there is")],
        )
    # What is a machine itself is this one.
    owner = places.host if wanted.kind == OWN_KIND else None
    row = await session.scalar(
        insert(Cluster)
        .values(name=wanted.name, kind=wanted.kind, host_id=owner)
        .on_conflict_do_nothing()
        .returning(Cluster)
    )
    if row is None:
        raise Conflict(
            f"There is a cluster named {wanted.name!r} already. Choose another name, or change "
            "that one."
        )
    return await _change(session, vault, places, principal, row, wanted)


async def change(
    session: AsyncSession,
    vault: Vault,
    places: Places,
    principal: Principal,
    name: str,
    wanted: schemas.ClusterChange,
) -> schemas.ClusterDocument:
    """What is absent stays. Counts at once; what runs there goes on."""
    statement = select(Cluster).where(Cluster.name == name).with_for_update(key_share=True)
    row = await session.scalar(statement)
    if row is None:
        raise not_found(name)
    return await _change(session, vault, places, principal, row, wanted)


async def _change(
    session: AsyncSession,
    vault: Vault,
    places: Places,
    principal: Principal,
    row: Cluster,
    wanted: schemas.ClusterFields,
) -> schemas.ClusterDocument:
    given = wanted.model_fields_set
    fixed = sorted(given & _FIXED)
    if wanted.options is not None and not set(wanted.options) - set(OPTIONS):
        fixed = [name for name in fixed if name != "options"]
    if row.name == BUILT_IN and fixed:
        raise Invalid(
            f"{BUILT_IN} is the machine that the server is on; its settings say the rest.",
            errors=[FieldError(f"/{name}", "not of this cluster") for name in fixed],
        )
    try:
        DataRules.read(wanted.options or {})
    except ValueError as error:
        raise Invalid(
            f"The options can't be used: {error}.", errors=[FieldError("/options", str(error))]
        ) from None
    values = _columns(wanted, vault) | await _people(session, wanted)
    values |= {"changed_at": utc_now(), "changed_by": principal.user_id}
    if given & _WHERE:
        values["offer"] = None  # it may be another cluster by now
    if values.get("user_accounts", row.user_accounts) != row.user_accounts:
        await _check_idle(session, row.name)
    for column, value in values.items():
        setattr(row, column, value)
    _check_reason(row, wanted)
    _check_accounts(row)
    await session.flush()
    await inbox.post_cluster_change(session)
    [document] = await _documents(session, places, principal, [row])
    return document


def _columns(wanted: schemas.ClusterFields, vault: Vault) -> dict[str, Any]:
    """What was given, as the table has it; null is what a column has at first."""
    given = wanted.model_fields_set
    plain = given - {"name", "kind", "private_key", "passphrase", "allow", "deny"}
    found = {name: getattr(wanted, name) for name in plain}
    first = {"state": ClusterState.UP, "port": 22, "is_community_account": False}
    first |= {"user_accounts": False}
    first |= {"host_keys": [], "partitions": [], "options": {}, "defaults": {}, "caps": {}}
    values: dict[str, Any] = {}
    for name, value in found.items():
        if isinstance(value, schemas.SiteDefaults | schemas.NewCaps):
            value = value.model_dump(exclude_none=True)
        values[name] = first.get(name) if value is None else value
    if "private_key" in given:
        if wanted.private_key is not None and wanted.key_path is not None:
            raise Invalid(
                "The key is given twice: as its text, and as a file's path.",
                errors=[
                    FieldError(f"/{n}", "give one of them") for n in ("private_key", "key_path")
                ],
            )
        values["sealed_key"] = _sealed(vault, wanted.private_key)
        values.setdefault("key_path", None)
    elif values.get("key_path") is not None:
        values["sealed_key"] = None
    if "passphrase" in given:
        values["sealed_passphrase"] = _sealed(vault, wanted.passphrase)
    return values


def _sealed(vault: Vault, secret: Any) -> str | None:
    return None if secret is None else vault.seal(secret.get_secret_value())


async def _people(session: AsyncSession, wanted: schemas.ClusterFields) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in ("allow", "deny"):
        if field not in wanted.model_fields_set:
            continue
        people: schemas.People = getattr(wanted, field) or schemas.People()
        values[f"{field}_emails"] = sorted(set(people.emails))
        values[f"{field}_users"] = await user_ids(session, f"/{field}/users", people.users)
        values[f"{field}_groups"] = await group_ids(session, f"/{field}/groups", people.groups)
    return values


def _check_reason(row: Cluster, wanted: schemas.ClusterFields) -> None:
    if row.state == ClusterState.UP:
        if wanted.reason is not None:
            raise Invalid(
                f"{row.name} is up. A reason says why a cluster is not: set its state to drain or "
                "down, or leave the reason out.",
                errors=[FieldError("/reason", "only with the states drain and down")],
            )
        row.reason = None
    elif row.reason is None:
        raise Invalid(
            f"Say why {row.name} is to {row.state}: people whose jobs wait will ask.",
            errors=[FieldError("/reason", f"needed with the state {row.state}")],
        )


async def _check_idle(session: AsyncSession, name: str) -> None:
    if running := await session.scalar(_ON_IT, {"name": name}):
        raise Conflict(
            f"{running} jobs run on the cluster {name}, under the accounts that they were given. "
            "Set its state to drain, and change user_accounts when they have ended."
        )


def _check_accounts(row: Cluster) -> None:
    """Raises Invalid for a cluster whose users' accounts could not be used."""
    has_login = LOGIN in (row.root_path or "").split("/")
    if not row.user_accounts:
        if has_login:
            raise Invalid(
                f"{LOGIN} in root_path is the account of a user, and user_accounts is not set.",
                errors=[FieldError("/root_path", f"leave {LOGIN} out, or set user_accounts")],
            )
        return
    needs = {
        "/kind": row.kind not in PLAIN_KINDS,
        "/host": row.host is not None,
        "/root_path": has_login,
        "/is_community_account": not row.is_community_account,
    }
    remedies = {
        "/kind": "name a kind that is reached by SSH, such as slurm",
        "/host": "name its login node",
        "/root_path": f"have {LOGIN} as one of its folders, as in /scratch/{LOGIN}/queueapi",
        "/is_community_account": "one account for all, or one for each user: not both",
    }
    if not all(needs.values()):
        raise Invalid(
            f"Users can't have accounts of their own on {row.name} as it is described.",
            errors=[FieldError(at, remedies[at]) for at, is_met in needs.items() if not is_met],
        )


async def list_clusters(
    session: AsyncSession, places: Places, principal: Principal, query: Page
) -> schemas.ClusterPage:
    """Those that the person may use; to administrators all. By name."""
    after = decode_cursor(query.cursor, str)[0] if query.cursor else ""
    rows = await session.scalars(select(Cluster).where(Cluster.name > after).order_by(Cluster.name))
    mine = await _own(session, principal)
    found = [row for row in rows if _may_see(principal, mine, row)]
    page = found[: query.limit]
    return schemas.ClusterPage(
        items=await _documents(session, places, principal, page),
        next=encode_cursor(page[-1].name) if len(found) > len(page) else None,
    )


async def get_cluster(
    session: AsyncSession, places: Places, principal: Principal, name: str
) -> schemas.ClusterDocument:
    row = await session.get(Cluster, name)
    if row is None or not _may_see(principal, await _own(session, principal), row):
        raise not_found(name)
    [document] = await _documents(session, places, principal, [row])
    return document


async def _own(session: AsyncSession, principal: Principal) -> list[Who]:
    """Whose jobs this person may submit: one for each group."""
    groups = await session.scalars(
        select(Membership.group_id).where(
            Membership.user_id == principal.user_id, Membership.approved_at.is_not(None)
        )
    )
    return [Who(principal.email, principal.user_id, group_id) for group_id in groups]


def _may_see(principal: Principal, mine: Sequence[Who], row: Cluster) -> bool:
    rules = rules_of(row)
    return principal.is_admin or any(admits(rules, who) for who in mine)


async def remove(session: AsyncSession, name: str, *, force: bool) -> None:
    """Forget the cluster. With `force` also while jobs run there, which then have failed."""
    if name == BUILT_IN:
        raise Conflict(
            f"{BUILT_IN} is the machine that the server is on, and can't be removed. Set its "
            "state to down, and it takes no jobs."
        )
    row = await session.scalar(select(Cluster).where(Cluster.name == name).with_for_update())
    if row is None:
        raise not_found(name)
    if await session.scalar(_IS_A_HOST, {"name": name}):
        raise Conflict(
            f"{name} is a machine that servers run on. Declare it gone first "
            "(PATCH /api/hosts), or set the cluster's state to down, and it takes no jobs."
        )
    running = await session.scalar(_ON_IT, {"name": name})
    if running and not force:
        raise Conflict(
            f"{running} jobs run on the cluster {name}. Set its state to drain and remove it when "
            "they have ended, or use force: they then count as failed."
        )
    await session.delete(row)
    await session.flush()
    await inbox.post_cluster_change(session)


def not_found(name: str) -> NotFound:
    return NotFound(f"There is no cluster named {name!r}. GET /api/clusters lists yours.")


async def _documents(
    session: AsyncSession, places: Places, principal: Principal, rows: Sequence[Cluster]
) -> list[schemas.ClusterDocument]:
    names = await _names(session, rows) if principal.is_admin else None
    return [
        schemas.ClusterDocument(
            name=row.name,
            kind=row.kind,
            state=ClusterState(row.state),
            reason=row.reason,
            problem=places.problem(row.name),
            partitions=row.partitions,
            defaults=row.defaults,
            caps=_caps(caps_of(row.kind, row.caps)),
            is_community_account=row.is_community_account,
            user_accounts=row.user_accounts,
            connection=_connection(row) if names is not None else None,
            allow=names and names.people(row.allow_emails, row.allow_users, row.allow_groups),
            deny=names and names.people(row.deny_emails, row.deny_users, row.deny_groups),
            created_at=row.created_at,
            changed_at=row.changed_at,
        )
        for row in rows
    ]


def _caps(caps: Caps) -> schemas.CapsDocument:
    return schemas.CapsDocument(**asdict(caps))


def _connection(row: Cluster) -> schemas.Connection:
    return schemas.Connection(
        host=row.host,
        port=row.port,
        login=row.login,
        key="stored, encrypted" if row.sealed_key else row.key_path or "own",
        has_passphrase=row.sealed_passphrase is not None,
        host_keys=row.host_keys,
        root_path=row.root_path,
        options=row.options,
    )


class _Names:
    """Of the accounts and groups that rules name."""

    def __init__(self, emails: Mapping[int, str], groups: Mapping[int, str]) -> None:
        self._emails = emails
        self._groups = groups

    def people(
        self, emails: Sequence[str], users: Sequence[int], groups: Sequence[int]
    ) -> schemas.People:
        """Without those that are gone."""
        return schemas.People.model_construct(
            emails=list(emails),
            users=sorted(self._emails[i] for i in users if i in self._emails),
            groups=sorted(self._groups[i] for i in groups if i in self._groups),
        )


async def _names(session: AsyncSession, rows: Sequence[Cluster]) -> _Names:
    users = {i for row in rows for i in (*row.allow_users, *row.deny_users)}
    groups = {i for row in rows for i in (*row.allow_groups, *row.deny_groups)}
    emails = await session.execute(select(User.id, User.email).where(User.id.in_(users)))
    named = await session.execute(select(Group.id, Group.name).where(Group.id.in_(groups)))
    return _Names(dict(emails.all()), dict(named.all()))
