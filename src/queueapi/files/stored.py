"""The contents of folders, as executors read them."""

from collections.abc import AsyncIterator

from sqlalchemy import select

from queueapi.db.session import Database, is_away
from queueapi.executors.base import ExecutorUnavailable, LaunchRefused
from queueapi.files.models import Content, ContentChunk


class StoredContents:
    """See :class:`queueapi.executors.base.Contents`.

    Each part is read in a transaction of its own: a slow cluster must not hold one open.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def archive(self, digest: str) -> AsyncIterator[bytes]:
        number, count = 0, 1
        while number < count:
            data, count = await self._chunk(digest, number)
            yield data
            number += 1

    async def _chunk(self, digest: str, number: int) -> tuple[bytes, int]:
        statement = (
            select(ContentChunk.data, Content.chunks)
            .join(Content, Content.digest == ContentChunk.digest)
            .where(ContentChunk.digest == digest, ContentChunk.number == number)
        )
        try:
            async with self._database.reading() as session:
                row = (await session.execute(statement)).one_or_none()
        except Exception as error:
            if is_away(error):
                raise ExecutorUnavailable("the database can't be reached") from error
            raise
        if row is None:
            raise LaunchRefused("the folder that it names is not kept any longer; upload it again")
        return row.data, row.chunks
