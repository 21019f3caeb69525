"""Whether a job may use the folder that it names."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.principal import Principal
from queueapi.errors import FieldError, NotFound
from queueapi.executors.data import FOLDER_FORM
from queueapi.files.models import Folder

FolderRef = Annotated[str, Field(pattern=f"^{FOLDER_FORM}$", examples=["folder:17"])]
_PREFIX = len("folder:")


@dataclass(frozen=True, slots=True)
class Owned:
    """A folder's owners."""

    user_id: int
    group_id: int | None


def folder_id(ref: str) -> int:
    """17, of "folder:17", which must have that form."""
    return int(ref[_PREFIX:])


async def load_owned(
    session: AsyncSession, ids: Collection[int], *, lock: bool = True
) -> Mapping[int, Owned]:
    """By id, those of these that there are. With `lock` they stay until the transaction ends."""
    if not ids:
        return {}
    statement = select(Folder.id, Folder.user_id, Folder.group_id).where(Folder.id.in_(ids))
    if lock:
        statement = statement.order_by(Folder.id).with_for_update(key_share=True, read=True)
    return {row.id: Owned(row.user_id, row.group_id) for row in await session.execute(statement)}


async def hold_folder(session: AsyncSession, folder_id: int) -> bool:
    """Keep a folder until the transaction ends; False where it is not there any more."""
    return bool(await load_owned(session, [folder_id]))


def check_folder(
    principal: Principal,
    groups: Collection[int],
    owned: Mapping[int, Owned],
    ref: str,
    pointer: str,
) -> None:
    """`groups`: ids of those that the person is in. Raises NotFound for a folder of others."""
    found = owned.get(folder_id(ref))
    if found is not None and (
        principal.is_admin or found.user_id == principal.user_id or found.group_id in groups
    ):
        return
    raise NotFound(
        f"There is no {ref} that you may use. GET /api/folders lists yours; POST /api/folders "
        "makes one.",
        errors=[FieldError(pointer, "name a folder of yours, or of a group that you are in")],
    )
