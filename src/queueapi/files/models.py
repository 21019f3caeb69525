"""Folders, and their contents: one for all folders with the same files."""

from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from queueapi.db.base import Base, CreatedAt, PrimaryKey, Timestamp


class Content(Base):
    """What is in a folder. Kept while a folder has it; a folder can't be made without it."""

    __tablename__ = "contents"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)  # see files.manifest
    size: Mapped[int] = mapped_column(BigInteger)  # bytes of all its files
    files: Mapped[int]  # how many
    entries: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)  # files, folders and links
    chunks: Mapped[int]
    created_at: Mapped[CreatedAt]


class ContentChunk(Base):
    """A part of the content's archive: a tar, compressed by gzip."""

    __tablename__ = "content_chunks"

    digest: Mapped[str] = mapped_column(
        String(64), ForeignKey("contents.digest", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # from 0
    data: Mapped[bytes] = mapped_column(LargeBinary)


class Folder(Base):
    """Somebody's name for a content. Jobs refer to it by its id, which is never used again."""

    __tablename__ = "folders"
    __table_args__ = (
        Index(
            "uq_folders_user_id_digest_group_id",
            "user_id",
            "digest",
            "group_id",
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
        Index("ix_folders_group_id", "group_id"),
        Index("ix_folders_digest", "digest"),
    )

    id: Mapped[PrimaryKey]
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"))
    # Whose members may use it too; NULL: nobody else.
    group_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("groups.id", ondelete="CASCADE")
    )
    name: Mapped[str] = mapped_column(String(200))
    digest: Mapped[str] = mapped_column(String(64), ForeignKey("contents.digest"))
    created_at: Mapped[CreatedAt]
    uploaded_at: Mapped[Timestamp]  # when it was sent last
