"""A user's own account on a cluster: stored, shown, tried, taken away."""

from typing import Any

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.models import User
from queueapi.auth.principal import Principal
from queueapi.clock import utc_now
from queueapi.clusters.account_schemas import AccountDocument, AccountKey
from queueapi.clusters.cluster_schemas import ClusterTest
from queueapi.clusters.models import Cluster, ClusterAccount
from queueapi.clusters.people import user_ids
from queueapi.clusters.secrets import Vault
from queueapi.clusters.ssh_keys import BadKey, SshKey, make_key, read_key
from queueapi.clusters.stored_accounts import account_of
from queueapi.db import inbox
from queueapi.errors import Conflict, FieldError, Invalid, NotFound
from queueapi.executors.accounts import Account

_COMMENT = "queueapi"  # behind the public key, for who looks into authorized_keys
# By their bare names: jobs stand beside clusters.
_RUNNING = text("""
SELECT count(*) FROM attempts a JOIN jobs j ON j.id = a.job_id
WHERE a.ended_at IS NULL AND a.cluster = :cluster AND j.user_id = :user
""")


async def whose(session: AsyncSession, principal: Principal, email: str | None) -> int:
    """The user that is meant. Raises a Problem where that is another, and not for them."""
    if email is None or email.lower() == principal.email.lower():
        return principal.user_id
    principal.require_admin()
    [found] = await user_ids(session, "/user", [email.lower()])
    return found


async def get_account(
    session: AsyncSession, principal: Principal, cluster: str, email: str | None
) -> AccountDocument:
    user_id = await whose(session, principal, email)
    return await _document(session, await _find(session, cluster, user_id))


async def get_keys(
    session: AsyncSession, vault: Vault, principal: Principal, cluster: str, email: str | None
) -> Account:
    """What a trial of it needs."""
    user_id = await whose(session, principal, email)
    return account_of(await _find(session, cluster, user_id), vault)


async def store(
    session: AsyncSession,
    vault: Vault,
    principal: Principal,
    cluster: str,
    email: str | None,
    wanted: AccountKey,
) -> AccountDocument:
    """This key from now on, for jobs that run already too. It has to be tried anew."""
    user_id = await whose(session, principal, email)
    row = await session.get(Cluster, cluster)
    if row is None or not row.user_accounts:
        raise Conflict(
            f"On the cluster {cluster} jobs do not run under accounts of their users: it needs no "
            "key of yours."
        )
    _check_login(row, wanted.login)
    key = _key(wanted)
    before = await _lock(session, cluster, user_id)
    if before is not None and before.login != wanted.login:
        await _check_idle(session, cluster, user_id, "Another account is theirs when they ended.")
    values: dict[str, Any] = {
        "login": wanted.login,
        "sealed_key": vault.seal(key.private),
        "sealed_passphrase": (
            vault.seal(wanted.passphrase.get_secret_value()) if wanted.passphrase else None
        ),
        "public_key": f"{key.public} {_COMMENT}",
        "fingerprint": key.fingerprint,
        "tested_at": None,
        "problem": None,
        "changed_at": utc_now(),
        "changed_by": principal.user_id,
    }
    await session.execute(
        insert(ClusterAccount)
        .values(cluster=cluster, user_id=user_id, **values)
        .on_conflict_do_update(index_elements=["cluster", "user_id"], set_=values)
    )
    await inbox.post_cluster_change(session)
    return await _document(session, await _find(session, cluster, user_id))


def _check_login(row: Cluster, login: str) -> None:
    why = None
    if login == "root":
        why = "jobs do not run as root"
    elif login == row.login:
        why = "it is the server's own there, and everybody's jobs would be in its reach"
    if why is not None:
        raise Invalid(
            f"{login} can't be a user's account: {why}.", errors=[FieldError("/login", why)]
        )


def _key(wanted: AccountKey) -> SshKey:
    passphrase = wanted.passphrase.get_secret_value() if wanted.passphrase else None
    if wanted.private_key is None:
        if passphrase is not None:
            why = "a key that the server makes has none"
            raise Invalid("The passphrase is of no key.", errors=[FieldError("/passphrase", why)])
        return make_key()
    try:
        return read_key(wanted.private_key.get_secret_value(), passphrase)
    except BadKey as error:
        raise Invalid(
            f"The key can't be used: {error}.", errors=[FieldError("/private_key", str(error))]
        ) from None


async def remove(
    session: AsyncSession, principal: Principal, cluster: str, email: str | None, *, force: bool
) -> None:
    """Forget the key. With `force` also while jobs run there: they go on out of our hands."""
    user_id = await whose(session, principal, email)
    row = await _find(session, cluster, user_id)
    await _lock(session, cluster, user_id)
    if not force:
        await _check_idle(
            session,
            cluster,
            user_id,
            "Cancel them or wait for their end, or use force: they then go on, and can neither be "
            "cancelled from here nor their files be read. To change the key, store another one.",
        )
    await session.delete(row)
    await session.flush()
    await inbox.post_cluster_change(session)


async def note_test(
    session: AsyncSession, cluster: str, account: Account, found: ClusterTest
) -> None:
    """Keep what came of a trial, if it still is this key."""
    row = await _lock(session, cluster, account.user_id)
    if row is None or (row.fingerprint, row.login) != (account.fingerprint, account.login):
        return
    wrong = next((check for check in found.checks if not check.ok), None)
    row.tested_at = utc_now() if wrong is None else None
    row.problem = f"{wrong.name}: {wrong.found}" if wrong is not None else None
    await session.flush()
    await inbox.post_cluster_change(session)


async def _check_idle(session: AsyncSession, cluster: str, user_id: int, remedy: str) -> None:
    running = await session.scalar(_RUNNING, {"cluster": cluster, "user": user_id})
    if running:
        raise Conflict(f"{running} jobs run on {cluster} under this account. {remedy}")


async def _find(session: AsyncSession, cluster: str, user_id: int) -> ClusterAccount:
    found = await session.get(ClusterAccount, (cluster, user_id), populate_existing=True)
    if found is None:
        raise NotFound(
            f"There is no key for an account on {cluster}. PUT /api/clusters/{cluster}/account "
            "stores one."
        )
    return found


async def _lock(session: AsyncSession, cluster: str, user_id: int) -> ClusterAccount | None:
    """It, with no attempt about to be given to it until the transaction ends."""
    ids = (cluster, user_id)
    return await session.get(ClusterAccount, ids, with_for_update=True, populate_existing=True)


async def _document(session: AsyncSession, row: ClusterAccount) -> AccountDocument:
    ids = (row.user_id, row.changed_by)
    people = await session.execute(select(User.id, User.email).where(User.id.in_(ids)))
    emails = dict(people.all())
    return AccountDocument(
        cluster=row.cluster,
        user=emails[row.user_id],
        login=row.login,
        public_key=row.public_key,
        fingerprint=row.fingerprint,
        has_passphrase=row.sealed_passphrase is not None,
        tested_at=row.tested_at,
        problem=row.problem,
        changed_at=row.changed_at,
        changed_by=emails.get(row.changed_by) if row.changed_by is not None else None,
    )
