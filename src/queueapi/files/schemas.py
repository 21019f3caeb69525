"""The documents that the folder routes take and give."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from queueapi.fields import PRINTABLE, GroupName, Page
from queueapi.fields import Body as Query

FolderName = Annotated[str, Field(max_length=200, pattern=PRINTABLE)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Upload(Query):
    """The query of an upload."""

    name: FolderName = Field("", description="A name of your choice, for lists")
    group: GroupName | None = Field(
        None, description="Its members may see and use the folder too; if absent, you alone may"
    )


class FolderQuery(Page):
    digest: Digest | None = Field(None, description="Only folders with this content")


class FolderFile(BaseModel):
    """A file, a folder or a link in the folder."""

    path: str
    kind: Literal["file", "folder", "link"]
    size: int | None = Field(None, description="Bytes of a file")
    sha256: str | None = Field(None, description="Of a file's bytes")
    executable: bool | None = Field(None, description="Of a file")
    target: str | None = Field(None, description="Where a link leads")


class FolderDocument(BaseModel):
    """An uploaded folder. It never changes: other files are another folder."""

    id: int
    ref: str = Field(description='What a job names it by: "folder:17"')
    name: str
    user: str = Field(description="The owner's e-mail address")
    group: str | None = Field(description="Whose members may use it too")
    digest: str = Field(description="SHA-256 of what is in it; equal for equal files")
    size: int = Field(description="Bytes of all its files")
    files: int = Field(description="How many")
    created_at: datetime
    uploaded_at: datetime = Field(description="When it was sent last")
    used_at: datetime | None = Field(description="When a job that names it was submitted last")
    active_jobs: int = Field(description="Jobs that name it and have not ended")


class FolderDetail(FolderDocument):
    entries: list[FolderFile] = Field(description="What is in it, in the order of the paths")


class FolderPage(BaseModel):
    items: list[FolderDocument]
    next: str | None = Field(description="The cursor of the next page; null on the last")
