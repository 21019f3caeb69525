"""Folders: kept, listed, read and deleted."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from pydantic_core import to_json
from sqlalchemy import ColumnElement, Row, or_, select, text, true
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.models import User
from queueapi.auth.principal import Principal
from queueapi.config import Settings
from queueapi.db.session import Database
from queueapi.errors import Conflict, FieldError, Forbidden, LimitExceeded, NotFound
from queueapi.files.models import Content, Folder
from queueapi.files.receiving import MIB, Received, Uploads
from queueapi.files.schemas import (
    FolderDetail,
    FolderDocument,
    FolderPage,
    FolderQuery,
    Upload,
)
from queueapi.groups.models import Group, Membership
from queueapi.paging import decode_cursor, encode_cursor

# By its bare name: jobs stand on folders. A task of an array is counted with its array.
_USES = text("""
SELECT f.id,
       greatest((SELECT created_at FROM jobs WHERE executable = f.id AND array_id IS NULL
                 ORDER BY id DESC LIMIT 1),
                (SELECT created_at FROM jobs WHERE data_folder = f.id AND array_id IS NULL
                 ORDER BY id DESC LIMIT 1)) AS used_at,
       (SELECT count(*) FROM jobs
        WHERE (executable = f.id OR data_folder = f.id) AND array_id IS NULL
        AND state IN ('queued', 'starting', 'running', 'suspended')) AS active
FROM unnest(CAST(:ids AS bigint[])) AS f(id)
""")
# Whoever else sends the same at this moment waits for the one who was first.
_CLAIM = text("""
INSERT INTO contents (digest, size, files, entries, chunks)
VALUES (:digest, :size, :files, CAST(:entries AS jsonb), :chunks)
ON CONFLICT (digest) DO UPDATE SET digest = excluded.digest
RETURNING xmax = 0 AS new
""")
_KEEP_CHUNK = text("INSERT INTO content_chunks (digest, number, data) VALUES (:digest, :n, :data)")
_KEEP = text("""
INSERT INTO folders (user_id, group_id, name, digest, uploaded_at)
VALUES (:user, :group, :name, :digest, now())
ON CONFLICT (user_id, digest, group_id) DO UPDATE SET uploaded_at = now(),
    name = CASE WHEN excluded.name = '' THEN folders.name ELSE excluded.name END
RETURNING id, xmax = 0 AS new
""")
_LOCK_OWNER = text("SELECT FROM users WHERE id = :user FOR NO KEY UPDATE")
_HELD = text("""
SELECT coalesce(sum(c.size), 0)::float8 FROM folders f JOIN contents c USING (digest)
WHERE f.user_id = :user AND (f.digest, f.group_id)
    IS DISTINCT FROM (CAST(:digest AS text), CAST(:group AS bigint))
""")
_LOCK_CONTENT = text("SELECT FROM contents WHERE digest = :digest FOR UPDATE")
_FORGET = text("""
DELETE FROM contents WHERE digest = :digest
    AND NOT EXISTS (SELECT FROM folders f WHERE f.digest = contents.digest)
