"""The documents of a job's files."""

from datetime import datetime

from pydantic import BaseModel, Field

from queueapi.executors.files import FileKind


class JobFile(BaseModel):
    name: str = Field(description="With U+FFFD for what is no UTF-8")
    path: str = Field(description="In the job's folder; for GET /api/jobs/{job_id}/files/{path}")
    kind: FileKind = Field(description="other: a link, a pipe and the like, which are not given")
    size: int = Field(description="Bytes")
    modified_at: datetime


class FilePage(BaseModel):
    path: str = Field(description="The folder; empty: the job's own")
    items: list[JobFile] = Field(description="By name, as bytes are ordered")
    next: str | None = Field(description="The cursor of the next page; null on the last")