""")


def not_found(folder_id: int) -> NotFound:
    return NotFound(f"There is no folder {folder_id} that you may see.")


async def upload(
    database: Database,
    settings: Settings,
    uploads: Uploads,
    principal: Principal,
    wanted: Upload,
    body: AsyncIterator[bytes],
) -> tuple[FolderDocument, bool]:
    """The folder, and whether it is new: the same content again is the same folder."""
    async with database.transaction() as session:
        group_id = await _group_id(session, principal, wanted.group)
    async with uploads.place(principal.user_id) as place:
        received = await uploads.receive(body, place)
        async with database.transaction() as session:
            await _check_room(session, settings, principal, group_id, received)
            await _store(session, received)
            row = (
                await session.execute(
                    _KEEP,
                    {
                        "user": principal.user_id,
                        "group": group_id,
                        "name": wanted.name,
                        "digest": received.digest,
                    },
                )
            ).one()
            [found] = await _documents(session, Folder.id == row.id)
            return found, row.new


async def _group_id(session: AsyncSession, principal: Principal, name: str | None) -> int | None:
    if name is None:
        return None
    found: int | None = await session.scalar(
        select(Group.id).where(Group.name == name, Group.id.in_(_groups_of(principal)))
    )
    if found is None:
        raise NotFound(
            f"You are in no group named {name!r}.",
            errors=[FieldError("group", "name a group that you are a member of")],
        )
    return found


def _groups_of(principal: Principal) -> Any:
    return select(Membership.group_id).where(
        Membership.user_id == principal.user_id, Membership.approved_at.is_not(None)
    )


async def _check_room(
    session: AsyncSession,
    settings: Settings,
    principal: Principal,
    group_id: int | None,
    received: Received,
) -> None:
    """With the owner locked, so that nobody passes between. The same again needs no more room."""
    await session.execute(_LOCK_OWNER, {"user": principal.user_id})
    held = await session.scalar(
        _HELD, {"user": principal.user_id, "digest": received.digest, "group": group_id}
    )
    limit = settings.max_folders_mb_per_user
    if held + received.size > limit * MIB:
        raise LimitExceeded(
            f"Your folders have {held / MIB:.1f} MiB; with {received.size / MIB:.1f} more they "
            f"would pass the limit of {limit}. Delete some (DELETE /api/folders/ID), or have the "
            "operator raise QUEUEAPI_MAX_FOLDERS_MB_PER_USER.",
            limit_name="max_folders_mb_per_user",
            limit=limit,
            used=round(held / MIB, 3),
            requested=round(received.size / MIB, 3),
        )


async def _store(session: AsyncSession, received: Received) -> None:
    claim = {
        "digest": received.digest,
        "size": received.size,
        "files": received.files,
        "entries": to_json([entry.document() for entry in received.entries]).decode(),
        "chunks": received.chunk_count,
    }
    if not await session.scalar(_CLAIM, claim):
        return
    number = 0
    async for data in received.chunks():
        await session.execute(_KEEP_CHUNK, {"digest": received.digest, "n": number, "data": data})
        number += 1


def visible(principal: Principal) -> ColumnElement[bool]:
    """Their own, and those of their groups; to administrators all."""
    if principal.is_admin:
        return true()
    return or_(Folder.user_id == principal.user_id, Folder.group_id.in_(_groups_of(principal)))


async def list_folders(
    session: AsyncSession, principal: Principal, query: FolderQuery
) -> FolderPage:
    """The newest first."""
    wanted = visible(principal)
    if query.digest is not None:
        wanted &= Folder.digest == query.digest
    if query.cursor is not None:
        [last] = decode_cursor(query.cursor, int)
        wanted &= Folder.id < last
    found = await _documents(session, wanted, query.limit + 1)
    more, found = len(found) > query.limit, found[: query.limit]
    return FolderPage(items=found, next=encode_cursor(found[-1].id) if more else None)


async def get_folder(session: AsyncSession, principal: Principal, folder_id: int) -> FolderDetail:
    """With what is in it."""
    found = await _documents(session, visible(principal) & (Folder.id == folder_id))
    if not found:
        raise not_found(folder_id)
    entries = await session.scalar(select(Content.entries).where(Content.digest == found[0].digest))
    return FolderDetail(**found[0].model_dump(), entries=entries)


async def _documents(
    session: AsyncSession, where: ColumnElement[bool], limit: int = 1
) -> list[FolderDocument]:
    rows = await session.execute(
        select(
            *Folder.__table__.columns,
            Content.size,
            Content.files,
            User.email,
            Group.name.label("group_name"),
        )
        .join(Content, Content.digest == Folder.digest)
        .join(User, User.id == Folder.user_id)
        .outerjoin(Group, Group.id == Folder.group_id)
        .where(where)
        .order_by(Folder.id.desc())
        .limit(limit)
    )
    found = rows.all()
    uses = await _uses(session, [row.id for row in found])
    return [_document(row, uses[row.id]) for row in found]


async def _uses(session: AsyncSession, ids: Sequence[int]) -> dict[int, Row[Any]]:
    return {row.id: row for row in await session.execute(_USES, {"ids": list(ids)})}


def _document(row: Any, use: Row[Any]) -> FolderDocument:
    return FolderDocument(
        id=row.id,
        ref=f"folder:{row.id}",
        name=row.name,
        user=row.email,
        group=row.group_name,
        digest=row.digest,
        size=row.size,
        files=row.files,
        created_at=row.created_at,
        uploaded_at=row.uploaded_at,
        used_at=use.used_at,
        active_jobs=use.active,
    )


async def delete_folder(session: AsyncSession, principal: Principal, folder_id: int) -> None:
    """Its owner's, a manager's of its group, or an administrator's to do. Not while jobs need it.

    A submit keeps the folders that it names from being locked here until its jobs are there.
    """
    statement = select(Folder).where(visible(principal), Folder.id == folder_id)
    digest = await session.scalar(statement.with_only_columns(Folder.digest))
    # First the content, as an upload of the same does: two that wait for each other get nowhere.
    await session.execute(_LOCK_CONTENT, {"digest": digest})
    folder = await session.scalar(statement.with_for_update(of=Folder))
    if folder is None:
        raise not_found(folder_id)
    own = folder.user_id == principal.user_id or folder.group_id in principal.managed_groups
    if not own and not principal.is_admin:
        raise Forbidden("Only its owner, a manager of its group or an administrator may delete it.")
    use = (await _uses(session, [folder_id]))[folder_id]
    if use.active:
        raise Conflict(
            f"{use.active} job(s) that name folder {folder_id} have not ended. Cancel them, or "
            "delete it later."
        )
    await session.delete(folder)
    await session.flush()
    await forget_content(session, folder.digest)


async def forget_content(session: AsyncSession, digest: str) -> bool:
    """Delete a content that no folder has. One that is just being uploaded again stays."""
    await session.execute(_LOCK_CONTENT, {"digest": digest})
    gone: Any = await session.execute(_FORGET, {"digest": digest})
    return bool(gone.rowcount)
